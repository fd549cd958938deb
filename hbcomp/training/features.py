"""The features of all nets of a run, each fitted on the rows that it trains on itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from hbcomp.features.base import FeatureConfig, MakeFeatures
from hbcomp.features.references import References, as_numbers, single_threaded
from hbcomp.nets.signal_input import Scale
from hbcomp.nets.signals import SignalsConfig
from hbcomp.training.loader import NO_LABEL, DeviceData, all_rows
from hbcomp.training.state import Replica


@dataclass(frozen=True)
class FittedFeatures:
    """The features of every net, for the rows they were fitted on and for any others.

    Rows are described in their order, all at once, because the other rows of a product may change
    the last bits of one. No row is its own reference.
    """

    data: DeviceData
    scale: Scale
    make: MakeFeatures
    position: Mapping[tuple[int, ...], int]  # of each net, by its seed

    @cached_property
    def of_rows(self) -> Float[Tensor, "f n d e"]:
        """The features of all rows of the data."""
        rows = torch.arange(len(self.data.labels), device=self.data.device)
        return self._made(all_rows(self.data.signals), rows)

    def of_test(self, signals: Float32[Tensor, "m c t"]) -> Float[Tensor, "f m d e"]:
        """Return the features of the test signals, some of which may be references."""
        trains_on_test = bool((self.data.labels == NO_LABEL).any())
        return self.of_rows[:, -len(signals) :] if trains_on_test else self.of_signals(signals)

    def of_signals(self, signals: Float32[Tensor, "q c t"]) -> Float[Tensor, "f q d e"]:
        """Return the features of signals that are no references."""
        return self._made(signals, torch.full((len(signals),), -1, device=signals.device))

    def _made(self, signals: Tensor, rows: Tensor) -> Tensor:
        with single_threaded():
            return self.make(as_numbers(self.scale, signals), rows)


def fit_features(
    features: FeatureConfig,
    signals: SignalsConfig,
    data: DeviceData,
    replicas: Sequence[Replica],
    n_threads: int,
) -> FittedFeatures:
    """Return the features of nets, each fitted on its training rows and the labels that it learns.

    They are measured on scaled signals, with 0 where a row has no value. The scale, and all else
    that needs no labels, is learned from all labelled rows, for all nets alike; test rows play no
    part in it. The bits depend neither on `n_threads` nor on which of the nets are trained.
    """
    references = references_of(signals, data, replicas)
    n_threads = n_threads if data.device.type == "cpu" else 1
    make = references.fitted(features, data.n_classes, n_threads)
    position = {replica.seed: place for place, replica in enumerate(replicas)}
    return FittedFeatures(data, references.scale, make, position)


def references_of(
    signals: SignalsConfig, data: DeviceData, replicas: Sequence[Replica]
) -> References:
    """Return the rows of the data, on their scale, and the labels that each net learns."""
    rows = torch.nonzero(data.labels != NO_LABEL).flatten()
    scale = Scale(signals, data.shape[0]).to(data.device)
    scale.fit(data.signals, rows)
    labels = torch.full((len(replicas), len(data.labels)), NO_LABEL, device=data.device)
    for of_net, replica in zip(labels, replicas, strict=True):
        of_net[replica.train_idx] = replica.labels(data)[replica.train_idx]
    return References(scale, as_numbers(scale, all_rows(data.signals)), labels, rows)
