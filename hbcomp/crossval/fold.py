"""The fold trainer: train the nets of a few folds at the same time, and score or store them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from hbcomp.competitions.competition import metric_of
from hbcomp.crossval.training_data import replica_of
from hbcomp.experiment import stored_folds
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold, FoldResult
from hbcomp.scoring.calibration import log_loss
from hbcomp.scoring.choice import fixed_rule_scores
from hbcomp.scoring.metrics import MetricSpec
from hbcomp.system.errors import InputError, within_memory
from hbcomp.system.progress import Emit, FoldProgress
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute
from hbcomp.training.early_stopping import BestEpoch, EarlyStopping
from hbcomp.training.fitting import fit_nets
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import DeviceData
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import DivergedError, Epoch, train_epochs

History = list[tuple[Any, ...]]  # a row for each epoch
HISTORY_COLUMNS = ["epoch", "lr", "loss", "score", "seconds", "n_threads"]
WATCHED = "watched_loss"  # one more column, where early stopping is on


@dataclass(frozen=True)
class FoldTask:
    """One net to train: its rows, its seed, where it trains, and how often it is scored.

    With `train_labels`, the labels of the rows at `train_idx`, the net also trains on test rows,
    which are numbered after the train rows. It predicts its held-out rows `n_scored` times, at even
    shares of its epochs. `watched_idx` are the rows of early stopping, where that is on.
    """

    seed: int
    fold: Fold
    train_idx: np.ndarray
    valid_idx: np.ndarray
    recipe: Recipe
    metric: MetricSpec
    compute: Compute
    n_scored: int
    train_labels: np.ndarray | None = None
    watched_idx: np.ndarray | None = None
    identity: str = ""  # the hash that its stored fold is bound to

    def replica(self, device: torch.device) -> Replica:
        """Return the net as it is trained, with its rows on the device."""
        return replica_of(self.seed, self.fold, self.train_idx, self.train_labels, device)

    @property
    def early_stopping(self) -> EarlyStopping:
        """When it stops before its schedule ends."""
        return self.recipe.train.early_stopping

    @property
    def n_epochs(self) -> int:
        """The epochs of its schedule."""
        return self.recipe.train.for_rows(len(self.train_idx)).n_epochs

    @property
    def scored_epochs(self) -> list[int]:
        """The epochs after which it predicts its held-out rows; one may end several shares."""
        return evenly_spaced(self.n_epochs, self.n_scored)


@dataclass(frozen=True)
class TrainedNet:
    """A trained net, at its last or its best epoch, with its held-out and test probabilities."""

    net: nn.Module
    valid_probs: Float32[np.ndarray, "v k"]
    test_probs: Float32[np.ndarray, "m k"] | None


@dataclass(frozen=True)
class FoldEpoch:
    """The net of a fold after an epoch, with its held-out probabilities where they are scored.

    The trained net comes with its last epoch, and the log loss of the rows that it watches, if any,
    with every epoch.
    """

    epoch: Epoch
    valid_labels: Int64[np.ndarray, " v"]
    valid_probs: Float32[np.ndarray, "v k"] | None
    watched_loss: float | None
    trained: TrainedNet | None


def train_group(
    group: Sequence[FoldTask], data: DeviceData, watch: Stopwatch
) -> Iterator[list[FoldEpoch]]:
    """Train the nets of a group of folds at the same time, yielding them after every epoch.

    Nets whose training has ended are not yielded any more, so `Epoch.position` says which they are.
    The cross-validation stores what it yields, and a trial of a search may stop in between.
    """
    compute = group[0].compute
    compute.enter()
    replicas = [task.replica(data.device) for task in group]
    nets = [_Predicted(task, data, watch) for task in group]
    stopped: set[int] = set()
    recipe = group[0].recipe
    if recipe.net.is_fitted:
        every_epoch = fit_nets(recipe, data, replicas)
    else:
        every_epoch = train_epochs(recipe, data, replicas, compute, stopped)
    for epochs in every_epoch:
        watch.add({"train": sum(each.seconds for each in epochs)})
        watch.add({"compile": sum(each.seconds_preparing for each in epochs)})
        done = [nets[epoch.position].after(epoch) for epoch in epochs]
        stopped.update(each.epoch.position for each in done if each.trained)
        yield done


class _Predicted:
    """The rows that the net of a fold predicts in training, and its best epoch so far."""

    def __init__(self, task: FoldTask, data: DeviceData, watch: Stopwatch) -> None:
        self._task, self._data, self._watch = task, data, watch
        self._valid_rows, self._valid_labels = _rows(task.valid_idx, data)
        watched = task.watched_idx
        self._watched = None if watched is None else _rows(watched, data)
        self._best = BestEpoch()

    def after(self, epoch: Epoch) -> FoldEpoch:
        """Predict what is due after an epoch, and decide whether it is the last."""
        task, valid_probs, loss = self._task, None, None
        if epoch.epoch in task.scored_epochs:
            valid_probs = self._probs(epoch.net, self._valid_rows)
        if self._watched is not None:
            rows, labels = self._watched
            loss = log_loss(self._probs(epoch.net, rows).astype(np.float64), labels)
            self._best.update(epoch.epoch, loss, epoch.net)
        is_stopped = loss is not None and (
            epoch.epoch - self._best.epoch >= task.early_stopping.patience
        )
        trained = None
        if is_stopped or epoch.epoch == task.n_epochs:
            trained = self._trained(epoch, valid_probs)
        return FoldEpoch(epoch, self._valid_labels, valid_probs, loss, trained)

    def _trained(self, epoch: Epoch, valid_probs: np.ndarray | None) -> TrainedNet:
        net = epoch.net if self._best.net is None else self._best.net
        test_probs = None
        if valid_probs is None or net is not epoch.net:
            valid_probs = self._probs(net, self._valid_rows)
        if self._data.test_signals is not None:
            with self._watch.phase("predict"):
                test_probs = predict_probs(net, self._data.test_signals, self._task.compute)
        for probs in (valid_probs, test_probs):
            if probs is not None and not np.isfinite(probs).all():
                raise DivergedError(
                    "the net's probabilities must be finite; try a smaller train.lr",
                    epoch.position,
                )
        return TrainedNet(net, valid_probs, test_probs)

    def _probs(self, net: nn.Module, rows: Tensor) -> Float32[np.ndarray, "v k"]:
        if not len(rows):  # a net that holds nothing out
            return np.empty((0, self._data.n_classes), dtype=np.float32)
        with self._watch.phase("validate"):
            return predict_probs(net, self._data.signals, self._task.compute, rows)


def _rows(rows: np.ndarray, data: DeviceData) -> tuple[Tensor, np.ndarray]:
    """Return rows as a tensor on the device, and their labels."""
    idx = torch.tensor(rows, device=data.device)
    return idx, data.labels[idx].cpu().numpy()


def train_folds(
    group: Sequence[FoldTask],
    data: DeviceData,
    run: RunFolder,
    emit: Emit,
    watch: Stopwatch,
) -> None:
    """Train a group of folds at the same time, report every epoch, and store the finished folds."""
    histories: list[History] = [[] for _ in group]
    trained: dict[int, TrainedNet] = {}
    with errors_as_input_error(group):
        for epochs in train_group(group, data, watch):
            for after in epochs:
                position = after.epoch.position
                _report(group[position], after, histories[position], emit)
                if after.trained:
                    trained[position] = after.trained
    with watch.phase("write"):
        for position, task in enumerate(group):
            net = trained.pop(position)
            result = FoldResult(
                task.seed, task.fold, task.valid_idx, net.valid_probs, net.test_probs
            )
            columns = [*HISTORY_COLUMNS, *([WATCHED] if task.early_stopping.is_on else [])]
            history = [columns, *histories[position]]
            stored_folds.save_fold(run, task.identity, result, net.net, history)
    if torch.cuda.is_available():
        del epochs, after, net
        torch.cuda.empty_cache()  # or the next folds' nets find the memory still taken


def _report(task: FoldTask, after: FoldEpoch, history: History, emit: Emit) -> None:
    """Add an epoch to the history of its fold, and show it."""
    epoch, score = after.epoch, None
    if after.valid_probs is not None:
        metric = metric_of(task.metric)
        score = fixed_rule_scores(metric, after.valid_probs, after.valid_labels).score
    n_threads = task.compute.n_threads
    watched = () if after.watched_loss is None else (after.watched_loss,)
    history.append((epoch.epoch, epoch.lr, epoch.loss, score, epoch.seconds, n_threads, *watched))
    n_skipped = task.n_epochs - epoch.epoch if after.trained else 0
    emit(
        FoldProgress(
            seed=task.seed,
            fold=task.fold,
            epoch=epoch.epoch,
            n_epochs=task.n_epochs,
            loss=epoch.loss,
            score=score,
            n_skipped=n_skipped,
            lr=epoch.lr,
            watched_loss=after.watched_loss,
        )
    )


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
