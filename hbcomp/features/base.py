"""Features of rows: the sections of the configuration that make them."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float, Float32, Int64
from torch import Tensor

from hbcomp.system.config import Section

# From signals (q, c, t), and the row of each among the references or -1, to what every net sees.
MakeFeatures = Callable[[Float32[Tensor, "q c t"], Int64[Tensor, " q"]], Float[Tensor, "f q d e"]]


class FeatureConfig(Section):
    """The configuration of features, which are fitted for all nets of a run at once.

    What needs labels is learned from a net's own training rows and no others. Signals come scaled,
    with 0 where a row has no value.

    A row that is itself a reference is described as if it were not one, so that the features of
    training rows and of other rows are alike.
    """

    # True if features depend on the training rows, so that every net has its own.
    is_of_fold: ClassVar[bool]

    name: str

    @abstractmethod
    def shape(self, of_signals: tuple[int, int], n_classes: int) -> tuple[int, int]:
        """Return the shape of what a net sees of a row, as channels and time steps."""

    def operations_per_row(self, n_references: int) -> int:  # noqa: ARG002
        """Return how many additions and multiplications it takes at least to describe a row."""
        return 0

    @abstractmethod
    def fit(
        self,
        references: Float32[Tensor, "r c t"],
        labels: Int64[Tensor, "f r"],
        rows: Int64[Tensor, " m"],
        n_classes: int,
        n_threads: int = 1,
    ) -> MakeFeatures:
        """Return a function that makes features of signals for every net.

        `labels` are those that each net learns, or -1 where it does not train on a row. What needs
        no labels is learned from `rows`, for all nets alike.
        """
