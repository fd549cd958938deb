"""The cross-validation of an experiment: train what is missing, assemble, decide, write."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from torch import Tensor

import hbcomp
from hbcomp.cli import console
from hbcomp.data.duplicates import Duplicates, find_duplicates
from hbcomp.data.folds import Folds, make_folds
from hbcomp.data.load import Data, load_data
from hbcomp.errors import InputError
from hbcomp.experiment import folder
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.nets.registry import build_net
from hbcomp.predictions import FoldResult, Predictions, assemble
from hbcomp.progress import Emit, FoldProgress, Relay, relayed, show_folds
from hbcomp.scoring.choice import RuleResult, choose_rule, evaluate_rules
from hbcomp.scoring.decision import Half
from hbcomp.scoring.metrics import abs_sum
from hbcomp.training.device import Compute, choose_compute, device_exists, n_cores
from hbcomp.training.engine import DivergedError, Epoch, Recipe, train_epochs
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import Beats, put_beats


@dataclass(frozen=True)
class FoldTask:
    """One net to train: which rows, which seed, where, and which epochs to score."""

    seed: int
    fold: int
    train_idx: np.ndarray
    valid_idx: np.ndarray
    recipe: Recipe
    compute: Compute
    scored_epochs: frozenset[int]
    identity: str


@dataclass(frozen=True)
class Resident:
    """Train and test beats on one device, for all folds that this process trains."""

    beats: Beats
    test_signals: Float32[Tensor, "m t"] | None


@dataclass(frozen=True)
class Material:
    """What a cross-validation works on: beats, the folds of every seed, and exact duplicates."""

    data: Data
    folds_of_seed: Mapping[int, Folds]
    duplicates: Duplicates

    @property
    def fold_keys(self) -> list[tuple[int, int]]:
        """Every (seed, fold), in order."""
        return [
            (seed, fold)
            for seed, folds in self.folds_of_seed.items()
            for fold in range(folds.n_folds)
        ]

    @property
    def fingerprints(self) -> dict[str, str | None]:
        """Hashes of the beats and of the folds: what stored folds are bound to."""
        return {
            "train data": self.data.train.fingerprint,
            "test data": self.data.test.fingerprint if self.data.test else None,
            **{
                f"{folder.SEED_KEY}{seed}": folds.fingerprint
                for seed, folds in self.folds_of_seed.items()
            },
        }


@dataclass(frozen=True)
class Outcome:
    """A finished cross-validation: every fold, their probabilities, every rule, the chosen one."""

    material: Material
    results: list[FoldResult]
    predictions: Predictions
    rules: list[RuleResult]
    chosen: RuleResult
    compute: Compute
    n_trained: int


def load_material(config: Config) -> Material:
    """Return the checked beats and folds; whatever is wrong with them or the net is found here.

    Duplicates are no error, but they flatter the score, so they are said.
    """
    data = load_data(config.data)
    folds_of_seed = {
        seed: make_folds(config.folds, data.train, seed) for seed in config.folds.seeds
    }
    first_split = next(iter(folds_of_seed.values())).fold_of_row
    duplicates = find_duplicates(data.train, data.test, first_split)
    for warning in duplicates.warnings():
        console.print(f"warning: {warning}")
    # Tried now, because nothing may be written for a net or a device that cannot be had.
    build_net(config.net, data.train.n_timepoints, data.train.n_classes, seed=0)
    choose_compute(config.compute, is_compute_bound=config.net.is_compute_bound)
    return Material(data, folds_of_seed, duplicates)


def cross_validate(
    config: Config, material: Material, run: RunFolder, *, n_jobs: int = 1, force: bool = False
) -> Outcome:
    """Train every fold of every seed that is not stored yet, and return what all of them say.

    The caller holds the run's lock. Killed at any moment, the same call continues with the
    first unfinished fold, and on a CPU the outcome has the same bits.
    """
    identity = {**config.identity(), **material.fingerprints}
    folder.admit(run, identity, force=force)
    compute = _compute(config, run, n_jobs)
    folder.begin(run, identity, _about(compute))
    identity_of_seed = {
        seed: folder.fold_identity(identity, seed) for seed in material.folds_of_seed
    }
    tasks = list(_pending(config, run, material, compute, identity_of_seed))
    _announce(run, compute, len(material.fold_keys), len(tasks))
    if tasks:
        _train(tasks, material.data, run, n_jobs)
    results = [
        folder.load_fold(run, identity_of_seed[seed], seed, fold)
        for seed, fold in material.fold_keys
    ]
    data = material.data
    predictions = assemble(data.train, data.test, material.folds_of_seed, results)
    rules = evaluate_rules(predictions.oof_probs, predictions.labels, predictions.fold_of_row)
    chosen = choose_rule(rules, config.decision.rule)
    return Outcome(material, results, predictions, rules, chosen, compute, n_trained=len(tasks))


def _compute(config: Config, run: RunFolder, n_jobs: int) -> Compute:
    """Return where to train: a continued run goes on as it began, unless told otherwise."""
    asked, bound = config.compute, config.net.is_compute_bound
    compute = choose_compute(asked, is_compute_bound=bound, n_jobs=n_jobs)
    stored = folder.read_run(run)
    if not stored:
        return compute
    first = Compute(**stored["compute"])
    is_auto = asked.device == "auto"
    wish = asked.model_copy(
        update={
            "device": first.device if is_auto and device_exists(first.device) else asked.device,
            "precision": first.precision if asked.precision == "auto" else asked.precision,
            "n_threads": asked.n_threads or first.n_threads,
        }
    )
    compute = choose_compute(wish, is_compute_bound=bound)
    changes = [
        f"{key} {getattr(first, key)} before, {getattr(compute, key)} now"
        for key in ("device", "precision", "n_threads")
        if getattr(first, key) != getattr(compute, key)
    ]
    if changes:
        console.print(f"warning: the last bits of new folds will differ: {'; '.join(changes)}")
        return compute
    return replace(compute, reason="as this run began")


def _about(compute: Compute) -> dict[str, Any]:
    return {
        "hbcomp": hbcomp.__version__,
        "torch": torch.__version__,
        "compute": asdict(compute),
    }


def _pending(
    config: Config,
    run: RunFolder,
    material: Material,
    compute: Compute,
    identity_of_seed: Mapping[int, str],
) -> Iterator[FoldTask]:
    for seed, fold in material.fold_keys:
        if not run.is_done(seed, fold):
            folds = material.folds_of_seed[seed]
            yield FoldTask(
                seed=seed,
                fold=fold,
                train_idx=folds.train_idx(fold),
                valid_idx=folds.valid_idx(fold),
                recipe=config.recipe,
                compute=compute,
                scored_epochs=spread(config.train.n_epochs, config.report.n_scored_epochs),
                identity=identity_of_seed[seed],
            )


def spread(n_epochs: int, n_scored: int) -> frozenset[int]:
    """Return at most `n_scored` epochs, evenly spread over 1..n_epochs, the last one included."""
    n_scored = min(n_scored, n_epochs)
    return frozenset(-(-n_epochs * part // n_scored) for part in range(1, n_scored + 1))


def _announce(run: RunFolder, compute: Compute, n_folds: int, n_pending: int) -> None:
    stored = f", {n_folds - n_pending} already stored" if n_pending < n_folds else ""
    console.print(
        f"{run.name}: {n_folds} folds{stored}; on {compute.device} in {compute.precision}, "
        f"{compute.n_threads} threads per fold ({compute.reason})"
    )


def _warn_of_crowding(n_jobs: int, compute: Compute) -> None:
    if n_jobs * compute.n_threads > n_cores():
        console.print(
            f"warning: {n_jobs} jobs of {compute.n_threads} threads share {n_cores()} cores and "
            "will be slow; --set compute.n_threads=N gives each fewer"
        )


def _train(tasks: list[FoldTask], data: Data, run: RunFolder, n_jobs: int) -> None:
    with show_folds(console, len(tasks), tasks[0].recipe.train.n_epochs) as emit:
        if n_jobs == 1:
            with explained(tasks[0]):
                resident = put_on_device(data, tasks[0].compute.device)
            for task in tasks:
                train_fold(task, resident, run, emit)
        else:
            _warn_of_crowding(n_jobs, tasks[0].compute)
            _train_in_workers(tasks, data, run, n_jobs, emit)


def _train_in_workers(
    tasks: list[FoldTask], data: Data, run: RunFolder, n_jobs: int, emit: Emit
) -> None:
    try:
        with relayed(emit) as relay:
            Parallel(n_jobs=n_jobs, backend="loky")(
                delayed(_train_fold_in_worker)(on_device(task, position), data, run, relay)
                for position, task in enumerate(tasks)
            )
    except TerminatedWorkerError as error:
        raise InputError(
            "a worker process was killed, probably for lack of memory; finished folds are kept; "
            f"try fewer --jobs (now {n_jobs})"
        ) from error
    finally:
        # joblib would keep the workers, and the GPU memory they hold, for five more minutes.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


def on_device(task: FoldTask, position: int) -> FoldTask:
    """Return the task with the GPU it gets when there are several: they are dealt out in turn."""
    if task.compute.device != "cuda" or torch.cuda.device_count() < 2:
        return task
    device = f"cuda:{position % torch.cuda.device_count()}"
    return replace(task, compute=replace(task.compute, device=device))


def _train_fold_in_worker(task: FoldTask, data: Data, run: RunFolder, relay: Relay) -> None:
    relay.check_owner()
    with explained(task):
        resident = put_on_device(data, task.compute.device)
    train_fold(task, resident, run, relay.emit)


def put_on_device(data: Data, device: str) -> Resident:
    """Copy train and test beats to the device."""
    beats = put_beats(data.train.signals, data.train.known_labels, device)
    test_signals = torch.tensor(data.test.signals, device=device) if data.test else None
    return Resident(beats, test_signals)


def train_fold(task: FoldTask, resident: Resident, run: RunFolder, emit: Emit) -> None:
    """Train one fold, predict its validation rows and the test rows, and store all of it."""
    task.compute.enter()
    with explained(task):
        result, last, history = _fit_and_predict(task, resident, emit)
    folder.save_fold(run, task.identity, result, last.net, history)
    if torch.cuda.is_available():
        del last
        torch.cuda.empty_cache()  # or the next fold's net finds the memory still taken


def _fit_and_predict(
    task: FoldTask, resident: Resident, emit: Emit
) -> tuple[FoldResult, Epoch, pd.DataFrame]:
    beats, compute = resident.beats, task.compute
    train_idx = torch.tensor(task.train_idx, device=beats.device)
    valid_signals = beats.signals[torch.tensor(task.valid_idx, device=beats.device)]
    valid_labels = beats.labels.cpu().numpy()[task.valid_idx]
    rows = []
    for epoch in train_epochs(task.recipe, beats, train_idx, (task.seed, task.fold), compute):
        score = None
        if epoch.epoch in task.scored_epochs:
            valid_probs = predict_probs(epoch.net, valid_signals, compute)
            score = abs_sum(Half().apply(valid_probs), valid_labels).per_20k
        rows.append((epoch.epoch, epoch.lr, epoch.loss, score, epoch.seconds))
        n_epochs = task.recipe.train.n_epochs
        emit(FoldProgress(task.seed, task.fold, epoch.epoch, n_epochs, epoch.loss, score))
    test_probs = None
    if resident.test_signals is not None:
        test_probs = predict_probs(epoch.net, resident.test_signals, compute)
    for probs in (valid_probs, test_probs):
        if probs is not None and not np.isfinite(probs).all():
            raise DivergedError("the net's probabilities must be finite; try a smaller train.lr")
    result = FoldResult(task.seed, task.fold, task.valid_idx, valid_probs, test_probs)
    return result, epoch, pd.DataFrame(rows, columns=["epoch", "lr", "loss", "score", "seconds"])


@contextmanager
def explained(task: FoldTask) -> Iterator[None]:
    """Turn what a user can mend (no memory, a diverged loss) into an error naming the fold."""
    where = f"seed {task.seed} fold {task.fold}"
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise InputError(
            f"{where}: out of memory on {task.compute.device}; finished folds are kept; try a "
            f"smaller train.batch_size (now {task.recipe.train.batch_size}) or fewer --jobs"
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # What torch's CPU allocator, its MPS one and cuBLAS say.
    texts = ("can't allocate memory", "out of memory", "cublas_status_alloc_failed")
    return any(text in str(error).lower() for text in texts)


def peak_memory_mib() -> float | None:
    """Return the most memory this process or a worker has held, in MiB; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource  # which Windows does not have

    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(kind).ru_maxrss for kind in kinds)
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
