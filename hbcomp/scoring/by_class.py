"""Answers by true class: what each contributes to the score, its recall, and the confusions."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from hbcomp.scoring.row_metrics import predicted_class


@dataclass(frozen=True)
class ClassScore:
    """The rows of one true class: their share of the score, their mean and their recall.

    The shares of all classes add up to the score. `n_none` rows are predicted as no class.
    """

    label: int
    n_rows: int
    share: float
    mean: float
    recall: float
    n_none: int


def score_by_class(
    contributions: Float64[np.ndarray, " n"],
    answers: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
) -> list[ClassScore]:
    """Return what the rows of each true class contribute to the score."""
    predicted = predicted_class(answers)
    rows = []
    for label in range(answers.shape[1]):
        of_class = labels == label
        n_rows = max(1, int(of_class.sum()))
        total = float(contributions[of_class].sum())
        rows.append(
            ClassScore(
                label=label,
                n_rows=int(of_class.sum()),
                share=total / len(labels),
                mean=total / n_rows,
                recall=float((predicted[of_class] == label).sum()) / n_rows,
                n_none=int((predicted[of_class] < 0).sum()),
            )
        )
    return rows


def confusion(
    answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> Int64[np.ndarray, "k k+1"]:
    """Return the counts of (true class, predicted class); rows are the truth.

    The last column counts the all-zero rows, predicted as none, so every row is counted once.
    """
    n_classes = answers.shape[1]
    predicted = predicted_class(answers)
    cells = labels * (n_classes + 1) + np.where(predicted < 0, n_classes, predicted)
    counts = np.bincount(cells, minlength=n_classes * (n_classes + 1))
    return counts.reshape(n_classes, n_classes + 1).astype(np.int64)


def accuracy(answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """Return the share of rows whose predicted class is the true one; none is never right."""
    return float((predicted_class(answers) == labels).mean())
