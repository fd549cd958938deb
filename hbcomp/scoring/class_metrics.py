"""Metrics of the confusion matrix: balanced accuracy, F1, Matthews correlation, Cohen's kappa.

Each is a function of counts `(s, k, k)`, true classes in rows and predicted ones in columns, and
is 0 where its formula divides by 0, as scikit-learn does. Their contributions are pseudo-values of
the delete-one jackknife (Efron and Stein, "The jackknife estimate of variance", 1981): with M of n
rows and M' of all but row i, n * M - (n - 1) * M', shifted so that their mean is M. Rows in one
cell have the same, so at most k * k matrices are evaluated however many rows there are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np
from jaxtyping import Float64, Int, Shaped

from hbcomp.scoring.row_metrics import Answers, Labels, RowScores
from hbcomp.system.errors import InputError

Counts = Float64[np.ndarray, "s k k"]
Values = Float64[np.ndarray, " s"]
BLOCK_VALUES: Final = 2**22  # counts held at a time, 32 MiB


@dataclass(frozen=True)
class ClassMetric:
    """A metric that is a function of the confusion matrix; greater is better."""

    name: str
    of_counts: Callable[[Counts], Values]
    bounds: tuple[float, float] = (0.0, 1.0)
    rules: tuple[str, ...] = ("argmax", "class weights")
    greater_is_better: bool = True
    answers: str = "labels"

    def score(self, answers: Answers, labels: Labels) -> float:
        """Return the metric of all rows."""
        counts = count_cells(answers.argmax(axis=1), labels, answers.shape[1])
        return float(self.of_counts(counts[None])[0])

    def contributions(self, answers: Answers, labels: Labels) -> RowScores:
        """Return each row's pseudo-value; their mean is the score."""
        n_classes = answers.shape[1]
        predicted = answers.argmax(axis=1)
        cells, cell_of_row = np.unique(labels * n_classes + predicted, return_inverse=True)
        counts = count_cells(predicted, labels, n_classes)
        score, n = float(self.of_counts(counts[None])[0]), len(labels)
        pseudo = n * score - (n - 1) * self._without_a_row(counts, cells)
        values = pseudo[cell_of_row]
        contributions: RowScores = values - values.mean() + score
        return contributions

    def _without_a_row(
        self, counts: Float64[np.ndarray, "k k"], cells: Int[np.ndarray, " c"]
    ) -> Float64[np.ndarray, " c"]:
        """Return the metric of all rows but one of each cell."""
        found = []
        for some in np.array_split(cells, 1 + len(cells) * counts.size // BLOCK_VALUES):
            fewer = np.broadcast_to(counts.ravel(), (len(some), counts.size)).copy()
            fewer[np.arange(len(some)), some] -= 1
            found.append(self.of_counts(fewer.reshape(-1, *counts.shape)))
        return np.concatenate(found)


def count_cells(predicted: Labels, labels: Labels, n_classes: int) -> Float64[np.ndarray, "k k"]:
    """Return how many rows of each true class are predicted as each class."""
    if len(predicted) and predicted.min() < 0:
        raise InputError("a predicted class is needed in every row, but one has none")
    counts = np.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes).astype(np.float64)


def balanced_accuracy(counts: Counts) -> Values:
    """Return the mean recall of the classes that have rows."""
    n_true = counts.sum(axis=-1)
    recalls = _ratio(_diagonal(counts), n_true)
    return _ratio(recalls.sum(axis=-1), (n_true > 0).sum(axis=-1))


def f1(counts: Counts, average: Literal["macro", "micro", "weighted"]) -> Values:
    """Return F1 averaged over classes: equally, over all rows, or by the rows of each class.

    The plain mean is over the classes that a row has or is predicted to have.
    """
    n_true, n_either = counts.sum(axis=-1), counts.sum(axis=-1) + counts.sum(axis=-2)
    if average == "micro":
        return _ratio(_diagonal(counts).sum(axis=-1), n_true.sum(axis=-1))
    of_class = _ratio(2 * _diagonal(counts), n_either)
    weights = n_true if average == "weighted" else (n_either > 0).astype(np.float64)
    return _ratio((of_class * weights).sum(axis=-1), weights.sum(axis=-1))


def f1_of_class(counts: Counts, positive: int) -> Values:
    """Return the F1 of one class."""
    n_either = counts.sum(axis=-1) + counts.sum(axis=-2)
    of_class: Float64[np.ndarray, "s k"] = _ratio(2 * _diagonal(counts), n_either)
    return of_class[:, positive]


def matthews(counts: Counts) -> Values:
    """Return the Matthews correlation of any number of classes.

    Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", 2004.
    """
    n_true, n_predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    n = n_true.sum(axis=-1)
    covariance = _diagonal(counts).sum(axis=-1) * n - (n_true * n_predicted).sum(axis=-1)
    spread_true = n**2 - (n_true**2).sum(axis=-1)
    spread_predicted = n**2 - (n_predicted**2).sum(axis=-1)
    return _ratio(covariance, np.sqrt(spread_true * spread_predicted))


def kappa(counts: Counts, power: int) -> Values:
    """Return Cohen's kappa: plain with power 0, quadratically weighted with power 2.

    Cohen, "Weighted kappa", 1968. 1 minus the disagreement over the one expected of independent
    columns with these sums; a confusion of classes i and j weighs |i - j| ** power, and 0 if i = j.
    """
    n_true, n_predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    steps = np.abs(np.subtract.outer(*[np.arange(counts.shape[-1])] * 2))
    weights = np.where(steps > 0, steps.astype(np.float64) ** power, 0.0)
    observed = (weights * counts).sum(axis=(-2, -1))
    expected = (weights * n_true[:, :, None] * n_predicted[:, None, :]).sum(axis=(-2, -1))
    n = n_true.sum(axis=-1)
    return np.where(expected > 0, 1.0 - _ratio(observed * n, expected), 0.0)


CLASS_METRICS: Final = {
    "balanced-accuracy": ClassMetric(
        "balanced-accuracy",
        balanced_accuracy,
        rules=("argmax", "argmax of p / prior", "class weights"),
    ),
    "macro-f1": ClassMetric("macro-f1", partial(f1, average="macro")),
    "micro-f1": ClassMetric("micro-f1", partial(f1, average="micro"), rules=("argmax",)),
    "weighted-f1": ClassMetric("weighted-f1", partial(f1, average="weighted")),
    "mcc": ClassMetric("mcc", matthews, bounds=(-1.0, 1.0)),
    "kappa": ClassMetric("kappa", partial(kappa, power=0), bounds=(-1.0, 1.0)),
    "quadratic-kappa": ClassMetric("quadratic-kappa", partial(kappa, power=2), bounds=(-1.0, 1.0)),
}


def _diagonal(counts: Counts) -> Float64[np.ndarray, "s k"]:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _ratio(
    above: Shaped[np.ndarray, "*s"], below: Shaped[np.ndarray, "*s"]
) -> Float64[np.ndarray, "*s"]:
    """Return the quotient, and 0 where the divisor is 0."""
    quotient: Float64[np.ndarray, "*s"] = np.divide(
        above, below, out=np.zeros(above.shape), where=below > 0
    )
    return quotient
