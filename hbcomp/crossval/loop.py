"""The cross-validation of an experiment: train the missing folds, assemble them, decide a rule."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import (
    BrokenProcessPool,
    PicklingError,
    TerminatedWorkerError,
)

import hbcomp
from hbcomp.crossval.fold import (
    FoldTask,
    errors_as_input_error,
    evenly_spaced,
    in_groups,
    on_next_gpu,
    train_folds,
)
from hbcomp.crossval.resources import Resources, choose_resources
from hbcomp.crossval.training_data import TrainingData
from hbcomp.experiment import folder
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold, FoldResult, Predictions, assemble
from hbcomp.scoring.choice import RuleResult, evaluate_rules
from hbcomp.scoring.transfer import choose_safe_rule
from hbcomp.system.command import USERS_TO_MEND, console, signals_blocked, tracker_warnings_off
from hbcomp.system.environment import n_cores
from hbcomp.system.errors import InputError, within_memory
from hbcomp.system.progress import Emit, Relay, relayed, show_folds
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute, choose_compute


@dataclass(frozen=True)
class Outcome:
    """A finished cross-validation: every fold, the probabilities, every rule and the chosen one."""

    training_data: TrainingData
    results: list[FoldResult]
    predictions: Predictions
    rules: list[RuleResult]
    chosen: RuleResult
    resources: Resources
    n_trained: int


def cross_validate(
    config: Config,
    training_data: TrainingData,
    run: RunFolder,
    watch: Stopwatch,
    *,
    n_jobs: int | None = None,
    force: bool = False,
) -> Outcome:
    """Train every fold of every seed that is not stored yet, and return the results of all folds.

    The caller holds the run's lock. Killed at any moment, the same call continues with the
    folds that are not stored, and on a CPU the outcome has the same bits.
    """
    if run in map(folder.find_run, config.pseudo.runs):
        raise InputError(f"pseudo.runs: {run.name} cannot learn from itself; use --name NEW")
    identity = {**config.identity(), **training_data.fingerprints}
    folder.admit(run, identity, force=force, described=training_data.described)
    pending = [key for key in training_data.fold_keys if not run.is_done(*key)]
    with watch.phase("probe"):
        resources = resources_for(config, training_data, run, pending, n_jobs)
    about = _about(config, resources.compute)
    if pending and (others := folder.other_versions(run, about)):
        console.print(f"{run.name} began with {'; '.join(others)}: the bits may differ")
    folder.begin(run, identity, {**about, "described": training_data.described})
    identity_of_seed = {
        seed: folder.fold_identity(identity, seed) for seed in training_data.folds_of_seed
    }
    for seed, fold in training_data.fold_keys:
        if run.is_done(seed, fold):  # a damaged one is refused before another is trained
            folder.load_fold(run, identity_of_seed[seed], seed, fold)
    announce(
        run,
        resources,
        f"{len(training_data.fold_keys)} folds",
        len(training_data.fold_keys) - len(pending),
    )
    if pending and config.features.is_of_fold:
        console.print("features are computed anew for every fold, which takes most of its time")
    train_nets(config, training_data, run, pending, identity_of_seed, resources, watch)
    with watch.phase("decide"):
        return _outcome(config, training_data, run, identity_of_seed, resources, len(pending))


def _outcome(
    config: Config,
    training_data: TrainingData,
    run: RunFolder,
    identity_of_seed: Mapping[int, str],
    resources: Resources,
    n_trained: int,
) -> Outcome:
    results = [
        folder.load_fold(run, identity_of_seed[seed], seed, fold)
        for seed, fold in training_data.fold_keys
    ]
    predictions = assemble(
        training_data.train, training_data.test, training_data.folds_of_seed, results
    )
    rules = evaluate_rules(predictions.oof_probs, predictions.labels, predictions.fold_of_row)
    chosen = choose_safe_rule(
        rules, predictions.oof_probs, predictions.test_probs, config.decision.rule
    )
    return Outcome(training_data, results, predictions, rules, chosen, resources, n_trained)


def _about(config: Config, compute: Compute) -> dict[str, Any]:
    return {
        "hbcomp": hbcomp.__version__,
        "torch": torch.__version__,
        "data": config.data.model_dump(mode="json", exclude_none=True),
        "compute": asdict(compute),
    }


def resources_for(
    config: Config,
    training_data: TrainingData,
    run: RunFolder,
    pending: Sequence[tuple[int, Fold]],
    n_jobs: int | None,
) -> Resources:
    """Return on which device, with how many threads and processes the nets will be trained."""
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
    pending: Sequence[tuple[int, Fold]],
    identity_of_seed: Mapping[int, str],
    resources: Resources,
    watch: Stopwatch,
) -> None:
    """Train and store the nets of these (seed, fold); the fold `ALL` holds nothing out."""
    if not pending:
        return
    tasks = [_task(config, training_data, *key, resources.compute) for key in pending]
    groups = in_groups(tasks)
    run.discard_manifest()
    with show_folds(console, len(tasks), config.train.n_epochs) as emit:
        if resources.n_jobs > 1:
            _warn_of_shared_cores(resources)
            _train_in_workers(
                groups, training_data, run, identity_of_seed, resources.n_jobs, emit, watch
            )
            return
        with errors_as_input_error(tasks), watch.phase("transfer"):
            data = training_data.on_device(resources.compute.device)
        for group in groups:
            train_folds(group, data, run, identity_of_seed, emit, watch)


def _task(
    config: Config, training_data: TrainingData, seed: int, fold: Fold, compute: Compute
) -> FoldTask:
    train_idx, train_labels = training_data.train_rows(seed, fold)
    valid_idx, scored_epochs = np.empty(0, dtype=np.int64), frozenset[int]()
    if isinstance(fold, int):
        valid_idx = training_data.folds_of_seed[seed].valid_idx(fold)
        scored_epochs = frozenset(
            evenly_spaced(config.train.n_epochs, config.report.n_scored_epochs)
        )
    return FoldTask(
        seed=seed,
        fold=fold,
        train_idx=train_idx,
        valid_idx=valid_idx,
        recipe=config.recipe,
        features=config.features,
        compute=compute,
        scored_epochs=scored_epochs,
        train_labels=train_labels,
    )


def announce(run: RunFolder, resources: Resources, what: str, n_stored: int) -> None:
    """Say what is about to be trained, and resources."""
    compute = resources.compute
    stored = f", {n_stored} already stored" if n_stored else ""
    at_once = f", {resources.n_jobs} jobs at once" if resources.n_jobs > 1 else ""
    console.print(
        f"{run.name}: {what}{stored}; on {compute.device} in {compute.precision}, "
        f"{compute.threads} per net{at_once} ({compute.reason})"
    )


def _warn_of_shared_cores(resources: Resources) -> None:
    n_jobs, compute = resources.n_jobs, resources.compute
    if n_jobs * compute.n_threads > n_cores():
        console.print(
            f"warning: {n_jobs} jobs of {compute.threads} share {n_cores()} cores and "
            "will be slow; --set compute.n_threads=N gives each fewer"
        )


def _train_in_workers(
    groups: list[list[FoldTask]],
    training_data: TrainingData,
    run: RunFolder,
    identity_of_seed: Mapping[int, str],
    n_jobs: int,
    emit: Emit,
    watch: Stopwatch,
) -> None:
    try:
        with relayed(emit) as relay:
            # Only the start: a generator is returned when the first ones run.
            with signals_blocked(), tracker_warnings_off():
                results = Parallel(n_jobs=n_jobs, backend="loky", return_as="generator")(
                    delayed(_train_folds_in_worker)(
                        on_next_gpu(group, position), training_data, run, identity_of_seed, relay
                    )
                    for position, group in enumerate(groups)
                )
            spent = list(results)
    except (BrokenProcessPool, PicklingError, OSError) as error:
        if problem := _problem_of_workers(error):
            raise InputError(f"{problem} (now {n_jobs})") from error
        raise
    finally:
        # joblib would keep the workers, and the GPU memory they hold, for five more minutes.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
    for seconds in spent:
        watch.add(seconds)


def _problem_of_workers(error: Exception) -> str | None:
    """Return what the user can mend where workers or what they were sent ended; None for a bug."""
    if isinstance(error, TerminatedWorkerError):
        return (
            "a worker process was killed, probably for lack of memory; finished folds are kept; "
            "try fewer --jobs"
        )
    # Of an error while work was sent or received loky keeps no more than its traceback as text.
    if isinstance(error, OSError):  # a worker's own has the name of its file
        said = "" if error.filename else str(error.strerror)
    else:
        said = str(error.__cause__)
    if "MemoryError" in said:
        return "out of memory while rows were sent to worker processes; try fewer --jobs"
    reasons = [os.strerror(each) for each in sorted(USERS_TO_MEND)]
    reason = next((each for each in reasons if each in said), None)
    if reason is None:
        return None
    folder = os.environ.get("JOBLIB_TEMP_FOLDER") or f"{gettempdir()} or /dev/shm"
    return (
        f"{folder}: {reason}; rows are sent to worker processes through this folder; finished "
        "folds are kept; name another with the variable JOBLIB_TEMP_FOLDER, or take --jobs 1"
    )


def _train_folds_in_worker(
    group: list[FoldTask],
    training_data: TrainingData,
    run: RunFolder,
    identity_of_seed: Mapping[int, str],
    relay: Relay,
) -> dict[str, float]:
    relay.check_owner()
    watch = Stopwatch()
    with errors_as_input_error(group), watch.phase("transfer"):
        data = training_data.on_device(group[0].compute.device)
    train_folds(group, data, run, identity_of_seed, relay.emit, watch)
    return watch.seconds
