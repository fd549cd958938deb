"""The rows that features are measured from, as training and a model that is served have them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from hbcomp.features.base import FeatureConfig, MakeFeatures
from hbcomp.nets.signal_input import Scale


@dataclass(frozen=True)
class References:
    """Rows on their scale, and the labels that each net learns, -1 where it does not know a row.

    What needs no labels is learned from `rows`, for all nets alike.
    """

    scale: Scale
    signals: Float32[Tensor, "r c t"]
    labels: Int64[Tensor, "f r"]
    rows: Int64[Tensor, " m"]

    def fitted(self, features: FeatureConfig, n_classes: int, n_threads: int) -> MakeFeatures:
        """Return the function that describes scaled signals, for every net."""
        with single_threaded():
            return features.fit(self.signals, self.labels, self.rows, n_classes, n_threads)


def as_numbers(scale: Scale, signals: Float32[Tensor, "q c t"]) -> Float32[Tensor, "q c t"]:
    """Return signals on a scale, with 0 where a row has no value."""
    scaled: Tensor = scale(signals)
    return scaled.nan_to_num(0.0)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute in one thread on a CPU, also in threads that are started meanwhile."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
