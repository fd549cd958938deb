"""The fold trainer: train the nets of a few folds at the same time, and score or store them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from hbcomp.competitions.competition import metric_of
from hbcomp.crossval.training_data import replica_of
from hbcomp.experiment import stored_folds
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold, FoldResult
from hbcomp.features.base import FeatureConfig
from hbcomp.scoring.choice import fixed_rule_scores
from hbcomp.scoring.metrics import MetricSpec
from hbcomp.system.errors import InputError, within_memory
from hbcomp.system.progress import Emit, FoldProgress
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute
from hbcomp.training.features import fit_features
from hbcomp.training.fitting import fit_nets
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import DeviceData
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import DivergedError, Epoch, train_epochs

History = list[tuple[Any, ...]]  # a row for each epoch
HISTORY_COLUMNS = ["epoch", "lr", "loss", "score", "seconds", "n_threads"]


@dataclass(frozen=True)
class FoldTask:
    """One net to train: its rows, its seed, where it trains, and the epochs to score.

    With `train_labels`, the labels of the rows at `train_idx`, the net also trains on test rows,
    which are numbered after the train rows. At `scored_epochs` it predicts its held-out rows.
    """

    seed: int
    fold: Fold
    train_idx: np.ndarray
    valid_idx: np.ndarray
    recipe: Recipe
    features: FeatureConfig
    metric: MetricSpec
    compute: Compute
    scored_epochs: frozenset[int]
    train_labels: np.ndarray | None = None
    identity: str = ""  # the hash that its stored fold is bound to

    def replica(self, device: torch.device) -> Replica:
        """Return the net as it is trained, with its rows on the device."""
        return replica_of(self.seed, self.fold, self.train_idx, self.train_labels, device)


@dataclass(frozen=True)
class FoldEpoch:
    """The net of a fold after an epoch, with its held-out probabilities where they are scored.

    The probabilities of the test rows, where there are any, come with the last epoch.
    """

    epoch: Epoch
    valid_labels: Int64[np.ndarray, " v"]
    valid_probs: Float32[np.ndarray, "v k"] | None
    test_probs: Float32[np.ndarray, "m k"] | None


def train_group(
    group: Sequence[FoldTask], data: DeviceData, watch: Stopwatch
) -> Iterator[list[FoldEpoch]]:
    """Train the nets of a group of folds at the same time, yielding all of them after every epoch.

    The cross-validation stores what it yields, and a trial of a search may stop in between.
    """
    compute = group[0].compute
    compute.enter()
    if group[0].features.is_of_fold:
        with watch.phase("features"):
            data = _with_features(group[0], data)
    replicas = [task.replica(data.device) for task in group]
    held_out = [torch.tensor(task.valid_idx, device=data.device) for task in group]
    valid_signals = [data.signals[rows] for rows in held_out]
    valid_labels = [data.labels[rows].cpu().numpy() for rows in held_out]
    train = fit_nets if group[0].recipe.net.is_fitted else train_epochs
    for epochs in train(group[0].recipe, data, replicas, compute):
        watch.add({"train": sum(each.seconds for each in epochs)})
        watch.add({"compile": sum(each.seconds_preparing for each in epochs)})
        yield [
            FoldEpoch(epoch, labels, *_predict(task, epoch, signals, data, watch, position))
            for position, (task, epoch, signals, labels) in enumerate(
                zip(group, epochs, valid_signals, valid_labels, strict=True)
            )
        ]


def _with_features(task: FoldTask, data: DeviceData) -> DeviceData:
    """Return the data with the features of one fold's net in place of signals."""
    features = fit_features(task.features, data, task.replica(data.device))
    train, held_out = (
        torch.tensor(rows, device=data.device) for rows in (task.train_idx, task.valid_idx)
    )
    return features.in_place_of_signals(train, held_out)


def _predict(
    task: FoldTask,
    epoch: Epoch,
    valid_signals: Tensor,
    data: DeviceData,
    watch: Stopwatch,
    position: int,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the probabilities of the held-out and of the test rows, as far as they are needed."""
    valid_probs = test_probs = None
    is_last = epoch.epoch == task.recipe.train.n_epochs
    if epoch.epoch in task.scored_epochs:
        with watch.phase("validate"):
            valid_probs = predict_probs(epoch.net, valid_signals, task.compute)
    if is_last and data.test_signals is not None:
        with watch.phase("predict"):
            test_probs = predict_probs(epoch.net, data.test_signals, task.compute)
    for probs in (valid_probs, test_probs):
        if is_last and probs is not None and not np.isfinite(probs).all():
            raise DivergedError(
                "the net's probabilities must be finite; try a smaller train.lr", position
            )
    return valid_probs, test_probs


def train_folds(
    group: Sequence[FoldTask],
    data: DeviceData,
    run: RunFolder,
    emit: Emit,
    watch: Stopwatch,
) -> None:
    """Train a group of folds at the same time, report every epoch, and store the finished folds."""
    histories: list[History] = [[] for _ in group]
    with errors_as_input_error(group):
        for epochs in train_group(group, data, watch):
            for task, fold_epoch, history in zip(group, epochs, histories, strict=True):
                _report(task, fold_epoch, history, emit)
    with watch.phase("write"):
        for task, last, history in zip(group, epochs, histories, strict=True):
            result = _result(task, last, data.n_classes)
            rows = pd.DataFrame(history, columns=HISTORY_COLUMNS)
            stored_folds.save_fold(run, task.identity, result, last.epoch.net, rows)
    if torch.cuda.is_available():
        del epochs, fold_epoch, last
        torch.cuda.empty_cache()  # or the next folds' nets find the memory still taken


def _report(task: FoldTask, after: FoldEpoch, history: History, emit: Emit) -> None:
    """Add an epoch to the history of its fold, and show it."""
    epoch, score = after.epoch, None
    if after.valid_probs is not None:
        metric = metric_of(task.metric)
        score = fixed_rule_scores(metric, after.valid_probs, after.valid_labels).score
    n_threads = task.compute.n_threads
    history.append((epoch.epoch, epoch.lr, epoch.loss, score, epoch.seconds, n_threads))
    n_epochs = task.recipe.train.n_epochs
    emit(FoldProgress(task.seed, task.fold, epoch.epoch, n_epochs, epoch.loss, score))


def _result(task: FoldTask, last: FoldEpoch, n_classes: int) -> FoldResult:
    valid_probs = last.valid_probs
    if valid_probs is None:  # a net that holds nothing out
        valid_probs = np.empty((0, n_classes), dtype=np.float32)
    assert len(valid_probs) == len(task.valid_idx)  # the last epoch is always scored
    return FoldResult(task.seed, task.fold, task.valid_idx, valid_probs, last.test_probs)


def evenly_spaced(n_epochs: int, n_scored: int) -> list[int]:
    """Return the epochs that end `n_scored` equal parts of 1..n_epochs, the last one included.

    With more parts than epochs, one epoch ends several of them.
    """
    return [-(-n_epochs * part // n_scored) for part in range(1, n_scored + 1)]


def in_groups(tasks: Sequence[FoldTask]) -> list[list[FoldTask]]:
    """Return the tasks in groups that train at the same time."""
    size = tasks[0].compute.models_per_process
    return [list(tasks[start : start + size]) for start in range(0, len(tasks), size)]


@contextmanager
def errors_as_input_error(group: Sequence[FoldTask]) -> Iterator[None]:
    """Raise an InputError that names the fold where memory runs out or a loss diverges."""
    compute, batch_size = group[0].compute, group[0].recipe.train.batch_size
    is_group = compute.models_per_process > 1
    less = "a smaller compute.models_per_process" if is_group else "fewer --jobs"
    advice = f"finished folds are kept; try a smaller train.batch_size (now {batch_size}) or {less}"
    try:
        with within_memory(advice, f"{_name(group)}: ", compute.device):
            yield
    except DivergedError as error:
        raise InputError(f"{_name(group[error.position : error.position + 1])}: {error}") from error


def _name(group: Sequence[FoldTask]) -> str:
    return ", ".join(f"seed {task.seed} fold {task.fold}" for task in group)
