"""Simple statistics of the parts of a signal: of each segment of time, in each channel."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int64

from hbcomp.data.dataset import Dataset
from hbcomp.system.memory import BLOCK_BYTES

MAX_SEGMENTS: Final = 10
MAX_PARTS: Final = 200  # of all channels together, where there are no more channels than that
STATISTICS: Final = ("mean", "standard deviation", "roughness", "share without value")


@dataclass(frozen=True)
class Part:
    """Time steps `start` to `stop - 1` of a channel, both counted from 0."""

    channel: int
    start: int
    stop: int

    def words(self, n_channels: int) -> str:
        """Return the part in words; time steps and channels are counted from 1."""
        of = f"channel {self.channel + 1}, " if n_channels > 1 else ""
        return f"{of}time steps {self.start + 1} to {self.stop}"


def parts_of(shape: tuple[int, int]) -> list[Part]:
    """Return the parts of signals of `(channels, time steps)`, channel after channel."""
    n_channels, n_steps = shape
    n_segments = max(1, min(MAX_SEGMENTS, MAX_PARTS // n_channels, n_steps))
    edges = np.linspace(0, n_steps, n_segments + 1).astype(int).tolist()
    return [
        Part(channel, start, stop)
        for channel in range(n_channels)
        for start, stop in pairwise(edges)
    ]


def segment_statistics(
    dataset: Dataset, rows: Int64[np.ndarray, " r"]
) -> Float64[np.ndarray, "r p s"]:
    """Return the `STATISTICS` of each part of some rows; NaN where there are no values for one.

    Roughness is the mean absolute difference of consecutive values.
    """
    parts = parts_of(dataset.shape)
    # Block by block, because the rows may be more than fit into memory.
    size = max(1, BLOCK_BYTES // (4 * dataset.signals[:1].nbytes))
    found = np.empty((len(rows), len(parts), len(STATISTICS)))
    for start in range(0, len(rows), size):
        signals = dataset.signals[rows[start : start + size]]
        for place, part in enumerate(parts):
            values = signals[:, part.channel, part.start : part.stop]
            found[start : start + size, place] = _statistics(values)
    return found


def _statistics(values: Float32[np.ndarray, "r t"]) -> Float64[np.ndarray, "r s"]:
    wide = values.astype(np.float64)
    mean = _mean(wide)
    deviation = np.sqrt(_mean((wide - mean[:, None]) ** 2))
    roughness = _mean(np.abs(np.diff(wide, axis=1)))
    return np.stack([mean, deviation, roughness, np.isnan(wide).mean(axis=1)], axis=1)


def _mean(values: Float64[np.ndarray, "r t"]) -> Float64[np.ndarray, " r"]:
    """Return the mean of each row's values, NaN for a row without any."""
    is_value = ~np.isnan(values)
    n_values = is_value.sum(axis=1)
    total = np.where(is_value, values, 0.0).sum(axis=1)
    means = np.full(len(values), np.nan)
    np.divide(total, n_values, out=means, where=n_values > 0)
    return means
