"""Folds of a study trained by the workers of a Dask cluster, while the caller keeps the study."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

from hbcomp.crossval.cluster import ClusterCalls, in_memory
from hbcomp.crossval.training_data import TrainingData
from hbcomp.data.splits import Folds
from hbcomp.experiment.config import Config
from hbcomp.scoring.paired import RowScores
from hbcomp.training.device import Compute
from hbcomp.training.loader import DeviceData
from hbcomp.tuning.trial import StudyContext, features_of_folds, fold_scores, pack, unpack


@dataclass(frozen=True)
class StudyCluster:
    """The workers of a cluster, which hold the rows and the folds of a study."""

    folds_of_seed: Mapping[int, Folds]
    greater_is_better: bool
    calls: ClusterCalls

    def score_fold(self, config: Config, seed: int, fold: int) -> RowScores:
        """Return the scores of a fold's held-out rows once a worker has trained it.

        Threads may call it at the same time.
        """
        return unpack(self.calls(_score_fold, config, seed, fold), self.greater_is_better)

    def interrupt(self) -> None:
        """End the threads that wait for a fold, with SystemExit."""
        self.calls.cancel()


@dataclass(frozen=True, eq=False)
class _Sent:
    """What every worker holds."""

    context: StudyContext
    training_data: TrainingData
    compute: Compute


@contextmanager
def study_cluster(
    context: StudyContext,
    training_data: TrainingData,
    folds_of_seed: Mapping[int, Folds],
    compute: Compute,
) -> Iterator[StudyCluster]:
    """Send the train rows and the folds of the study to every worker, and yield the cluster.

    The folds are not made by the workers, because they may follow from files here.
    """
    address = context.base.compute.cluster
    rows = replace(training_data, test=None, folds_of_seed=folds_of_seed)
    calls = ClusterCalls(address, _Sent(context, in_memory(rows), compute), "trials")
    try:
        yield StudyCluster(folds_of_seed, context.metric.greater_is_better, calls)
    finally:
        calls.on_every_worker(_forget)


def _score_fold(sent: _Sent, config: Config, seed: int, fold: int) -> str:
    """Return the packed scores of a fold's held-out rows; a worker calls it."""
    data = _on_device(sent.training_data, sent.compute.device)
    folds = sent.training_data.folds_of_seed[seed]
    *_, rows = fold_scores(sent.context, config, data, folds, fold, sent.compute)
    return pack(rows)


@lru_cache(maxsize=1)  # so are the features of all folds, which are made from the same rows
def _on_device(training_data: TrainingData, device: str) -> DeviceData:
    return training_data.on_device(device)


def _forget() -> None:
    """Free the memory of a worker that outlives the study."""
    _on_device.cache_clear()
    features_of_folds.cache_clear()
