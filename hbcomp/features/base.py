"""Features of rows: the sections of the configuration that make them."""

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

    A row that is itself a reference is described as if it were not one, so that the features of
    training rows and of other rows are alike.
    """

    # True if features depend on the training rows, so that every net has its own.
    is_of_fold: ClassVar[bool]

    name: str

    @abstractmethod
    def width(self, n_timepoints: int, n_classes: int) -> int:
        """Return the number of features of a row."""

    @abstractmethod
    def fit(
        self, references: Float32[Tensor, "r t"], labels: Int64[Tensor, " r"], n_classes: int
    ) -> MakeFeatures:
        """Return a function that makes features of signals, fitted on the rows of a net."""
