"""Warnings about values that do not suit the scale on which a net sees them (`signals.scale`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64

from hbcomp.data.dataset import Dataset

N_ROWS: Final = 10_000  # looked at, at even distances
N_VALUES: Final = 2_500_000  # of so many values at most: 20 MB in float64
# Where a net sees values as they are. Measured, 1,200 bundled rows in [0, 1], 3 folds, 6 epochs,
# `dilated` under rule half: 3,583 as they are, 3,367 at 3 times their size, 7,017 with 1 added.
LARGEST: Final = 3.0
# Of its range; below it, outliers leave nearly all values of a channel too little of it. Assumed.
LEAST_SHARE: Final = 0.1


@dataclass(frozen=True, eq=False)
class Range:
    """The range of the values of nearly all rows, by channel; without values it is 0 to 0."""

    low: Float64[np.ndarray, " c"]
    high: Float64[np.ndarray, " c"]

    def words(self, channel: int) -> str:
        """Return the range of a channel in words."""
        return f"from {self.low[channel]:.6g} to {self.high[channel]:.6g}"


def range_of(dataset: Dataset) -> Range:
    """Return the 5 % quantile of the rows' least values and the 95 % quantile of the greatest."""
    n_rows = min(N_ROWS, max(1, N_VALUES // dataset.signals[0].size))
    some = dataset.signals[:: max(1, -(-dataset.n_rows // n_rows))].astype(np.float64)
    lows, highs = np.fmin.reduce(some, axis=2), np.fmax.reduce(some, axis=2)  # (r, c)
    has_value = ~np.isnan(lows)
    low, high = np.zeros(some.shape[1]), np.zeros(some.shape[1])
    for channel, found in enumerate(has_value.T):
        if found.any():
            low[channel] = np.quantile(lows[found, channel], 0.05, method="lower")
            high[channel] = np.quantile(highs[found, channel], 0.95, method="higher")
    return Range(low, high)


def scale_warnings(train: Dataset, test: Dataset | None, scale: str) -> Iterator[str]:
    """Yield what to do about values that do not suit the scale, or test rows in another unit."""
    of_train = range_of(train)
    yield from _unsuited(train, of_train, scale)
    if test is not None:
        yield from unit_warnings(test, of_train, train.source, scale)


def unit_warnings(rows: Dataset, trained: Range, source: str, scale: str) -> Iterator[str]:
    """Yield that the rows lie far from the range of the rows of `source`, which were trained on."""
    if scale == "per-row":  # it undoes any unit and offset
        return
    found = range_of(rows)
    gaps = np.maximum(abs(found.low - trained.low), abs(found.high - trained.high))
    units = np.maximum(trained.high - trained.low, found.high - found.low)
    if channels := np.flatnonzero(gaps > units / 2).tolist():
        yield (
            f"the values of {_named(rows, channels)} go {found.words(channels[0])}, those of "
            f"{source} {trained.words(channels[0])}: bring both files to one unit and offset"
        )


def _unsuited(train: Dataset, found: Range, scale: str) -> Iterator[str]:
    spans = found.high - found.low
    if channels := np.flatnonzero(spans <= 0).tolist():
        yield (f"the values of {_named(train, channels)} do not vary: is this the right column?")
    largest = np.maximum(abs(found.low), abs(found.high))
    far = np.flatnonzero((largest > LARGEST) & (spans > 0)).tolist()
    if scale == "none" and far:
        yield (
            f"the values of {_named(train, far)} go {found.words(far[0])}, and with signals.scale "
            f"none a net sees them as they are, but values beyond {LARGEST:g} can score several "
            "times worse: --set signals.scale=min-max"
        )
    if scale in ("min-max", "standardise"):
        whole = _whole_range(train)
        squeezed = np.flatnonzero((spans < LEAST_SHARE * whole) & (spans > 0)).tolist()
        if squeezed:
            channel = squeezed[0]
            yield (
                f"nearly all values of {_named(train, squeezed)} go {found.words(channel)}, "
                f"{100 * spans[channel] / whole[channel]:.2g} % of the range that the outliers "
                f"span: correct those of id {_outlier(train, found, channel)}, or try "
                "--set signals.scale=per-row"
            )


def _whole_range(train: Dataset) -> Float64[np.ndarray, " c"]:
    highest = np.fmax.reduce(np.fmax.reduce(train.signals, axis=2), axis=0).astype(np.float64)
    lowest = np.fmin.reduce(np.fmin.reduce(train.signals, axis=2), axis=0).astype(np.float64)
    whole: np.ndarray = np.nan_to_num(highest - lowest)
    return whole


def _outlier(train: Dataset, found: Range, channel: int) -> str:
    """Return the id of the row whose values leave the range of a channel farthest."""
    values = train.signals[:, channel]
    above = np.fmax.reduce(values, axis=1) - found.high[channel]
    below = found.low[channel] - np.fmin.reduce(values, axis=1)
    return str(train.ids[np.nanargmax(np.fmax(above, below))])


def _named(dataset: Dataset, channels: list[int]) -> str:
    if dataset.signals.shape[1] == 1:
        return dataset.source
    others = f" and {len(channels) - 1} more" if len(channels) > 1 else ""
    return f"channel {channels[0] + 1}{others} of {dataset.source}"
