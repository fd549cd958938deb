"""How long a cross-validation will take, measured on this machine before it begins."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from hbcomp.crossval.fold import train_group
from hbcomp.crossval.loop import resources_for, task_of
from hbcomp.crossval.resources import PARALLEL_EFFICIENCY, seconds_per_step
from hbcomp.crossval.training_data import TrainingData
from hbcomp.data.dataset import Dataset
from hbcomp.data.splits import Folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute
from hbcomp.training.early_stopping import EarlyStopping

N_FIRST = 128  # rows of the first probe
LEAST_PER_CLASS = 2  # of a probe, so that each class has training rows in every split
LONG_PROBE = 1.0  # seconds; assumed: long against what a process prepares once
LARGEST_POWER = 2.0  # distances of all rows to all rows


@dataclass(frozen=True)
class Estimate:
    """About how long the nets of one seed take, with so many processes at once."""

    seconds_of_net: float
    n_jobs: int
    n_folds: int

    def seconds(self, n_nets: int) -> float:
        """Return about how many seconds that many nets take."""
        efficiency = PARALLEL_EFFICIENCY if self.n_jobs > 1 else 1.0
        return math.ceil(n_nets / self.n_jobs) * self.seconds_of_net / efficiency


def estimate(
    config: Config, training_data: TrainingData, run: RunFolder, n_jobs: int | None
) -> Estimate:
    """Return about how long the nets of a seed take to be trained and to predict.

    Of a net that is trained in steps a few steps are timed. What is fitted on the rows is fitted on
    a few of them, and on twice as many until that takes a second; what all rows take follows from
    the growth.
    """
    keys = training_data.fold_keys[: training_data.n_folds]
    resources = resources_for(config, training_data, run, keys, n_jobs)
    measure = _seconds_of_steps if config.steps_take_the_time else _seconds_of_fit
    seconds = measure(config, training_data, keys[0][0], resources.compute)
    return Estimate(seconds, resources.n_jobs, training_data.n_folds)


def _seconds_of_steps(
    config: Config, training_data: TrainingData, seed: int, compute: Compute
) -> float:
    task = task_of(config, training_data, seed, 0, "", compute)
    data = training_data.on_device(compute.device)
    replica = task.replica(data.device)
    of_step = seconds_per_step(config.recipe, data, [replica], compute)
    n_rows = len(task.train_idx)
    n_predicted = task.n_scored * len(task.valid_idx) + _n_test(training_data)
    # A forward pass is a third of a step.
    of_row = of_step / 3 / config.train.for_rows(n_rows).batch_size
    return config.train.n_steps(n_rows) * of_step + n_predicted * of_row


def _n_test(training_data: TrainingData) -> int:
    return training_data.test.n_rows if training_data.test else 0


def _seconds_of_fit(
    config: Config, training_data: TrainingData, seed: int, compute: Compute
) -> float:
    def seconds_on(n_rows: int) -> float:
        part = part_of(training_data, n_rows)
        task = task_of(config, part, seed, 0, "", compute)
        data = part.on_device(compute.device)
        start = time.perf_counter()
        for _ in train_group([task], data, Stopwatch()):
            pass
        return time.perf_counter() - start

    return extrapolated(seconds_on, training_data.train.n_rows)


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
