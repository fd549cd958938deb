"""Weights of a mean, fitted to what its answers cost under rule `half`.

An element (row and class) costs 1 if the mean is on the wrong side of one half, else 0. If all
members are on one side, so is every weighted mean of them. Only the other elements, the contested
ones, can change the cost, so only they are looked at.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from hbcomp.scoring.combinations import Arithmetic, Labels, Stack

Weights = Float64[np.ndarray, " m"]

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


def _as_weights(weights: Weights) -> tuple[float, ...]:
    """Take out the rounding: no weight below 0, and a sum of 1."""
    positive = np.where(weights < 1e-12, 0.0, weights)
    return tuple((positive / positive.sum()).tolist())
