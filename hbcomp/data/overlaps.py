"""Rows that are overlapping windows of one recording, found from the signals alone.

The end of such a row is the beginning of another one, up to the scale and the offset that each row
was given. The first `HEAD` time steps of every row, each channel centred and scaled, lie in a k-d
tree of their principal axes; the looked-up rows ask it from each of their later time steps on. What
is near is compared over the whole overlap by a line fitted in each channel, with a scale above 0,
and is kept if no more is left over than the rounding of the file explains.

Signals that are alike, such as sines, would be found as well. So the same search is made with the
looked-up rows reversed in time, where only chance can find anything (a decoy, Elias and Gygi 2007,
Nature Methods 4:207-214), and overlaps are counted that are not the only ones at their place. If
either is more than `MAX_FALSE` of what was found, nothing is reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.lib.stride_tricks import sliding_window_view

from hbcomp.data.recovered import Recovered, recover

HEAD: Final = 10  # time steps of a head: the shortest overlap that is found
N_AXES: Final = 6
N_FOR_AXES: Final = 5_000  # rows, at most, whose heads give the axes
N_NEAREST: Final = 3  # heads that are compared at each place; more than one shows ambiguity
EXACT: Final = 1e-5  # residual beside rounding, in standard deviations of the overlap
N_ERRORS: Final = 3.0  # of rounding
BLURRED: Final = 0.02  # rounding error in standard deviations of a head that is too flat to look up
MAX_RATIO: Final = 10.0  # of the scales of two rows, by which the errors of an overlap differ
N_BOUNDS: Final = 10
MAX_FALSE: Final = 0.02  # of what was found
MIN_FOUND: Final = 20  # assumed: of fewer a control says little
BLOCK_VALUES: Final = 1 << 21  # of windows at once: 16 MB in float64

Parts = Sequence[Float32[np.ndarray, "_ c t"]]


@dataclass(frozen=True, eq=False)
class Pairs:
    """The end of row `first`, from time step `lag` on, is the beginning of row `second`."""

    first: Int64[np.ndarray, " p"]
    second: Int64[np.ndarray, " p"]
    lag: Int64[np.ndarray, " p"]
    n_steps: Int64[np.ndarray, " p"]
    residual: Float64[np.ndarray, " p"]
    """Root mean square of what a line leaves over, in standard deviations of the overlap."""

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, kept: np.ndarray) -> "Pairs":
        return Pairs(*(getattr(self, each.name)[kept] for each in fields(self)))

    @property
    def n_ambiguous(self) -> int:
        """How many are not the only pair of their row at its lag, or of their two rows."""
        of_place = _counts(self.first, self.lag)
        of_pair = _counts(self.first, self.second)
        return int(((of_place > 1) | (of_pair > 1)).sum())


def _counts(*columns: np.ndarray) -> Int64[np.ndarray, " p"]:
    rows = np.stack(columns, axis=1)
    _, place, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return counts[place.reshape(-1)].astype(np.int64)


def _joined(parts: Sequence[Pairs]) -> Pairs:
    return Pairs(
        *(np.concatenate([getattr(each, part.name) for each in parts]) for part in fields(Pairs))
    )


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The pairs that were found, and what tells whether to believe them."""

    pairs: Pairs
    looked_up: Int64[np.ndarray, " r"]
    n_rows: int
    n_reversed: int
    """Pairs that were found of the looked-up rows reversed in time."""
    transform: str
    n_inserted: int
    """Time steps that were left out, because they are means of their neighbours."""

    @property
    def is_believed(self) -> bool:
        """Whether there are enough of them, and few that are chance or ambiguous."""
        n_false = max(self.n_reversed, self.pairs.n_ambiguous)
        return len(self.pairs) >= MIN_FOUND and n_false <= MAX_FALSE * len(self.pairs)

    @property
    def share(self) -> float:
        """The share of the looked-up rows that go on in another row."""
        return len(np.unique(self.pairs.first)) / len(self.looked_up)

    @property
    def standard_error(self) -> float:
        """The standard error of the share, because a sample was looked up; of all rows it is 0."""
        n = len(self.looked_up)
        return float(np.sqrt(self.share * (1 - self.share) / n * (1 - n / self.n_rows)))

    @property
    def numbers(self) -> dict[str, Any]:
        """What was found as plain JSON values."""
        return {
            "n_rows": self.n_rows,
            "n_looked_up": len(self.looked_up),
            "n_pairs": len(self.pairs),
            "n_reversed": self.n_reversed,
            "n_ambiguous": self.pairs.n_ambiguous,
            "share": self.share,
            "standard_error": self.standard_error,
            "transform": self.transform,
            "n_inserted": self.n_inserted,
            "is_believed": self.is_believed,
        }

    def of_pairs(self, pairs: Pairs) -> "Overlaps":
        """Return the same with some of the pairs."""
        return replace(self, pairs=pairs)


def find_overlaps(parts: Parts, looked_up: Int64[np.ndarray, " r"]) -> Overlaps:
    """Return where the ends of the looked-up rows are the beginnings of others.

    Rows are numbered through all parts, such as train and test. Of rows with equal beginnings, as
    copies are, one is found.

    Notes
    -----
    Measured on one core, among 120,000 heartbeats of 205 samples: 3 µs a window for exact values,
    20 for values rounded to 4 decimals, because more heads are near. All rows of exact values took
    135 s on a busy core; 24,816 pairs were found, none reversed, 2 ambiguous.

    """
    rows = recover(parts)
    heads = Heads.of(rows)
    found, of_reversed = (
        _search(rows, heads, looked_up, is_reversed=is_reversed) for is_reversed in (False, True)
    )
    return Overlaps(
        found,
        looked_up,
        rows.n_rows,
        n_reversed=len(of_reversed),
        transform=rows.transform,
        n_inserted=parts[0].shape[2] - rows.shape[1],
    )


@dataclass(frozen=True, eq=False)
class Heads:
    """The distinct beginnings of the rows in a k-d tree; flat ones are left out."""

    tree: Any  # scipy's cKDTree
    axes: Float64[np.ndarray, "v a"]
    row: Int64[np.ndarray, " m"]
    error: Float64[np.ndarray, " m"]

    @classmethod
    def of(cls, rows: Recovered) -> "Heads":
        """Return the heads of all rows; of equal ones the first."""
        from scipy.spatial import cKDTree

        sample = np.unique(np.linspace(0, rows.n_rows - 1, N_FOR_AXES).astype(np.int64))
        shapes, _ = _shapes_of_heads(rows, sample)
        _, axes = np.linalg.eigh(shapes.T @ shapes)  # the largest last
        axes = axes[:, -N_AXES:]
        size = max(1, BLOCK_VALUES // (rows.shape[0] * HEAD))
        points, errors = np.empty((rows.n_rows, axes.shape[1])), np.empty(rows.n_rows)
        for start in range(0, rows.n_rows, size):
            block = np.arange(start, min(start + size, rows.n_rows))
            shapes, errors[block] = _shapes_of_heads(rows, block)
            points[block] = shapes @ axes
        (row,) = np.nonzero(errors <= BLURRED)
        keys = np.ascontiguousarray(points[row], dtype=np.float32)
        _, first = np.unique(keys.view(f"V{4 * keys.shape[1]}"), return_index=True)
        row = row[np.sort(first)]
        return cls(cKDTree(points[row]), axes, row, errors[row])


def _shapes_of_heads(
    rows: Recovered, idx: Int64[np.ndarray, " r"]
) -> tuple[Float64[np.ndarray, "r v"], Float64[np.ndarray, " r"]]:
    shapes, errors = _shapes(rows.heads(idx, HEAD)[:, None], rows.noise)
    return shapes[:, 0], errors[:, 0]


def _shapes(
    windows: Float64[np.ndarray, "r l c h"], noise: float
) -> tuple[Float64[np.ndarray, "r l v"], Float64[np.ndarray, "r l"]]:
    """Return windows centred and scaled to norm 1, and their relative error by rounding.

    A channel that hardly varies counts as constant. The error is infinite without a whole window.
    """
    centred = windows - windows.mean(axis=3, keepdims=True)
    deviations = np.sqrt(np.mean(centred**2, axis=3, keepdims=True))
    varies = deviations * BLURRED > noise
    scaled = np.divide(centred, deviations, out=np.zeros_like(centred), where=varies)
    n_varying = varies.sum(axis=(2, 3))
    smallest = np.where(varies, deviations, np.inf).min(axis=(2, 3))
    is_whole = np.isfinite(windows).all(axis=(2, 3)) & (n_varying > 0)
    scaled /= np.sqrt(np.maximum(n_varying, 1) * windows.shape[3])[:, :, None, None]
    error = np.where(is_whole, noise / smallest, np.inf)
    return scaled.reshape(*scaled.shape[:2], -1), error


def _search(
    rows: Recovered, heads: Heads, looked_up: Int64[np.ndarray, " r"], *, is_reversed: bool
) -> Pairs:
    n_channels, n_steps = rows.shape
    size = max(1, BLOCK_VALUES // (n_channels * n_steps * HEAD))
    found = [_NONE]
    for start in range(0, len(looked_up), size):
        block = looked_up[start : start + size]
        values = rows.rows(block, is_reversed=is_reversed)
        place, lag, second = _candidates(values, block, heads, rows.noise)
        # As many candidates at once as there are values in a block.
        n_each = max(1, BLOCK_VALUES // (n_channels * n_steps))
        for at in range(0, len(place), n_each):
            some = slice(at, at + n_each)
            others = rows.rows(second[some])
            n_steps_of, residual, is_pair = _compare(
                values[place[some]], lag[some], others, rows.noise
            )
            found.append(
                Pairs(block[place[some]], second[some], lag[some], n_steps_of, residual)[is_pair]
            )
    return _joined(found)


def _candidates(
    values: Float64[np.ndarray, "r c s"],
    row: Int64[np.ndarray, " r"],
    heads: Heads,
    noise: float,
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
    """Return place of the row, lag and other row wherever a head is near what follows the lag."""
    if values.shape[2] <= HEAD or not len(heads.row):
        return (np.zeros(0, np.int64),) * 3
    windows = sliding_window_view(values[:, :, 1:], HEAD, axis=2).transpose(0, 2, 1, 3)
    shapes, errors = _shapes(windows, noise)
    place, lag = np.nonzero(errors <= BLURRED)
    shapes, errors = shapes[place, lag] @ heads.axes, errors[place, lag]
    distance, near = _nearest(heads, shapes, _radius(errors, MAX_RATIO * errors))
    is_there = np.isfinite(distance)
    near = np.where(is_there, near, 0)
    is_near = is_there & (distance <= _radius(errors[:, None], heads.error[near]))
    is_near &= heads.row[near] != row[place][:, None]
    at, which = np.nonzero(is_near)
    return place[at], lag[at] + 1, heads.row[near[at, which]]


def _nearest(
    heads: Heads, shapes: Float64[np.ndarray, "p a"], reach: Float64[np.ndarray, " p"]
) -> tuple[Float64[np.ndarray, "p k"], Int64[np.ndarray, "p k"]]:
    """Return distance and place of the nearest heads within reach of each shape."""
    distance, near = np.empty((len(reach), N_NEAREST)), np.empty((len(reach), N_NEAREST), np.int64)
    # A query has one bound and is the faster the smaller it is, so like is asked with like.
    for some in np.array_split(np.argsort(reach), N_BOUNDS):
        bound = reach[some].max(initial=0.0)
        distance[some], near[some] = heads.tree.query(
            shapes[some], N_NEAREST, distance_upper_bound=bound
        )
    return distance, near


def _radius(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    found: np.ndarray = 10 * EXACT + N_ERRORS * np.hypot(first, second)
    return found


def _compare(
    values: Float64[np.ndarray, "p c s"],
    lag: Int64[np.ndarray, " p"],
    others: Float64[np.ndarray, "p c s"],
    noise: float,
) -> tuple[Int64[np.ndarray, " p"], Float64[np.ndarray, " p"], Any]:
    """Return time steps, residual and verdict of each overlap."""
    n_steps = values.shape[2]
    places = np.minimum(lag[:, None] + np.arange(n_steps), n_steps - 1)
    ends = np.take_along_axis(values, places[:, None], axis=2)
    is_behind = (lag[:, None] + np.arange(n_steps) >= n_steps)[:, None]
    is_none = np.isnan(ends) | np.isnan(others) | is_behind
    n = np.maximum((~is_none).sum(axis=2), 1)  # (p, c)
    x, y = np.where(is_none, 0.0, others), np.where(is_none, 0.0, ends)
    x = np.where(is_none, 0.0, x - (x.sum(axis=2) / n)[:, :, None])
    y = np.where(is_none, 0.0, y - (y.sum(axis=2) / n)[:, :, None])
    of_x, of_y = (x * x).sum(axis=2), (y * y).sum(axis=2)
    scale = np.divide((x * y).sum(axis=2), of_x, out=np.zeros_like(of_x), where=of_x > 0)
    left = np.sqrt(((y - scale[:, :, None] * x) ** 2).sum(axis=2) / n)
    deviation = np.sqrt(of_y / n)
    limit = EXACT * deviation + N_ERRORS * noise * np.hypot(1.0, scale)
    varies = deviation * BLURRED > noise
    is_pair = (left <= limit).all(axis=1) & ((scale > 0) | ~varies).all(axis=1)
    is_pair &= varies.any(axis=1)
    share = np.divide(left, deviation, out=np.zeros_like(left), where=varies)
    return n.max(axis=1), share.max(axis=1), is_pair


_NONE = Pairs(*(np.zeros(0, np.int64),) * 4, np.zeros(0))
