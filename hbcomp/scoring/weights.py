"""Weights of a mean, fitted to what its answers cost under rule `half`.

An element (row and class) costs 1 if the mean is on the wrong side of one half, else 0. If all
members are on one side, so is every weighted mean of them. Only the other elements, the contested
ones, can change the cost, so only they are looked at.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from hbcomp.scoring.blending import Arithmetic, Labels, Stack, equal

Weights = Float64[np.ndarray, " m"]

# A step into a narrower interval could end on its other side by rounding.
MIN_MARGIN = 1e-9
# The step sizes of hill climbing as it is done on Kaggle, without its negative ones.
HILL_STEPS = np.arange(1, 51) / 100


def fit_greedy(stack: Stack, labels: Labels, n_picks: int = 50) -> Arithmetic:
    """Return the weights of ensemble selection with replacement.

    Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004: from nothing, add
    the member that makes the mean of all picks cheapest, `n_picks` times, and keep the cheapest
    prefix. Between equal costs the smaller squared error on the contested elements decides, then
    the earlier prefix.
    """
    contested = _contested(stack, labels)
    picks: list[int] = []
    prefix_losses: list[tuple[int, float]] = []
    total = np.zeros(contested.values.shape[1])
    for n_picked in range(1, n_picks + 1):
        losses = [contested.loss((total + values) / n_picked) for values in contested.values]
        best = min(range(len(stack)), key=losses.__getitem__)
        total += contested.values[best]
        picks.append(best)
        prefix_losses.append(losses[best])
    n_kept = 1 + min(range(n_picks), key=prefix_losses.__getitem__)
    counts = np.bincount(picks[:n_kept], minlength=len(stack))
    return Arithmetic(weights=tuple((counts / n_kept).tolist()))


def fit_hill_climb(stack: Stack, labels: Labels) -> Arithmetic:
    """Return the weights of hill climbing from the best single member.

    Each step blends in the member and the share, of 1 to 50 %, that lower the cost most; it stops
    when none does. Ties are broken as in `fit_greedy`.
    """
    contested = _contested(stack, labels)
    corners = np.eye(len(stack))
    weights = min(corners, key=contested.loss_of)
    while True:
        best = min(
            ((1 - step) * weights + step * corner for corner in corners for step in HILL_STEPS),
            key=contested.loss_of,
        )
        if contested.loss_of(best)[0] >= contested.loss_of(weights)[0]:
            return Arithmetic(weights=_as_weights(weights))
        weights = best


def fit_line_search(stack: Stack, labels: Labels) -> Arithmetic:
    """Return weights that no step towards or away from a member makes cheaper.

    Each round finds the best step for each member exactly (see `_best_on_line`) and takes the best
    of them, until none is cheaper. Of two runs, from equal weights and from the best single
    member, the cheaper end counts. Ties are broken as in `fit_greedy`.
    """
    # Measured on simulated members (100,000 rows, m = 2 to 10): to start from every member lowers
    # the in-sample cost by 0.3 % at most and takes m / 2 times as long; steps between two members
    # too lower it as little, gain nothing on fresh rows and take 2.5 times as long.
    contested = _contested(stack, labels)
    starts = [np.array(equal(len(stack))), min(np.eye(len(stack)), key=contested.loss_of)]
    ends = [_descend(contested, start) for start in starts]
    return Arithmetic(weights=_as_weights(min(ends, key=contested.loss_of)))


@dataclass(frozen=True)
class _Contested:
    """The elements that weights can move over one half, and whether each is the true class."""

    values: Float64[np.ndarray, "m e"]
    is_true: Bool[np.ndarray, " e"]

    def n_wrong(self, blend: Float64[np.ndarray, " e"]) -> int:
        """Return what these elements cost; the others cost the same for all weights."""
        return int(np.count_nonzero((blend > 0.5) != self.is_true))

    def loss(self, blend: Float64[np.ndarray, " e"]) -> tuple[int, float]:
        """Return the cost and, for ties, the squared error."""
        return self.n_wrong(blend), float(np.square(blend - self.is_true).sum())

    def loss_of(self, weights: Weights) -> tuple[int, float]:
        """Return the loss of the members' mean with these weights."""
        return self.loss(weights @ self.values)


def _contested(stack: Stack, labels: Labels) -> _Contested:
    is_above = stack > 0.5
    is_contested = is_above.any(axis=0) & ~is_above.all(axis=0)
    is_true = labels[:, None] == np.arange(stack.shape[2])
    return _Contested(stack[:, is_contested], is_true[is_contested])


def _descend(contested: _Contested, weights: Weights) -> Weights:
    cost = contested.loss_of(weights)[0]
    while True:
        ends = [_best_on_line(contested, weights, corner) for corner in np.eye(len(weights))]
        best = min(ends, key=contested.loss_of)
        # Counted anew at the very weights, so that each round lowers the cost.
        if contested.loss_of(best)[0] >= cost:
            return weights
        weights, cost = best, contested.loss_of(best)[0]


def _best_on_line(contested: _Contested, weights: Weights, corner: Weights) -> Weights:
    """Return the cheapest weights on the line through a member's corner of the simplex, exactly.

    At (1 - s) * weights + s * corner element e is p + s * d with p and d known, so it crosses one
    half at s = (0.5 - p) / d and nowhere else. Between two crossings in a row the cost is
    constant: it is a step function of s, and a sort and a cumulative sum give all its values. Of
    the cheapest steps that one is taken where the distance to the next crossing can be made
    largest: its middle, or the end of the line.
    """
    share = float(weights @ corner)
    if share == 1.0:
        return weights
    low, high = -share / (1 - share), 1.0  # without the member, and nothing else
    values, slopes = weights @ contested.values, (corner - weights) @ contested.values
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = (0.5 - values) / slopes
    crossed = np.flatnonzero((low < crossings) & (crossings < high))
    crossed = crossed[np.argsort(crossings[crossed], kind="stable")]
    is_mended = (slopes[crossed] > 0) == contested.is_true[crossed]
    costs = np.concatenate([[0], np.cumsum(np.where(is_mended, -1, 1))])  # against that at `low`
    edges = np.concatenate([[low], crossings[crossed], [high]])
    steps = (edges[:-1] + edges[1:]) / 2
    steps[-1], steps[0] = high, low
    margins = np.diff(edges) / 2
    margins[[0, -1]] *= 2
    costs[margins < MIN_MARGIN] = len(costs)  # as if all became wrong
    best = np.lexsort((-margins, costs))[0]
    return _project((1 - steps[best]) * weights + steps[best] * corner)


def _project(weights: Weights) -> Weights:
    """Take out the rounding: no weight below 0, and a sum of 1."""
    positive = np.where(weights < 1e-12, 0.0, weights)
    normalised: Weights = positive / positive.sum()
    return normalised


def _as_weights(weights: Weights) -> tuple[float, ...]:
    return tuple(_project(weights).tolist())
