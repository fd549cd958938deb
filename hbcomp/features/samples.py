"""The signal as it is: what nets of convolutions are shown."""

from typing import ClassVar, Literal

from jaxtyping import Float32, Int64
from torch import Tensor

from hbcomp.features.base import FeatureConfig, MakeFeatures


# ARG002: the arguments are those of every kind of features, and samples need none of them.


class SamplesConfig(FeatureConfig):
    """No features but the samples themselves."""

    is_of_fold: ClassVar[bool] = False

    name: Literal["samples"] = "samples"

    def width(self, n_timepoints: int, n_classes: int) -> int:  # noqa: ARG002
        """Return the number of samples."""
        return n_timepoints

    def fit(
        self,
        references: Float32[Tensor, "r t"],  # noqa: ARG002
        labels: Int64[Tensor, " r"],  # noqa: ARG002
        n_classes: int,  # noqa: ARG002
    ) -> MakeFeatures:
        """Return what leaves signals alone."""
        return lambda signals, _: signals
