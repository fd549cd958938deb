"""What a net is shown of a beat: a section of the configuration that can make it."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float, Float32, Int64
from torch import Tensor

from hbcomp.system.config import Section

# From signals (q, t), and the position of each among the references or -1, to features (q, e).
MakeFeatures = Callable[[Float32[Tensor, "q t"], Int64[Tensor, " q"]], Float[Tensor, "q e"]]


class FeatureConfig(Section):
    """The configuration of features; `fit` learns from a net's own training rows and no others.

    A row that is itself a reference is described as if it were not one, so that rows which are
    trained on and rows which are not look alike to the net.
    """

    # True where features depend on the training rows: then every net has its own.
    is_of_fold: ClassVar[bool]

    name: str

    @abstractmethod
    def width(self, n_timepoints: int, n_classes: int) -> int:
        """Return the number of features of a row."""

    @abstractmethod
    def fit(
        self, references: Float32[Tensor, "r t"], labels: Int64[Tensor, " r"], n_classes: int
    ) -> MakeFeatures:
        """Return what makes features of signals, from the rows that a net trains on."""
