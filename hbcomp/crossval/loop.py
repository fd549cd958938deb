"""The cross-validation of an experiment: train what is missing, assemble, decide, write."""

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
    explained,
    on_device,
    put_on_device,
    spread,
    together,
    train_folds,
)
from hbcomp.crossval.resources import Arrangement, arrange
from hbcomp.crossval.training_data import Material, beats_on, member_of
from hbcomp.data.load import Data
from hbcomp.experiment import folder
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold, FoldResult, Predictions, assemble
from hbcomp.scoring.choice import RuleResult, evaluate_rules
from hbcomp.scoring.transfer import choose_safe_rule
from hbcomp.system.command import USERS_TO_MEND, console, deafened, hushed_tracker
from hbcomp.system.environment import n_cores
from hbcomp.system.errors import InputError, within_memory
from hbcomp.system.progress import Emit, Relay, relayed, show_folds
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute, choose_compute


@dataclass(frozen=True)
class Outcome:
    """A finished cross-validation: every fold, their probabilities, every rule, the chosen one."""

    material: Material
    results: list[FoldResult]
    predictions: Predictions
    rules: list[RuleResult]
    chosen: RuleResult
    how: Arrangement
    n_trained: int


def cross_validate(
    config: Config,
    material: Material,
    run: RunFolder,
    watch: Stopwatch,
    *,
    n_jobs: int | None = None,
    force: bool = False,
) -> Outcome:
    """Train every fold of every seed that is not stored yet, and return what all of them say.

    The caller holds the run's lock. Killed at any moment, the same call continues with the
    folds that are not stored, and on a CPU the outcome has the same bits.
    """
    if run in map(folder.find_run, config.pseudo.runs):
        raise InputError(f"pseudo.runs: {run.name} cannot learn from itself; use --name NEW")
    identity = {**config.identity(), **material.fingerprints}
    folder.admit(run, identity, force=force, described=material.described)
    pending = [key for key in material.fold_keys if not run.is_done(*key)]
    with watch.phase("arrange"):
        how = arrange_nets(config, material, run, pending, n_jobs)
    about = _about(config, how.compute)
    if pending and (others := folder.other_versions(run, about)):
        console.print(f"{run.name} began with {'; '.join(others)}: the bits may differ")
    folder.begin(run, identity, {**about, "described": material.described})
    identity_of_seed = {
        seed: folder.fold_identity(identity, seed) for seed in material.folds_of_seed
    }
    for seed, fold in material.fold_keys:
        if run.is_done(seed, fold):  # a damaged one is refused before another is trained
            folder.load_fold(run, identity_of_seed[seed], seed, fold)
    announce(run, how, f"{len(material.fold_keys)} folds", len(material.fold_keys) - len(pending))
    if pending and config.features.is_of_fold:
        console.print("the beats are described anew for every fold, which takes most of its time")
    train_nets(config, material, run, pending, identity_of_seed, how, watch)
    with watch.phase("decide"):
        return _outcome(config, material, run, identity_of_seed, how, len(pending))


def _outcome(
    config: Config,
    material: Material,
    run: RunFolder,
    identity_of_seed: Mapping[int, str],
    how: Arrangement,
    n_trained: int,
) -> Outcome:
    results = [
        folder.load_fold(run, identity_of_seed[seed], seed, fold)
        for seed, fold in material.fold_keys
    ]
    data = material.data
    predictions = assemble(data.train, data.test, material.folds_of_seed, results)
    rules = evaluate_rules(predictions.oof_probs, predictions.labels, predictions.fold_of_row)
    chosen = choose_safe_rule(
        rules, predictions.oof_probs, predictions.test_probs, config.decision.rule
    )
    return Outcome(material, results, predictions, rules, chosen, how, n_trained)


def _about(config: Config, compute: Compute) -> dict[str, Any]:
    return {
        "hbcomp": hbcomp.__version__,
        "torch": torch.__version__,
        "data": config.data.model_dump(mode="json", exclude_none=True),
        "compute": asdict(compute),
    }


def arrange_nets(
    config: Config,
    material: Material,
    run: RunFolder,
    pending: Sequence[tuple[int, Fold]],
    n_jobs: int | None,
) -> Arrangement:
    """Return how the nets of these (seed, fold) share the machine."""
    asked = choose_compute(config.compute, is_compute_bound=config.net.is_compute_bound)
    with within_memory(
        "the net cannot take a first step; try a smaller train.batch_size (now "
        f"{config.train.batch_size}) or a smaller net (net.*)",
        device=asked.device,
    ):
        beats = beats_on(material.data, asked.device, has_test_rows=material.pseudo is not None)
        members = [
            member_of(seed, fold, *material.train_rows(seed, fold), beats.device)
            for seed, fold in pending
        ]
        return arrange(config, run, beats, members, material.n_folds, n_jobs)


def train_nets(
    config: Config,
    material: Material,
    run: RunFolder,
    pending: Sequence[tuple[int, Fold]],
    identity_of_seed: Mapping[int, str],
    how: Arrangement,
    watch: Stopwatch,
) -> None:
    """Train and store the nets of these (seed, fold); the fold `ALL` holds nothing out."""
    tasks = [
        _task(config, material, seed, fold, how.compute, identity_of_seed[seed])
        for seed, fold in pending
    ]
    if tasks:
        run.discard_manifest()
        _train(tasks, material.data, run, how.n_jobs, watch)


def _task(
    config: Config, material: Material, seed: int, fold: Fold, compute: Compute, identity: str
) -> FoldTask:
    train_idx, train_labels = material.train_rows(seed, fold)
    valid_idx, scored_epochs = np.empty(0, dtype=np.int64), frozenset[int]()
    if isinstance(fold, int):
        valid_idx = material.folds_of_seed[seed].valid_idx(fold)
        scored_epochs = spread(config.train.n_epochs, config.report.n_scored_epochs)
    return FoldTask(
        seed=seed,
        fold=fold,
        train_idx=train_idx,
        valid_idx=valid_idx,
        recipe=config.recipe,
        features=config.features,
        compute=compute,
        scored_epochs=scored_epochs,
        identity=identity,
        train_labels=train_labels,
    )


def announce(run: RunFolder, how: Arrangement, what: str, n_stored: int) -> None:
    """Say what is about to be trained, and how."""
    compute = how.compute
    stored = f", {n_stored} already stored" if n_stored else ""
    at_once = f", {how.n_jobs} jobs at once" if how.n_jobs > 1 else ""
    console.print(
        f"{run.name}: {what}{stored}; on {compute.device} in {compute.precision}, "
        f"{compute.threads} per net{at_once} ({compute.reason})"
    )


def _warn_of_crowding(n_jobs: int, compute: Compute) -> None:
    if n_jobs * compute.n_threads > n_cores():
        console.print(
            f"warning: {n_jobs} jobs of {compute.threads} share {n_cores()} cores and "
            "will be slow; --set compute.n_threads=N gives each fewer"
        )


def _train(
    tasks: list[FoldTask], data: Data, run: RunFolder, n_jobs: int, watch: Stopwatch
) -> None:
    groups = together(tasks)
    with show_folds(console, len(tasks), tasks[0].recipe.train.n_epochs) as emit:
        if n_jobs == 1:
            with explained(tasks), watch.phase("transfer"):
                resident = put_on_device(data, tasks[0])
            for group in groups:
                train_folds(group, resident, run, emit, watch)
        else:
            _warn_of_crowding(n_jobs, tasks[0].compute)
            _train_in_workers(groups, data, run, n_jobs, emit, watch)


def _train_in_workers(
    groups: list[list[FoldTask]],
    data: Data,
    run: RunFolder,
    n_jobs: int,
    emit: Emit,
    watch: Stopwatch,
) -> None:
    try:
        with relayed(emit) as relay:
            # Only the start: a generator is returned when the first ones run.
            with deafened(), hushed_tracker():
                results = Parallel(n_jobs=n_jobs, backend="loky", return_as="generator")(
                    delayed(_train_folds_in_worker)(on_device(group, position), data, run, relay)
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
    group: list[FoldTask], data: Data, run: RunFolder, relay: Relay
) -> dict[str, float]:
    relay.check_owner()
    watch = Stopwatch()
    with explained(group), watch.phase("transfer"):
        resident = put_on_device(data, group[0])
    train_folds(group, resident, run, relay.emit, watch)
    return watch.seconds
