"""Signals as they were recorded: without columns that were inserted, before a transform.

Some files were resampled by inserting the mean of two neighbouring columns, and then passed through
a function such as log2(1 + x). Undone, rows that overlap differ by scale and offset only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int64

N_SAMPLED: Final = 2_000  # rows, from which columns, transform and rounding are told
MAX_INSERTED: Final = 1 / 3  # of the columns; more, and the signals are straight lines
# Of a column's values, at least, are means of their neighbours if it was inserted; not all, because
# of SMOTE rows, made after the transform, none is. On the replica 0.5 to 0.82 of 18 columns and at
# most 0.14 of the others.
MOST: Final = 0.4
LEAST_TELLING: Final = 20  # values beside a slope, without which a column is kept
TRANSFORMS: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "x": lambda x: x,
    "2^x": np.exp2,
    "e^x": np.exp,
    "10^x": lambda x: 10.0**x,
    "x^2": np.square,
    "sqrt(x)": np.sqrt,
    "log(1 + x)": np.log1p,
}


@dataclass(frozen=True, eq=False)
class Recovered:
    """Rows of several arrays, numbered through all of them, as they were recorded."""

    parts: Sequence[Float32[np.ndarray, "_ c t"]]
    transform: str
    kept: Int64[np.ndarray, " s"]
    """The time steps that were not inserted."""
    noise: float
    """The standard deviation of the rounding error of a value."""

    @property
    def n_rows(self) -> int:
        """The number of rows of all arrays."""
        return sum(map(len, self.parts))

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and time steps of a row."""
        return self.parts[0].shape[1], len(self.kept)

    def rows(
        self, idx: Int64[np.ndarray, " r"], *, is_reversed: bool = False
    ) -> Float64[np.ndarray, "r c s"]:
        """Return rows, each with its first value at its beginning and NaN behind its last."""
        values = TRANSFORMS[self.transform](self._stored(idx, self.kept))
        return _aligned(values[:, :, ::-1] if is_reversed else values)

    def heads(self, idx: Int64[np.ndarray, " r"], n_steps: int) -> Float64[np.ndarray, "r c h"]:
        """Return the first time steps of rows, without reading the others where they are padded
        at the end.
        """
        first = self._stored(idx, self.kept[:n_steps])
        if np.isnan(first[:, :, 0]).all(axis=1).any():
            return self.rows(idx)[:, :, :n_steps]
        return TRANSFORMS[self.transform](first)

    def _stored(
        self, idx: Int64[np.ndarray, " r"], steps: Int64[np.ndarray, " s"]
    ) -> Float64[np.ndarray, "r c s"]:
        values = np.empty((len(idx), self.shape[0], len(steps)))
        start = 0
        for part in self.parts:
            is_here = (idx >= start) & (idx < start + len(part))
            values[is_here] = part[(idx[is_here] - start)[:, None], :, steps].transpose(0, 2, 1)
            start += len(part)
        return values


def _aligned(values: Float64[np.ndarray, "r c s"]) -> Float64[np.ndarray, "r c s"]:
    starts = np.argmax((~np.isnan(values)).any(axis=1), axis=1)
    if not starts.any():
        return values
    n_steps = values.shape[2]
    places = starts[:, None] + np.arange(n_steps)
    found = np.take_along_axis(values, np.minimum(places, n_steps - 1)[:, None], axis=2)
    return np.where((places < n_steps)[:, None], found, np.nan)


def recover(parts: Sequence[Float32[np.ndarray, "_ c t"]]) -> Recovered:
    """Return the rows without inserted columns, under the transform that shows the most of them.

    A column was inserted if it is the mean of its neighbours, up to rounding, in nearly all rows of
    a sample where these differ. Without such columns the values stay as they are.
    """
    sample = parts[0][:: max(1, len(parts[0]) // N_SAMPLED)].astype(np.float64)
    noise = rounding_error(sample)
    most = 0.0
    found = Recovered(parts, "x", np.arange(sample.shape[2]), noise)
    for name, transform in TRANSFORMS.items():
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            values = transform(sample)
        if not np.array_equal(np.isfinite(values), np.isfinite(sample)):
            continue
        noise_of_values = noise * _steepness(sample, values)
        shares = _shares_of_means(values, noise_of_values)
        is_inserted = shares >= MOST
        if most < shares[is_inserted].sum() and is_inserted.mean() <= MAX_INSERTED:
            most = shares[is_inserted].sum()
            found = Recovered(parts, name, np.flatnonzero(~is_inserted), noise_of_values)
    return found


def _steepness(sample: np.ndarray, values: np.ndarray) -> float:
    """Return how much a transform enlarges differences, on average over the range."""
    low, high = np.nanmin(sample, initial=np.inf), np.nanmax(sample, initial=-np.inf)
    span = np.nanmax(values, initial=-np.inf) - np.nanmin(values, initial=np.inf)
    return max(1.0, float(span / (high - low))) if high > low else 1.0


def _shares_of_means(
    values: Float64[np.ndarray, "r c t"], noise: float
) -> Float64[np.ndarray, " t"]:
    """Return for each time step which share of the values is the mean of both neighbours."""
    left, middle, right = values[..., :-2], values[..., 1:-1], values[..., 2:]
    tolerance = 2 * np.sqrt(3) * noise  # twice the largest error of a value rounded to decimals
    tells = np.abs(right - left) > 10 * tolerance  # not where the signal is flat
    is_mean = np.abs(middle - (left + right) / 2) <= tolerance
    n_telling, n_means = tells.sum(axis=(0, 1)), (is_mean & tells).sum(axis=(0, 1))
    shares = np.zeros(values.shape[2])
    shares[1:-1] = np.where(n_telling >= LEAST_TELLING, n_means / np.maximum(n_telling, 1), 0.0)
    return shares


def rounding_error(values: np.ndarray) -> float:
    """Return the standard deviation of the rounding of values: to decimals, or that of float32."""
    values = values[~np.isnan(values)]
    of_float32 = 2.0**-24 * float(np.abs(values).max(initial=0.0))
    for n_decimals in range(7):
        unit = 10.0**-n_decimals
        if (np.abs(values - np.round(values / unit) * unit) <= 2 * of_float32).all():
            return max(of_float32, unit / 12**0.5)
    return of_float32
