"""How long a cross-validation will take, measured on this machine before it begins."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int64

from hbcomp.crossval.fold import train_group
from hbcomp.crossval.loop import resources_for, task_of
from hbcomp.crossval.resources import PARALLEL_EFFICIENCY, seconds_per_step
from hbcomp.crossval.training_data import TrainingData, seen_by_nets
from hbcomp.data.dataset import Dataset
from hbcomp.data.splits import Folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute
from hbcomp.training.early_stopping import EarlyStopping
from hbcomp.training.state import Replica

N_FIRST = 128  # rows of the first probe
LEAST_PER_CLASS = 2  # of a probe, so that each class has training rows in every split
LONG_PROBE = 1.0  # seconds; assumed: long against what a process prepares once
LARGEST_POWER = 2.0  # distances of all rows to all rows


@dataclass(frozen=True)
class Estimate:
    """About how long the nets of one seed take, so many of them at once."""

    seconds_of_net: float
    n_jobs: int
    n_folds: int
    seconds_before: float = 0.0  # of the features that are made for all nets

    def seconds(self, n_nets: int) -> float:
        """Return about how many seconds that many nets take."""
        if not n_nets:
            return 0.0
        efficiency = PARALLEL_EFFICIENCY if self.n_jobs > 1 else 1.0
        n_rounds = math.ceil(n_nets / self.n_jobs)
        return self.seconds_before + n_rounds * self.seconds_of_net / efficiency


def estimate(
    config: Config, training_data: TrainingData, run: RunFolder, n_jobs: int | None
) -> Estimate:
    """Return about how long the nets of a seed take to be trained and to predict.

    Of a net that is trained in steps a few steps are timed. What is fitted on the rows, a net or
    features, is fitted on a few of them, and on twice as many until that takes a second; what all
    rows take follows from the growth.
    """
    keys = training_data.fold_keys[: training_data.n_folds]
    resources = resources_for(config, training_data, run, keys, n_jobs)
    compute, before, shown = resources.compute, 0.0, training_data
    if config.features.is_of_fold:

        def seen(n_rows: int) -> TrainingData:
            part = part_of(training_data, n_rows)
            n_threads = compute.n_threads * resources.n_jobs
            return seen_by_nets(config, part, part.fold_keys, compute.device, n_threads)(*keys[0])

        before = extrapolated(partial(_seconds, seen), training_data.train.n_rows)
        shown = seen(N_FIRST)
    if config.net.is_fitted:
        fit = partial(_fit_net, config, training_data, keys[0], compute)
        of_net = extrapolated(partial(_seconds, fit), training_data.train.n_rows)
    else:
        of_net = _seconds_of_steps(config, training_data, shown, compute)
    return Estimate(of_net, resources.n_jobs, training_data.n_folds, before)


def _seconds(function: Callable[[int], object], n_rows: int) -> float:
    start = time.perf_counter()
    function(n_rows)
    return time.perf_counter() - start


def _seconds_of_steps(
    config: Config, training_data: TrainingData, shown: TrainingData, compute: Compute
) -> float:
    """Return the seconds of a net's steps and predictions, timed on the rows that are shown."""
    task = task_of(config, training_data, *training_data.fold_keys[0], "", compute)
    n_rows = len(task.train_idx)
    data = shown.on_device(compute.device)
    rows = torch.arange(n_rows, device=data.device) % shown.train.n_rows
    of_step = seconds_per_step(config.recipe, data, [Replica(rows, (0, 0))], compute)
    n_test = training_data.test.n_rows if training_data.test else 0
    n_predicted = task.n_scored * len(task.valid_idx) + n_test
    # A forward pass is a third of a step.
    of_row = of_step / 3 / config.train.for_rows(n_rows).batch_size
    return config.train.n_steps(n_rows) * of_step + n_predicted * of_row


def _fit_net(
    config: Config, training_data: TrainingData, key: tuple[int, int], compute: Compute, n_rows: int
) -> None:
    part = part_of(training_data, n_rows)
    task = task_of(config, part, *key, "", compute)
    list(train_group([task], part.on_device(compute.device), Stopwatch()))


def extrapolated(seconds_on: Callable[[int], float], n_all: int) -> float:
    """Return the seconds of `n_all` rows, from those of ever more rows until they take a second.

    The seconds of twice as many rows say by which power they grow: at least in proportion, at most
    with the square.
    """
    n_rows = min(N_FIRST, n_all)
    seconds = before = seconds_on(n_rows)
    while n_rows < n_all and (n_rows == N_FIRST or seconds < LONG_PROBE):
        n_rows, before = min(2 * n_rows, n_all), seconds
        seconds = seconds_on(n_rows)
    power = min(LARGEST_POWER, max(1.0, math.log2(seconds / before)))
    return float(seconds * (n_all / n_rows) ** power)


def part_of(training_data: TrainingData, n_rows: int) -> TrainingData:
    """Return about `n_rows` of the train rows, of every class, and as large a share of the test."""
    train, test = training_data.train, training_data.test
    share = n_rows / train.n_rows
    # Class after class, and folds in turn, so that each net sees every class.
    rows = np.concatenate(
        [
            _spread(np.flatnonzero(train.known_labels == each), share)
            for each in range(train.n_classes)
        ]
    )
    folds_of_seed = {}
    for seed, folds in training_data.folds_of_seed.items():
        n_folds = min(folds.n_folds, len(rows))
        folds_of_seed[seed] = Folds(np.arange(len(rows)) % n_folds, n_folds, seed)
    return replace(
        training_data,
        train=_rows_of(train, rows),
        test=_rows_of(test, _spread(np.arange(test.n_rows), share)) if test else None,
        folds_of_seed=folds_of_seed,
        pseudo=None,
        early_stopping=EarlyStopping(),
    )


def _spread(rows: Int64[np.ndarray, " n"], share: float) -> Int64[np.ndarray, " m"]:
    """Return a share of rows, evenly spread over them, and at least `LEAST_PER_CLASS`."""
    n_taken = min(len(rows), max(LEAST_PER_CLASS, round(share * len(rows))))
    return rows[np.arange(n_taken) * len(rows) // n_taken]


def _rows_of(dataset: Dataset, rows: Int64[np.ndarray, " m"]) -> Dataset:
    return replace(
        dataset,
        ids=dataset.ids[rows],
        signals=dataset.signals[rows],
        labels=None if dataset.labels is None else dataset.labels[rows],
        groups=None if dataset.groups is None else dataset.groups[rows],
    )
