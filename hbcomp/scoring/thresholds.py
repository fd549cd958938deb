"""The exactly optimal clipping thresholds, by one sort.

With the values p sorted and their targets y in {0, 1}, cut the order at k <= m: the k smallest
become 0, those from m on become 1, the rest stays. Against leaving everything as it is,

    setting p to 0 changes |p - y| by   y - |p - y|     = p (2y - 1)
    setting p to 1 changes |p - y| by  (1 - y) - |p - y| = (1 - p)(1 - 2y)

so the change is A[k] + B[m], with A the cumulative sum of the first from the left and B of the
second from the right. For each m the best k <= m is a running minimum of A: after the sort it
is linear. Cuts are allowed only where a threshold fits strictly between two values, so equal
values are never parted.

Two thresholds never beat one: |p - y| is the mean over t ~ U(0, 1) of |1[p > t] - y|, so a kept
band costs the average of the hard thresholds inside it, and some single one is at least as good.
"""

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from hbcomp.scoring.decision import Clip, ClipPerClass


def fit_clip(probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> Clip:
    """Return the `Clip` with the least abs-sum on these rows; no other pair does better."""
    targets = labels[:, None] == np.arange(probs.shape[1])
    lo, hi = _best_thresholds(probs.ravel(), targets.ravel())
    return Clip(lo=lo, hi=hi)


def fit_clip_per_class(
    probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> ClipPerClass:
    """Return the `ClipPerClass` with the least abs-sum on these rows: each class by itself."""
    pairs = [_best_thresholds(column, labels == label) for label, column in enumerate(probs.T)]
    return ClipPerClass(lo=tuple(lo for lo, _ in pairs), hi=tuple(hi for _, hi in pairs))


def _best_thresholds(values: Float[np.ndarray, " m"], targets: np.ndarray) -> tuple[float, float]:
    order = np.argsort(values, kind="stable")
    ascending = values[order].astype(np.float64)
    signs = 2.0 * targets[order] - 1.0
    to_zero = np.concatenate([[0.0], np.cumsum(ascending * signs)])
    to_one = np.concatenate([np.cumsum(((ascending - 1.0) * signs)[::-1])[::-1], [0.0]])
    cuts, thresholds = _cuts(ascending)
    best_below = np.minimum.accumulate(to_zero[cuts])
    high = int(np.argmin(best_below + to_one[cuts]))
    low = int(np.argmin(to_zero[cuts[: high + 1]]))
    return float(thresholds[low]), float(thresholds[high])


def _cuts(
    ascending: Float64[np.ndarray, " m"],
) -> tuple[Int64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """Return where the order may be cut and a threshold for each cut, in the middle of the gap.

    -1 and 2 stand for the values beyond the ends, so "nothing" and "everything" are cuts too.
    """
    padded = np.concatenate([[-1.0], ascending, [2.0]])
    middles = padded[:-1] + (padded[1:] - padded[:-1]) / 2
    cuts = np.flatnonzero((padded[:-1] < middles) & (middles < padded[1:]))
    return cuts, middles[cuts]


def threshold_costs(
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    lows: Float[np.ndarray, " points"],
    highs: Float[np.ndarray, " points"],
    scale: float = 1.0,
) -> Float[np.ndarray, " points"]:
    """Return the abs-sum per `scale` rows of `clip(low, high)` for every pair, `low <= high`.

    A probability below `low` becomes 0, one above `high` becomes 1, the rest is kept. With
    `low == high == t` and no probability equal to t this is the single threshold t. All
    comparisons are in float64.
    """
    if (lows > highs).any():
        raise ValueError("`low <= high` must hold in every pair")
    values = probs.astype(np.float64).ravel()
    order = np.argsort(values)
    values = values[order]
    truths = (np.arange(probs.shape[1]) == labels[:, None]).ravel()[order].astype(np.float64)
    # The sorted elements fall into three runs, cut before the first >= low and after the last
    # <= high; each run's cost is a difference of one cumulative sum.
    as_zero = _cumulative(truths)  # |0 - y|
    as_kept = _cumulative(np.abs(values - truths))
    as_one = _cumulative(1 - truths)  # |1 - y|
    first = np.searchsorted(values, lows, "left")
    last = np.searchsorted(values, highs, "right")
    cost = as_zero[first] + as_kept[last] - as_kept[first] + as_one[-1] - as_one[last]
    return np.asarray(cost * (scale / len(probs)))


def _cumulative(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n+1"]:
    return np.concatenate(([0.0], np.cumsum(values)))
