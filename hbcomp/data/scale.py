"""Warnings about values far from [0, 1], which the nets were made for and hbcomp never rescales."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from hbcomp.data.dataset import Dataset

N_ROWS: Final = 10_000  # looked at, at even distances
N_VALUES: Final = 2_500_000  # of so many values at most: 20 MB in float64
# Measured, 1,200 bundled rows in 3 folds, 6 epochs, `dilated` under rule half: 3,583 as they are,
# 3,367 at 3 times their size, 5,100 at 0.3 times, 7,017 with 1 added; `resnet` on standardised rows
# 3,367 instead of 2,700.
LOW: Final = (-0.6, 0.5)
HIGH: Final = (0.5, 3.2)
SPAN: Final = (0.4, 3.2)


@dataclass(frozen=True)
class Scale:
    """The range of the values of nearly all rows, without zero padding.

    `span` is the typical difference between the largest and the smallest value of a row.
    """

    low: float
    high: float
    span: float

    @property
    def is_far(self) -> bool:
        """The values are far from [0, 1], or their range is of another size."""
        found = ((self.low, LOW), (self.high, HIGH), (self.span, SPAN))
        return not all(least <= value <= most for value, (least, most) in found)

    @property
    def formula(self) -> str:
        """The formula that brings the values to [0, 1]."""
        if self.high <= self.low:
            return "the values do not vary: is this the right column?"
        shift = f"(value - {self.low:.6g})" if self.low > 0 else f"(value + {-self.low:.6g})"
        shifted = shift if self.low else "value"
        return f"write {shifted} / {self.high - self.low:.6g} into train and test files alike"


def scale_of(dataset: Dataset) -> Scale:
    """Return the scale of a data set's values; of zeros alone it is 0."""
    n_rows = min(N_ROWS, max(1, N_VALUES // dataset.flat.shape[1]))
    some = dataset.signals[:: max(1, -(-dataset.n_rows // n_rows))].astype(np.float64)
    of_step = (some != 0).any(axis=1)[:, ::-1]
    is_value = np.maximum.accumulate(of_step, axis=1)[:, ::-1]  # no trailing zero
    is_value = np.repeat(is_value[:, None], some.shape[1], axis=1).reshape(len(some), -1)
    some = some.reshape(len(some), -1)
    some, is_value = some[is_value.any(axis=1)], is_value[is_value.any(axis=1)]
    if not len(some):
        return Scale(0.0, 0.0, 0.0)
    lows = np.where(is_value, some, np.inf).min(axis=1)
    highs = np.where(is_value, some, -np.inf).max(axis=1)
    return Scale(
        low=float(np.quantile(lows, 0.05, method="lower")),
        high=float(np.quantile(highs, 0.95, method="higher")),
        span=float(np.median(highs - lows)),
    )


def scale_warnings(train: Dataset, test: Dataset | None = None) -> Iterator[str]:
    """Yield what to do about values far from [0, 1], or of test rows far from the training rows."""
    of_train = scale_of(train)
    if of_train.is_far:
        yield (
            f"the values of {train.source} go from {of_train.low:.6g} to {of_train.high:.6g}, by "
            f"about {of_train.span:.6g} within a row, but the nets were made for values in [0, 1] "
            "and can score several times worse; hbcomp rescales nothing: "
            f"{of_train.formula}"
        )
    if test is None:
        return
    of_test = scale_of(test)
    unit = of_train.high - of_train.low
    gaps = (abs(of_test.low - of_train.low), abs(of_test.high - of_train.high))
    if max(gaps) > max(unit, of_test.high - of_test.low) / 2:
        yield (
            f"the values of {test.source} go from {of_test.low:.6g} to {of_test.high:.6g}, those "
            f"of {train.source} from {of_train.low:.6g} to {of_train.high:.6g}: bring both files "
            "to one unit and offset"
        )
