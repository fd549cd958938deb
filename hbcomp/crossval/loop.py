"""The cross-validation of an experiment: train the missing folds, assemble them, decide a rule."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

import hbcomp
from hbcomp.crossval.fold import (
    FoldTask,
    errors_as_input_error,
    in_groups,
    train_folds,
)
from hbcomp.crossval.resources import Resources, Slot, choose_resources, slots_for
from hbcomp.crossval.training_data import TrainingData, seen_by_nets
from hbcomp.experiment import stored_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.predictions import Fold, FoldResult, Predictions, assemble
from hbcomp.experiment.resume import (
    RunRecord,
    check_resumable,
    other_versions,
    read_run,
    write_run,
)
from hbcomp.scoring.choice import RuleResult, evaluate_rules, fixed_rule_scores
from hbcomp.scoring.transfer import choose_accepted_rule
from hbcomp.system.command import console
from hbcomp.system.environment import n_cores
from hbcomp.system.errors import InputError, within_memory
from hbcomp.system.progress import Emit, Relay, relayed, show_folds
from hbcomp.system.stopwatch import Stopwatch, duration
from hbcomp.system.workers import worker_pool
from hbcomp.training.device import Compute, choose_compute

MANY_SECONDS = 600  # assumed: nobody plans around less


@dataclass(frozen=True)
class FoldDone:
    """A fold that was trained and stored: its score on its held-out rows, under the fixed rule.

    So far the call has trained `n_trained` of the `n_pending` nets that were missing.
    """

    seed: int
    fold: int
    n_rows: int
    score: float
    n_trained: int
    n_pending: int


# Called with every fold once it is stored. What it raises stops the training; the folds are kept.
AfterFold = Callable[[FoldDone], None]


def go_on(done: FoldDone) -> None:
    """Train all folds: what happens after a fold where nothing else is wanted."""


@dataclass(frozen=True)
class Outcome:
    """A finished cross-validation: the folds, the probabilities, all rules and the chosen one."""

    training_data: TrainingData
    results: list[FoldResult]
    predictions: Predictions
    rules: list[RuleResult]
    chosen: RuleResult
    resources: Resources
    n_trained: int


@dataclass(frozen=True)
class Begun:
    """A run that is ready to train: the folds that are missing, with what hardware, and identities.

    A stored fold is bound to the identity of its seed, a hash of what it was trained with.
    """

    pending: list[tuple[int, Fold]]
    resources: Resources
    identity_of_seed: Mapping[int, str]

    def only(self, pending: list[tuple[int, Fold]]) -> "Begun":
        """Return the same with fewer folds to train."""
        return replace(self, pending=pending)


def cross_validate(
    config: Config,
    training_data: TrainingData,
    run: RunFolder,
    watch: Stopwatch,
    *,
    n_jobs: int | None = None,
    force: bool = False,
    after_fold: AfterFold = go_on,
) -> Outcome:
    """Train every fold of every seed that is not stored yet, and return the results of all folds.

    The caller holds the run's lock. After a stop at any moment the same call continues with the
    folds that are not stored, and on a CPU the outcome has the same bits.
    """
    keys = training_data.fold_keys
    begun = begin(config, training_data, run, keys, watch, n_jobs=n_jobs, force=force)
    train_begun(config, training_data, run, begun, watch, after_fold)
    with watch.phase("decide"):
        return _outcome(config, training_data, run, begun)


def begin(
    config: Config,
    training_data: TrainingData,
    run: RunFolder,
    keys: Sequence[tuple[int, int]],
    watch: Stopwatch,
    *,
    n_jobs: int | None,
    force: bool = False,
) -> Begun:
    """Write what the folds of these (seed, fold) will be trained with, and say which are missing.

    Stored folds of something else are an InputError, unless `force` deletes them. The caller holds
    the run's lock.
    """
    if run in map(find_run, config.pseudo.runs):
        raise InputError(f"pseudo.runs: {run.name} cannot learn from itself; use --name NEW")
    record = RunRecord(
        hbcomp=hbcomp.__version__,
        torch=torch.__version__,
        data=config.data.model_dump(mode="json", exclude_none=True),
        identity={**config.identity(), **training_data.fingerprints},
        described=training_data.described,
    )
    check_resumable(run, record, force=force)
    pending: list[tuple[int, Fold]] = [key for key in keys if not run.is_done(*key)]
    with watch.phase("probe"):
        resources = resources_for(config, training_data, run, pending, n_jobs)
    if pending and (others := other_versions(run, record)):
        console.print(f"{run.name} began with {'; '.join(others)}: the bits may differ")
    write_run(run, record.model_copy(update={"compute": resources.compute}))
    identity_of_seed = {seed: record.fold_identity(seed) for seed in training_data.folds_of_seed}
    for seed, fold in keys:
        if run.is_done(seed, fold):  # a damaged one is refused before another is trained
            stored_folds.load_fold(run, identity_of_seed[seed], seed, fold)
    announce(run, resources, f"{len(keys)} folds", len(keys) - len(pending), len(pending))
    announce_schedule(config, training_data, pending)
    if pending and config.features.is_of_fold:
        console.print("features of all folds are made first, which takes most of the time")
    return Begun(pending, resources, identity_of_seed)


def train_begun(
    config: Config,
    training_data: TrainingData,
    run: RunFolder,
    begun: Begun,
    watch: Stopwatch,
    after_fold: AfterFold = go_on,
) -> None:
    """Train and store the folds that are missing."""
    train_nets(
        config,
        training_data,
        run,
        training_data.fold_keys,
        begun.pending,
        begun.identity_of_seed,
        begun.resources,
        watch,
        after_fold,
    )


def _outcome(config: Config, training_data: TrainingData, run: RunFolder, begun: Begun) -> Outcome:
    results = [
        stored_folds.load_fold(run, begun.identity_of_seed[seed], seed, fold)
        for seed, fold in training_data.fold_keys
    ]
    predictions = assemble(
        training_data.train, training_data.test, training_data.folds_of_seed, results
    )
    metric = training_data.metric
    rules = evaluate_rules(
        metric, predictions.oof_probs, predictions.labels, predictions.fold_of_row
    )
    chosen = choose_accepted_rule(
        metric, rules, predictions.oof_probs, predictions.test_probs, config.decision.rule
    )
    return Outcome(
        training_data,
        results,
        predictions,
        rules,
        chosen,
        begun.resources,
        len(begun.pending),
    )


def resources_for(
    config: Config,
    training_data: TrainingData,
    run: RunFolder,
    pending: Sequence[tuple[int, Fold]],
    n_jobs: int | None,
) -> Resources:
    """Return on which device, with how many threads and processes the nets will be trained."""
    if config.compute.cluster:
        from hbcomp.crossval.cluster import compute_of_worker

        bound = config.net.is_compute_bound
        stored = read_run(run)
        compute, n_workers = compute_of_worker(
            config.compute, stored.compute if stored else None, is_compute_bound=bound
        )
        return Resources(compute, n_workers)
    if training_data.is_streamed and config.compute.engine == "auto":
        eager = config.compute.model_copy(update={"engine": "eager"})  # a graph cannot stream
        config = config.model_copy(update={"compute": eager})
    compute = choose_compute(config.compute, is_compute_bound=config.net.is_compute_bound)
    with within_memory(
        "the net cannot take a first step; try a smaller train.batch_size (now "
        f"{config.train.batch_size}) or a smaller net (net.*)",
        device=compute.device,
    ):
        data = training_data.on_device(compute.device)
        replicas = [training_data.replica(seed, fold, data.device) for seed, fold in pending]
        return choose_resources(config, run, data, replicas, training_data.n_folds, n_jobs)


def train_nets(
    config: Config,
    training_data: TrainingData,
    run: RunFolder,
    nets: Sequence[tuple[int, Fold]],
    pending: Sequence[tuple[int, Fold]],
    identity_of_seed: Mapping[int, str],
    resources: Resources,
    watch: Stopwatch,
    after_fold: AfterFold = go_on,
) -> None:
    """Train and store those of the nets, (seed, fold), that are pending.

    The fold `ALL` holds nothing out. Features are made for all nets, whatever is pending.
    """
    if not pending:
        return
    tasks = [
        task_of(config, training_data, seed, fold, identity_of_seed[seed], resources.compute)
        for seed, fold in pending
    ]
    run.discard_manifest()
    compute = resources.compute
    if config.compute.cluster:  # features are made here, where there may be no GPU
        compute = replace(compute, device="cpu")
    compute.enter()
    with errors_as_input_error(tasks), watch.phase("features"):
        n_threads = compute.n_threads * resources.n_jobs
        seen_by = seen_by_nets(config, training_data, nets, compute.device, n_threads)
    with show_folds(console, sum(task.n_epochs for task in tasks)) as emit:
        groups = in_groups(tasks)
        every_group = _trained(config, groups, seen_by, run, resources, emit, watch)
        n_trained = 0
        with closing(every_group):  # ends the workers, whatever `after_fold` raises
            for group in every_group:
                n_trained += len(group)
                _tell(after_fold, group, training_data, run, n_trained, len(tasks))


def _trained(
    config: Config,
    groups: list[list[FoldTask]],
    seen_by: Callable[[int, Fold], TrainingData],
    run: RunFolder,
    resources: Resources,
    emit: Emit,
    watch: Stopwatch,
) -> Generator[list[FoldTask], None, None]:
    """Yield each group of nets once it is trained and stored: on a cluster, in workers, or here."""
    if config.compute.cluster:
        from hbcomp.crossval.cluster import train_on_cluster  # Dask is an extra

        yield from train_on_cluster(config.compute.cluster, groups, seen_by, run, emit, watch)
        return
    if resources.n_jobs > 1:
        _warn_of_shared_cores(resources)
        yield from _train_in_workers(groups, seen_by, run, resources, emit, watch)
        return
    device = resources.compute.device
    on_device = lru_cache(maxsize=1)(lambda seen: seen.on_device(device))
    for group in groups:
        with errors_as_input_error(group), watch.phase("transfer"):
            data = on_device(seen_by(group[0].seed, group[0].fold))
        train_folds(group, data, run, emit, watch)
        yield group


def _tell(
    after_fold: AfterFold,
    group: Sequence[FoldTask],
    training_data: TrainingData,
    run: RunFolder,
    n_trained: int,
    n_pending: int,
) -> None:
    """Score the stored folds of a group, and call `after_fold` with each."""
    for task in group:
        if after_fold is go_on or not isinstance(task.fold, int):
            return  # nobody asks, or no row was held out
        probs = stored_folds.load_fold(run, task.identity, task.seed, task.fold).valid_probs
        labels = training_data.train.known_labels[task.valid_idx]
        score = fixed_rule_scores(training_data.metric, probs, labels).score
        after_fold(FoldDone(task.seed, task.fold, len(labels), score, n_trained, n_pending))


def task_of(
    config: Config,
    training_data: TrainingData,
    seed: int,
    fold: Fold,
    identity: str,
    compute: Compute,
) -> FoldTask:
    """Return the net of a fold as it will be trained; its stored fold is bound to `identity`."""
    rows = training_data.rows_of_net(seed, fold)
    valid_idx, n_scored = np.empty(0, dtype=np.int64), 0
    if isinstance(fold, int):
        valid_idx = training_data.folds_of_seed[seed].valid_idx(fold)
        n_scored = config.report.n_scored_epochs
    return FoldTask(
        seed=seed,
        fold=fold,
        train_idx=rows.train_idx,
        valid_idx=valid_idx,
        recipe=config.recipe,
        metric=training_data.metric_spec,
        compute=compute,
        n_scored=n_scored,
        train_labels=rows.train_labels,
        watched_idx=rows.watched_idx,
        identity=identity,
    )


def announce(
    run: RunFolder, resources: Resources, what: str, n_stored: int, n_pending: int
) -> None:
    """Print which nets will be trained and on what hardware."""
    compute = resources.compute
    stored = f", {n_stored} already stored" if n_stored else ""
    at_once = f", {resources.n_jobs} jobs at once" if resources.n_jobs > 1 else ""
    console.print(
        f"{run.name}: {what}{stored}; on {compute.device} in {compute.precision}, "
        f"{compute.threads} per net{at_once} ({compute.reason})"
    )
    if resources.seconds_of_net:
        seconds = -(-n_pending // resources.n_jobs) * resources.seconds_of_net
        if seconds > MANY_SECONDS:
            console.print(
                f"{n_pending} nets will take about {duration(seconds)} by the time of a step, "
                "scoring not included"
            )


def announce_schedule(
    config: Config, training_data: TrainingData, pending: Sequence[tuple[int, Fold]]
) -> None:
    """Print how few rows and early stopping change the schedule, as the first net has it.

    A net that is fitted has none.
    """
    if not pending or config.net.is_fitted:
        return
    rows = training_data.rows_of_net(*pending[0])
    if said := config.train.deviations(len(rows.train_idx)):
        console.print("; ".join(said))
    if rows.watched_idx is None:
        return
    early_stopping = config.train.early_stopping
    which = f"{len(rows.watched_idx):,} of its training rows, which it does not train on"
    if early_stopping.is_on_scored_fold:
        which = "the fold it is scored on"
    patience = early_stopping.patience
    console.print(
        f"early stopping: a net watches {which}, and stops after {patience} "
        f"epoch{'s' * (patience > 1)} without a lower log loss there"
    )
    if early_stopping.is_on_scored_fold:
        console.print("warning: epochs chosen on the scored rows make the score too good")


def _warn_of_shared_cores(resources: Resources) -> None:
    n_jobs, compute = resources.n_jobs, resources.compute
    if n_jobs * compute.n_threads > n_cores():
        console.print(
            f"warning: {n_jobs} jobs of {compute.threads} share {n_cores()} cores and "
            "will be slow; --set compute.n_threads=N gives each fewer"
        )


def _train_in_workers(
    groups: list[list[FoldTask]],
    seen_by: Callable[[int, Fold], TrainingData],
    run: RunFolder,
    resources: Resources,
    emit: Emit,
    watch: Stopwatch,
) -> Iterator[list[FoldTask]]:
    slots = slots_for(resources.compute, resources.n_jobs)
    with relayed(emit) as relay, worker_pool(slots, _train_in_worker) as workers:
        jobs = (_Job(group, seen_by(group[0].seed, group[0].fold), run, relay) for group in groups)
        for done in workers.done(jobs):
            if done.exit is not None:
                raise InputError(
                    f"a worker process was killed ({done.exit}), probably for lack of memory; "
                    f"finished folds are kept; try fewer --jobs (now {resources.n_jobs})"
                )
            watch.add(done.result)
            yield done.job.group


@dataclass(frozen=True)
class _Job:
    """A group of folds and what a worker process needs to train and store them."""

    group: list[FoldTask]
    training_data: TrainingData
    run: RunFolder
    relay: Relay


def _train_in_worker(job: _Job, slot: Slot) -> dict[str, float]:
    """Train and store the folds of a job, and return the seconds of each phase."""
    group = [replace(task, compute=slot.compute) for task in job.group]
    watch = Stopwatch()
    with errors_as_input_error(group), watch.phase("transfer"):
        data = job.training_data.on_device(slot.compute.device)
    train_folds(group, data, job.run, job.relay.emit, watch)
    return watch.seconds
