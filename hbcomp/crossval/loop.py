"""The cross-validation of an experiment: train what is missing, assemble, decide, write."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import (
    BrokenProcessPool,
    PicklingError,
    TerminatedWorkerError,
)
from torch import Tensor, nn

import hbcomp
from hbcomp.crossval.pseudo_labels import load_pseudo_labels
from hbcomp.crossval.resources import Arrangement, arrange
from hbcomp.data.dataset import Dataset
from hbcomp.data.duplicates import Duplicates, find_duplicates
from hbcomp.data.load import Data, load_data
from hbcomp.data.scale import scale_warnings
from hbcomp.data.splits import MAX_SEED, Folds, make_folds
from hbcomp.experiment import folder
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold, FoldResult, Predictions, assemble
from hbcomp.features.base import FeatureConfig
from hbcomp.nets.registry import build_net
from hbcomp.scoring.choice import RuleResult, evaluate_rules
from hbcomp.scoring.decision import Half
from hbcomp.scoring.metrics import abs_sum
from hbcomp.scoring.transfer import choose_safe_rule
from hbcomp.system.command import USERS_TO_MEND, console, deafened, hushed_tracker
from hbcomp.system.environment import n_cores
from hbcomp.system.errors import InputError, is_out_of_memory
from hbcomp.system.progress import Emit, FoldProgress, Relay, relayed, show_folds
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute, choose_compute
from hbcomp.training.inference import predict_probs
from hbcomp.training.inputs import Inputs, fit_inputs
from hbcomp.training.loader import Beats, put_beats
from hbcomp.training.pseudo import PseudoLabels
from hbcomp.training.state import Member, Recipe
from hbcomp.training.step import DivergedError, Epoch, train_epochs


@dataclass(frozen=True)
class FoldTask:
    """One net to train: which rows, which seed, where, and which epochs to score.

    With `train_labels`, the labels of the rows at `train_idx`, the net also trains on test rows:
    they are counted on behind the train rows.
    """

    seed: int
    fold: Fold
    train_idx: np.ndarray
    valid_idx: np.ndarray
    recipe: Recipe
    features: FeatureConfig
    compute: Compute
    scored_epochs: frozenset[int]
    identity: str
    train_labels: np.ndarray | None = None


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
    pseudo: PseudoLabels | None = None

    @property
    def fold_keys(self) -> list[tuple[int, int]]:
        """Every (seed, fold), in order."""
        return [
            (seed, fold)
            for seed, folds in self.folds_of_seed.items()
            for fold in range(folds.n_folds)
        ]

    @property
    def n_folds(self) -> int:
        """The number of folds of every split."""
        return next(iter(self.folds_of_seed.values())).n_folds

    @property
    def fingerprints(self) -> dict[str, str | None]:
        """Hashes of the beats, the folds and the pseudo-labels: what stored folds are bound to."""
        prints = self.data_fingerprints
        for seed, folds in self.folds_of_seed.items():
            prints[f"{folder.SEED_KEY}{seed}"] = folds.fingerprint
            if self.pseudo:
                prints[f"{folder.PSEUDO_KEY}{seed}"] = self.pseudo.fingerprint(seed)
        return prints

    @property
    def described(self) -> dict[str, str]:
        """What the fingerprints are of, in words."""
        train, test = self.data.train, self.data.test
        return {
            "train data": _in_words(train),
            "test data": _in_words(test) if test else "none",
            **{
                f"{folder.SEED_KEY}{seed}": f"{folds.n_folds} folds"
                for seed, folds in self.folds_of_seed.items()
            },
        }

    @property
    def data_fingerprints(self) -> dict[str, str | None]:
        """Hashes of the beats."""
        return {
            "train data": self.data.train.fingerprint,
            "test data": self.data.test.fingerprint if self.data.test else None,
        }

    def train_rows(self, seed: int, fold: Fold) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the rows that a net trains on and, where some are pseudo-labelled, all labels.

        Test rows are counted on behind the train rows.
        """
        train = self.data.train
        if isinstance(fold, int):
            train_idx = self.folds_of_seed[seed].train_idx(fold)
            pseudo = self.pseudo.of_fold[seed, fold] if self.pseudo else None
        else:
            train_idx = np.arange(train.n_rows)
            pseudo = self.pseudo.of_all if self.pseudo else None
        if pseudo is None:
            return train_idx, None
        return (
            np.concatenate([train_idx, train.n_rows + pseudo.test_idx]),
            np.concatenate([train.known_labels[train_idx], pseudo.labels]),
        )


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


def _in_words(beats: Dataset) -> str:
    return f"{Path(beats.source).name} with {beats.n_rows:,} rows"


def load_material(config: Config) -> Material:
    """Return the checked beats and folds; whatever is wrong with them or the net is found here.

    Duplicates are no error, but they flatter the score, so they are said; so are values in other
    units than the nets were made for, which spoil it.
    """
    data = load_data(config.data)
    folds_of_seed = {
        seed: make_folds(config.folds, data.train, seed) for seed in config.folds.seeds
    }
    first_split = next(iter(folds_of_seed.values())).fold_of_row
    duplicates = find_duplicates(data.train, data.test, first_split)
    for warning in [*scale_warnings(data.train, data.test), *duplicates.warnings()]:
        console.print(f"warning: {warning}")
    # Tried now, because nothing may be written for a net or a device that cannot be had.
    width = config.features.width(data.train.n_timepoints, data.train.n_classes)
    with within_memory("a net of this size cannot be built; make it smaller (net.*)"):
        build_net(config.net, width, data.train.n_classes, seed=0)
    choose_compute(config.compute, is_compute_bound=config.net.is_compute_bound)
    pseudo = load_pseudo_labels(config.pseudo, data, folds_of_seed)
    if pseudo:
        console.print(f"pseudo-labels: {pseudo.summary()}")
    return Material(data, folds_of_seed, duplicates, pseudo)


def load_material_again(config: Config, run: RunFolder) -> Material:
    """Return the beats and splits that a run's nets were trained on; others are an InputError."""
    material = load_material(config)
    stored = (folder.read_run(run) or {"identity": {}})["identity"]
    changed = [
        name
        for name, value in material.fingerprints.items()
        # Of the test rows only pseudo-labelled ones matter, which have a fingerprint of their own.
        if name != "test data" and stored.get(name) != value
    ]
    if changed:
        raise InputError(f"{run.path}: its nets were trained with other {', '.join(changed)}")
    return material


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


def inputs_of(config: Config, material: Material, seed: int, fold: Fold, device: str) -> Inputs:
    """Return the features that one net of a run was shown."""
    beats = beats_on(material.data, device, has_test_rows=material.pseudo is not None)
    member = member_of(seed, fold, *material.train_rows(seed, fold), beats.device)
    return fit_inputs(config.features, beats, member)


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


def member_of(
    seed: int,
    fold: Fold,
    train_idx: np.ndarray,
    train_labels: np.ndarray | None,
    device: torch.device,
) -> Member:
    """Return a net to train, its rows on the device; seed and fold alone seed it."""
    return Member(
        torch.tensor(train_idx, device=device),
        (seed, fold if isinstance(fold, int) else MAX_SEED),  # a number that no fold has
        None if train_labels is None else torch.tensor(train_labels, device=device),
    )


def _member(task: FoldTask, device: torch.device) -> Member:
    return member_of(task.seed, task.fold, task.train_idx, task.train_labels, device)


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


def spread(n_epochs: int, n_scored: int) -> frozenset[int]:
    """Return at most `n_scored` epochs, evenly spread over 1..n_epochs, the last one included."""
    n_scored = min(n_scored, n_epochs)
    return frozenset(-(-n_epochs * part // n_scored) for part in range(1, n_scored + 1))


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


def together(tasks: Sequence[FoldTask]) -> list[list[FoldTask]]:
    """Return the tasks in groups that train at the same time."""
    size = tasks[0].compute.n_together
    return [list(tasks[start : start + size]) for start in range(0, len(tasks), size)]


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


def on_device(group: list[FoldTask], position: int) -> list[FoldTask]:
    """Return the tasks with the GPU they get when there are several: dealt out in turn."""
    if group[0].compute.device != "cuda" or torch.cuda.device_count() < 2:
        return group
    device = f"cuda:{position % torch.cuda.device_count()}"
    return [replace(task, compute=replace(task.compute, device=device)) for task in group]


def _train_folds_in_worker(
    group: list[FoldTask], data: Data, run: RunFolder, relay: Relay
) -> dict[str, float]:
    relay.check_owner()
    watch = Stopwatch()
    with explained(group), watch.phase("transfer"):
        resident = put_on_device(data, group[0])
    train_folds(group, resident, run, relay.emit, watch)
    return watch.seconds


def beats_on(data: Data, device: str, *, has_test_rows: bool) -> Beats:
    """Copy the train rows to the device, with the test rows behind them if nets train on some."""
    unlabelled = data.test.signals if data.test and has_test_rows else None
    return put_beats(data.train.signals, data.train.known_labels, device, unlabelled)


def put_on_device(data: Data, task: FoldTask) -> Resident:
    """Copy the beats that a task and its like need to their device."""
    device = task.compute.device
    beats = beats_on(data, device, has_test_rows=task.train_labels is not None)
    # A copy of their own: seen within the beats they would lie at another address, and the last
    # bits of a product may depend on how its input is aligned.
    test_signals = torch.tensor(data.test.signals, device=device) if data.test else None
    return Resident(beats, test_signals)


def train_folds(
    group: Sequence[FoldTask], resident: Resident, run: RunFolder, emit: Emit, watch: Stopwatch
) -> None:
    """Train folds at the same time, predict their validation and test rows, and store all of it."""
    group[0].compute.enter()
    with explained(group):
        if group[0].features.is_of_fold:
            with watch.phase("features"):
                resident = _featured(group[0], resident)
        fits = [_Fit(task, resident) for task in group]
        _train_and_score(fits, resident, emit, watch)
        results = [_result(fit, resident, watch, position) for position, fit in enumerate(fits)]
    with watch.phase("write"):
        for fit, result in zip(fits, results, strict=True):
            task = fit.task
            folder.save_fold(run, task.identity, result, fit.net, fit.history())
    if torch.cuda.is_available():
        del fits
        torch.cuda.empty_cache()  # or the next folds' nets find the memory still taken


def _featured(task: FoldTask, resident: Resident) -> Resident:
    """Return the beats as the net of one fold is shown them."""
    beats, test = resident.beats, resident.test_signals
    inputs = fit_inputs(task.features, beats, _member(task, beats.device))
    held_out = torch.tensor(task.valid_idx, device=beats.device)
    seen = inputs.as_beats(torch.tensor(task.train_idx, device=beats.device), held_out)
    return Resident(seen, None if test is None else inputs.of_test(test))


class _Fit:
    """A fold in training: its rows on the device, and what its epochs said so far."""

    def __init__(self, task: FoldTask, resident: Resident) -> None:
        beats = resident.beats
        self.task = task
        self.member = _member(task, beats.device)
        self.valid_signals = beats.signals[torch.tensor(task.valid_idx, device=beats.device)]
        self.valid_labels = beats.labels.cpu().numpy()[task.valid_idx]
        self.valid_probs = np.empty((0, beats.n_classes), dtype=np.float32)
        self.net: nn.Module
        self.rows: list[tuple[Any, ...]] = []

    def score(self, epoch: Epoch) -> float | None:
        """Return the abs-sum per 20k under rule half, if this epoch is one to score."""
        self.net = epoch.net
        if epoch.epoch not in self.task.scored_epochs:
            return None
        self.valid_probs = predict_probs(epoch.net, self.valid_signals, self.task.compute)
        return abs_sum(Half().apply(self.valid_probs), self.valid_labels).per_20k

    def record(self, epoch: Epoch, score: float | None) -> FoldProgress:
        """Keep what an epoch said, and return what a person wants to see of it."""
        task = self.task
        n_threads = task.compute.n_threads
        self.rows.append((epoch.epoch, epoch.lr, epoch.loss, score, epoch.seconds, n_threads))
        n_epochs = task.recipe.train.n_epochs
        return FoldProgress(task.seed, task.fold, epoch.epoch, n_epochs, epoch.loss, score)

    def history(self) -> pd.DataFrame:
        """Return one row per epoch."""
        columns = ["epoch", "lr", "loss", "score", "seconds", "n_threads"]
        return pd.DataFrame(self.rows, columns=columns)


def _train_and_score(
    fits: Sequence[_Fit], resident: Resident, emit: Emit, watch: Stopwatch
) -> None:
    task = fits[0].task
    members = [fit.member for fit in fits]
    for epochs in train_epochs(task.recipe, resident.beats, members, task.compute):
        for fit, epoch in zip(fits, epochs, strict=True):
            watch.add({"train": epoch.seconds, "compile": epoch.seconds_preparing})
            with watch.phase("validate"):
                score = fit.score(epoch)
            emit(fit.record(epoch, score))


def _result(fit: _Fit, resident: Resident, watch: Stopwatch, position: int) -> FoldResult:
    task, test_probs = fit.task, None
    if resident.test_signals is not None:
        with watch.phase("predict"):
            test_probs = predict_probs(fit.net, resident.test_signals, task.compute)
    assert len(fit.valid_probs) == len(task.valid_idx)  # the last epoch is always scored
    for probs in (fit.valid_probs, test_probs):
        if probs is not None and not np.isfinite(probs).all():
            raise DivergedError(
                "the net's probabilities must be finite; try a smaller train.lr", position
            )
    return FoldResult(task.seed, task.fold, task.valid_idx, fit.valid_probs, test_probs)


@contextmanager
def explained(group: Sequence[FoldTask]) -> Iterator[None]:
    """Turn what a user can mend (no memory, a diverged loss) into an error naming the fold."""
    compute, batch_size = group[0].compute, group[0].recipe.train.batch_size
    fewer = "compute.n_together" if compute.n_together > 1 else "--jobs"
    advice = (
        f"finished folds are kept; try a smaller train.batch_size (now {batch_size}) or fewer "
        f"{fewer}"
    )
    try:
        with within_memory(advice, f"{_name(group)}: ", compute.device):
            yield
    except DivergedError as error:
        raise InputError(f"{_name(group[error.position : error.position + 1])}: {error}") from error


@contextmanager
def within_memory(advice: str, place: str = "", device: str = "cpu") -> Iterator[None]:
    """Turn memory that runs out into an error that says where, on what, and what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"{place}out of memory on {device}; {advice}") from error


def _name(group: Sequence[FoldTask]) -> str:
    return ", ".join(f"seed {task.seed} fold {task.fold}" for task in group)


def peak_memory_mib() -> float | None:
    """Return the most memory this process or a worker has held, in MiB; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource  # which Windows does not have

    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(kind).ru_maxrss for kind in kinds)
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
