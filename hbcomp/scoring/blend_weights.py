"""Weights of a mean, fitted to the score of its answers under the metric's fixed rule."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from hbcomp.scoring.choice import fixed_rule
from hbcomp.scoring.combinations import Arithmetic, Labels, Stack
from hbcomp.scoring.decision import DecisionRule, Half
from hbcomp.scoring.metrics import Metric
from hbcomp.scoring.row_metrics import brier_of_rows

Weights = Float64[np.ndarray, " m"]
Values = Float64[np.ndarray, " e"]
Loss = tuple[float, float]

# The step sizes of hill climbing as it is done on Kaggle, without its negative ones.
HILL_STEPS = np.arange(1, 51) / 100


def fit_greedy(metric: Metric, stack: Stack, labels: Labels, n_picks: int = 50) -> Arithmetic:
    """Return the weights of ensemble selection with replacement.

    Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004: from nothing, add
    the base model that makes the mean of all picks best, `n_picks` times, and keep the best
    prefix. Between equal scores the smaller squared error decides, then the earlier prefix.
    """
    objective = _objective(metric, stack, labels)
    picks: list[int] = []
    prefix_losses: list[Loss] = []
    total = np.zeros(objective.values.shape[1])
    for n_picked in range(1, n_picks + 1):
        losses = [objective.loss((total + values) / n_picked) for values in objective.values]
        best = min(range(len(stack)), key=losses.__getitem__)
        total += objective.values[best]
        picks.append(best)
        prefix_losses.append(losses[best])
    n_kept = 1 + min(range(n_picks), key=prefix_losses.__getitem__)
    counts = np.bincount(picks[:n_kept], minlength=len(stack))
    return Arithmetic(weights=tuple((counts / n_kept).tolist()))


def fit_hill_climb(metric: Metric, stack: Stack, labels: Labels) -> Arithmetic:
    """Return the weights of hill climbing from the best single base model.

    Each step blends in the base model and the share, of 1 to 50 %, that improve the score most; it
    stops when none does. Ties are broken as in `fit_greedy`.
    """
    objective = _objective(metric, stack, labels)
    corners = np.eye(len(stack))

    def loss_of(weights: Weights) -> Loss:
        return objective.loss(weights @ objective.values)

    weights = min(corners, key=loss_of)
    while True:
        best = min(
            ((1 - step) * weights + step * corner for corner in corners for step in HILL_STEPS),
            key=loss_of,
        )
        if loss_of(best)[0] >= loss_of(weights)[0]:
            return Arithmetic(weights=_as_weights(weights))
        weights = best


@dataclass(frozen=True, eq=False)
class _Contested:
    """The abs-sum under threshold 0.5, of the elements that weights can move over one half.

    An element costs 1 if the mean is on the wrong side of one half, else 0. If all base models are
    on one side, so is every weighted mean of them, so the others need not be looked at.
    """

    values: Float64[np.ndarray, "m e"]
    is_true: Bool[np.ndarray, " e"]

    def loss(self, blend: Values) -> Loss:
        """Return the number of wrong elements and, for ties, the squared error."""
        n_wrong = int(np.count_nonzero((blend > 0.5) != self.is_true))
        return float(n_wrong), float(np.square(blend - self.is_true).sum())


def _contested(stack: Stack, labels: Labels) -> _Contested:
    is_above = stack > 0.5
    is_contested = is_above.any(axis=0) & ~is_above.all(axis=0)
    is_true = labels[:, None] == np.arange(stack.shape[2])
    return _Contested(stack[:, is_contested], is_true[is_contested])


@dataclass(frozen=True, eq=False)
class _Scored:
    """The score of any metric, of all elements."""

    metric: Metric
    stack: Stack
    labels: Labels

    @property
    def values(self) -> Float64[np.ndarray, "m e"]:
        """The elements of each base model."""
        return self.stack.reshape(len(self.stack), -1)

    def loss(self, blend: Values) -> Loss:
        """Return the score, negative if greater is better, and for ties the squared error."""
        probs = blend.reshape(self.stack.shape[1:])
        rule: DecisionRule = fixed_rule(self.metric)
        score = self.metric.score(rule.apply(probs), self.labels)
        loss = -score if self.metric.greater_is_better else score
        return loss, float(brier_of_rows(probs, self.labels).sum())


def _objective(metric: Metric, stack: Stack, labels: Labels) -> _Contested | _Scored:
    """Return what weights are fitted to: a loss of the weighted mean of `values`."""
    is_half = isinstance(fixed_rule(metric), Half)
    return _contested(stack, labels) if is_half else _Scored(metric, stack, labels)


def _as_weights(weights: Weights) -> tuple[float, ...]:
    """Take out the rounding: no weight below 0, and a sum of 1."""
    positive = np.where(weights < 1e-12, 0.0, weights)
    return tuple((positive / positive.sum()).tolist())
