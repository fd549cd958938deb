"""Weights of the classes: the answer is the argmax of weight * probability.

For a metric of the confusion matrix, and all weights but one given, a row is answered by class c
exactly where its weight exceeds r / p_c, with r the row's largest weighted probability of another
class. So one sort of these ratios gives every confusion matrix that the weight can make, each from
the one before by moving rows from their other class to c: the line search is exact. Searching one
class after another until none gains is coordinate ascent, which may stop at a local optimum.

Dividing by the prior, weight = 1 / share of the class, is optimal for balanced accuracy of
calibrated probabilities, and wrong for F1 (measured: design.md).
"""

from typing import Final

import numpy as np
from jaxtyping import Float64, Int, Int64

from hbcomp.scoring.class_metrics import BLOCK_VALUES, ClassMetric, count_cells
from hbcomp.scoring.decision import ClassWeights

Probs = Float64[np.ndarray, "n k"]
Labels = Int[np.ndarray, " n"]

MAX_ROUNDS: Final = 20  # each round gains; measured: two to four on real probabilities


def fit_prior(labels: Labels, n_classes: int) -> ClassWeights:
    """Return weights of 1 / share, scaled to a mean of 1; no rows count as one."""
    weights = 1.0 / np.maximum(np.bincount(labels, minlength=n_classes), 1)
    return ClassWeights(weights=tuple((weights / weights.mean()).tolist()))


def fit_class_weights(metric: ClassMetric, probs: Probs, labels: Labels) -> ClassWeights:
    """Return weights, the first class at 1, that no change of a single one improves."""
    weights = np.ones(probs.shape[1])
    best = metric.score(probs, labels)
    for _ in range(MAX_ROUNDS):
        before = best
        for label in range(1, probs.shape[1]):
            weight, score = best_weight(metric, probs * weights, labels, label)
            if score > best:
                weights[label] *= weight
                best = score
        if best == before:
            break
    return ClassWeights(weights=tuple(weights.tolist()))


def best_weight(
    metric: ClassMetric, weighted: Probs, labels: Labels, label: int
) -> tuple[float, float]:
    """Return the factor for one class, nearest to 1 among equals, and the metric with it."""
    others = np.delete(weighted, label, axis=1)
    other_of_row = others.argmax(axis=1)
    other_of_row += other_of_row >= label
    with np.errstate(divide="ignore"):
        ratios = np.divide(
            others.max(axis=1),
            weighted[:, label],
            out=np.full(len(labels), np.inf),
            where=weighted[:, label] > 0,
        )
    order = np.argsort(ratios, kind="stable")
    ascending = ratios[order]
    factors, cuts = _cuts(ascending[np.isfinite(ascending)])
    start = count_cells(other_of_row, labels, weighted.shape[1])
    scores = _scores_along(metric, start, labels[order], other_of_row[order], label, cuts)
    is_best = scores == scores.max()
    distances = np.where(is_best, np.abs(np.log(factors)), np.inf)
    best = int(distances.argmin())
    return float(factors[best]), float(scores[best])


def _cuts(ascending: Float64[np.ndarray, " m"]) -> tuple[np.ndarray, Int64[np.ndarray, " c"]]:
    """Return a factor in each gap between the ratios, and how many ratios it exceeds."""
    positive = ascending[ascending > 0]
    n_zero = len(ascending) - len(positive)
    if not len(positive):
        return np.ones(1), np.array([n_zero])
    ends = np.concatenate([[positive[0] / 4], positive, [positive[-1] * 4]])
    middles = np.sqrt(ends[:-1]) * np.sqrt(ends[1:])
    is_gap = (ends[:-1] < middles) & (middles < ends[1:])
    # No middle fits between neighbouring floats: such rows stay together.
    return middles[is_gap], n_zero + np.flatnonzero(is_gap)


def _scores_along(
    metric: ClassMetric,
    start: Float64[np.ndarray, "k k"],
    labels: Labels,
    other_of_row: Labels,
    label: int,
    cuts: Int64[np.ndarray, " c"],
) -> Float64[np.ndarray, " c"]:
    """Return the metric after the first rows, as many as each cut says, moved to class `label`."""
    n_classes = len(start)
    counts, n_moved, scores = start.copy(), 0, []
    for some in np.array_split(cuts, 1 + len(labels) * n_classes**2 // BLOCK_VALUES):
        if not len(some):
            continue
        rows = slice(n_moved, some[-1])
        steps = np.zeros((some[-1] - n_moved + 1, n_classes, n_classes))
        at = np.arange(1, len(steps))
        steps[at, labels[rows], other_of_row[rows]] -= 1
        steps[at, labels[rows], label] += 1
        path = counts + steps.cumsum(axis=0)
        scores.append(metric.of_counts(path[some - n_moved]))
        counts, n_moved = path[-1], int(some[-1])
    return np.concatenate(scores)
