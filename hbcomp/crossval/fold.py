"""Train the nets of a few folds at the same time, score their held-out rows, and store them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from hbcomp.crossval.training_data import beats_on, member_of
from hbcomp.data.load import Data
from hbcomp.experiment import folder
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold, FoldResult
from hbcomp.features.base import FeatureConfig
from hbcomp.scoring.decision import Half
from hbcomp.scoring.metrics import abs_sum
from hbcomp.system.errors import InputError, within_memory
from hbcomp.system.progress import Emit, FoldProgress
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute
from hbcomp.training.inference import predict_probs
from hbcomp.training.inputs import fit_inputs
from hbcomp.training.loader import Beats
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


def _member(task: FoldTask, device: torch.device) -> Member:
    return member_of(task.seed, task.fold, task.train_idx, task.train_labels, device)


def spread(n_epochs: int, n_scored: int) -> frozenset[int]:
    """Return at most `n_scored` epochs, evenly spread over 1..n_epochs, the last one included."""
    n_scored = min(n_scored, n_epochs)
    return frozenset(-(-n_epochs * part // n_scored) for part in range(1, n_scored + 1))


def together(tasks: Sequence[FoldTask]) -> list[list[FoldTask]]:
    """Return the tasks in groups that train at the same time."""
    size = tasks[0].compute.n_together
    return [list(tasks[start : start + size]) for start in range(0, len(tasks), size)]


def on_device(group: list[FoldTask], position: int) -> list[FoldTask]:
    """Return the tasks with the GPU they get when there are several: dealt out in turn."""
    if group[0].compute.device != "cuda" or torch.cuda.device_count() < 2:
        return group
    device = f"cuda:{position % torch.cuda.device_count()}"
    return [replace(task, compute=replace(task.compute, device=device)) for task in group]


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


def _name(group: Sequence[FoldTask]) -> str:
    return ", ".join(f"seed {task.seed} fold {task.fold}" for task in group)
