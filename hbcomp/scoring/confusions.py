"""What is wrong in a set of answers: which confusions, errors of which type, and label issues.

Predicted classes are those of `predicted_class`: -1 is an all-zero answer.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64, Shaped

from hbcomp.scoring.combinations import Stack
from hbcomp.scoring.decision import Half
from hbcomp.system.errors import InputError

LIKE_THE_OTHER: Final = "like the other class"
UNLIKE_BOTH: Final = "unlike both classes"
LIKE_THEIR_OWN: Final = "like their own class"
ERROR_TYPES: Final = (LIKE_THE_OTHER, UNLIKE_BOTH, LIKE_THEIR_OWN)
FAR_QUANTILE: Final = 0.99  # of right rows' distances; assumed


@dataclass(frozen=True)
class Cell:
    """The rows of one true class with one predicted class, and what they lose together."""

    truth: int
    predicted: int
    n_rows: int
    loss: float

    @property
    def is_wrong(self) -> bool:
        """Whether these rows are predicted as another class or none."""
        return self.truth != self.predicted


def confusion_cells(
    losses: Float64[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
) -> list[Cell]:
    """Return the cells that hold rows, the costliest first; their losses add up to that of all."""
    width = int(max(labels.max(), predicted.max())) + 2  # predicted begins at -1
    code_of_row = labels * width + predicted + 1
    counts = np.bincount(code_of_row)
    totals = np.bincount(code_of_row, weights=losses)
    cells = [
        Cell(code // width, code % width - 1, int(counts[code]), float(totals[code]))
        for code in np.flatnonzero(counts).tolist()
    ]
    return sorted(cells, key=lambda cell: -cell.loss)


def matched_right_rows(
    is_wrong: Bool[np.ndarray, " n"], labels: Int[np.ndarray, " n"], n_least: int
) -> Int64[np.ndarray, " r"]:
    """Return right rows, over the classes as the wrong ones are, taken at even distances.

    As many as there are wrong rows and at least about `n_least`; fewer where a class has no more.
    """
    found = [np.zeros(0, dtype=np.int64)]
    factor = max(1.0, n_least / max(1, is_wrong.sum()))
    for label in np.unique(labels[is_wrong]):
        of_class = labels == label
        right = np.flatnonzero(of_class & ~is_wrong)
        n = min(len(right), math.ceil(factor * (of_class & is_wrong).sum()))
        found.append(right[np.linspace(0, len(right) - 1, n).astype(np.int64)])
    return np.sort(np.concatenate(found))


def nearest_other(
    distances: Float64[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
) -> Float64[np.ndarray, " n"]:
    """Return each row's distance to its predicted class, given those to every class.

    Where that is its own class or none, the distance to the nearest of the other classes.
    """
    rows = np.arange(len(labels))
    to_others = distances.copy()
    to_others[rows, labels] = np.inf
    has_other = (predicted >= 0) & (predicted != labels)
    other: Float64[np.ndarray, " n"] = np.where(
        has_other, distances[rows, predicted], to_others.min(axis=1)
    )
    return other


def far_distance(right_own: Float64[np.ndarray, " r"]) -> float:
    """Return the distance that all but 1 % of right rows have at most to their own class.

    Infinity where there are no right rows to judge by: then nothing is far.
    """
    if not len(right_own):
        return math.inf
    # One of the values, not between two: some may be infinite.
    return float(np.quantile(right_own, FAR_QUANTILE, method="inverted_cdf"))


def error_types_of(
    own: Float64[np.ndarray, " n"], other: Float64[np.ndarray, " n"], far: float
) -> Shaped[np.ndarray, " n"]:
    """Return the error type of each row, by the distances to its own class and to the other one.

    Beyond `far` from both it is unlike both classes; an equal distance counts for its own class.
    """
    is_far = np.minimum(own, other) > far
    return np.select([is_far, other < own], [UNLIKE_BOTH, LIKE_THE_OTHER], default=LIKE_THEIR_OWN)


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Rows to which every base model gives the same other class, the most certain first.

    `least_probs` are the smallest probabilities that any base model gives that class, `answers`.
    """

    rows: Int64[np.ndarray, " d"]
    answers: Int64[np.ndarray, " d"]
    least_probs: Float64[np.ndarray, " d"]


def check_min_prob(min_prob: float) -> None:
    """Refuse a bound that two classes, or none, could exceed."""
    if not 0.5 <= min_prob < 1:
        raise InputError(
            "0.5 <= min_prob < 1 must hold, so that one class at most exceeds it, but got "
            f"{min_prob}"
        )


def find_label_issues(stack: Stack, labels: Int[np.ndarray, " n"], min_prob: float) -> LabelIssues:
    """Return the rows where every base model gives one class that is not the label over `min_prob`.

    Such rows are where to look for wrong labels, and no proof of one: Northcutt, Jiang and
    Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 2021. Theirs
    are counted against a bound for each class; here one bound has to hold for every base model.
    """
    check_min_prob(min_prob)
    least = stack.min(axis=0)  # (n, k)
    least[np.arange(len(labels)), labels] = 0
    least_prob = least.max(axis=1)
    order = np.argsort(-least_prob, kind="stable")
    rows = order[least_prob[order] > min_prob].astype(np.int64)
    return LabelIssues(rows, least[rows].argmax(axis=1).astype(np.int64), least_prob[rows])


def weighted_mean_floor(stack: Stack, labels: Int[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Return the least abs-sum of each row under threshold 0.5, as a mean of the base models.

    The weights may differ from row to row, so no mean with one set of weights, all at least 0,
    costs less; a calibration or another rule may. A mean exceeds one half only where a base model
    does: a row can be right, at cost 0, only where one is right. Where all exceed it for one wrong
    class every mean does, which costs 2. Any other row can be answered by none, at cost 1: of two
    that exceed it for different classes a mean leaves both at one half or below.
    """
    answers = [Half().apply(probs) for probs in stack]
    is_right = np.any([each[np.arange(len(labels)), labels] > 0 for each in answers], axis=0)
    is_wrong = np.all(answers, axis=0).any(axis=1)
    return np.where(is_right, 0.0, np.where(is_wrong, 2.0, 1.0))


NONE = -1  # in place of a row, at an infinite distance, where there are too few
