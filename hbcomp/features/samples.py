"""The signal itself as features, for convolutional nets."""

from typing import ClassVar, Literal

from jaxtyping import Float32, Int64
from torch import Tensor

from hbcomp.features.base import FeatureConfig, MakeFeatures


class SamplesConfig(FeatureConfig):
    """The values of the signal, unchanged."""

    is_of_fold: ClassVar[bool] = False

    name: Literal["samples"] = "samples"

    def shape(self, of_signals: tuple[int, int], n_classes: int) -> tuple[int, int]:  # noqa: ARG002
        """Return the shape of a signal."""
        return of_signals

    def fit(
        self,
        references: Float32[Tensor, "r c t"],  # noqa: ARG002  # as all have it
        labels: Int64[Tensor, "f r"],
        rows: Int64[Tensor, " m"],  # noqa: ARG002  # as all have it
        n_classes: int,  # noqa: ARG002  # as all have it
        n_threads: int = 1,  # noqa: ARG002  # as all have it
    ) -> MakeFeatures:
        """Return a function that returns the signals."""
        return lambda signals, _: signals.expand(len(labels), *signals.shape)
