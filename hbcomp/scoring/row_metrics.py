"""Metrics that are a mean over the rows: each row has a score of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from hbcomp.system.errors import InputError

Answers = Float[np.ndarray, "n k"]
Labels = Int[np.ndarray, " n"]
RowScores = Float64[np.ndarray, " n"]

# The bound of Kaggle's log-loss: an answer of 0 for the true class costs 34.5, not infinity.
SMALLEST_PROB: Final = 1e-15


@dataclass(frozen=True)
class RowMetric:
    """A metric that is `scale` times the mean of `score_rows`.

    `scale` is 1, or the number of rows where the leaderboard shows a sum over its rows.
    """

    name: str
    greater_is_better: bool
    answers: str
    rules: tuple[str, ...]
    score_rows: Callable[[Answers, Labels], RowScores]
    row_bounds: tuple[float, float]
    scale: float = 1.0

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest score that there can be."""
        low, high = self.row_bounds
        return low * self.scale, high * self.scale

    def contributions(self, answers: Answers, labels: Labels) -> RowScores:
        """Return each row's score; their mean is the score."""
        return self.score_rows(answers, labels) * self.scale

    def score(self, answers: Answers, labels: Labels) -> float:
        """Return the mean over the rows."""
        return float(self.score_rows(answers, labels).mean()) * self.scale


def abs_sum_of_rows(answers: Answers, labels: Labels) -> RowScores:
    """Return each row's sum over the classes of |answer - onehot|."""
    wide = answers.astype(np.float64)
    # |a - 0| everywhere, then the true class swaps |a| for |a - 1|: no one-hot matrix is built.
    at_truth = wide[np.arange(len(labels)), labels]
    costs: RowScores = np.abs(wide).sum(axis=1) - np.abs(at_truth) + np.abs(at_truth - 1.0)
    return costs


def log_loss_of_rows(answers: Answers, labels: Labels) -> RowScores:
    """Return -log p of each row's true class; rows are scaled to sum to 1, as Kaggle does."""
    wide = np.clip(answers.astype(np.float64), SMALLEST_PROB, 1.0)
    at_truth = wide[np.arange(len(labels)), labels]
    losses: RowScores = np.log(wide.sum(axis=1)) - np.log(at_truth)
    return losses


def brier_of_rows(answers: Answers, labels: Labels) -> RowScores:
    """Return each row's sum over the classes of (answer - onehot)^2.

    Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    wide = answers.astype(np.float64)
    at_truth = wide[np.arange(len(labels)), labels]
    costs: RowScores = np.square(wide).sum(axis=1) - 2.0 * at_truth + 1.0
    return costs


def hits(answers: Answers, labels: Labels) -> RowScores:
    """Return 1 for each row whose predicted class is the true one, else 0."""
    found: RowScores = (predicted_class(answers) == labels).astype(np.float64)
    return found


def top_k_hits(k: int) -> Callable[[Answers, Labels], RowScores]:
    """Return a function that says which rows have the true class among the k largest answers.

    Of equal answers the later class ranks higher, as in scikit-learn's `top_k_accuracy_score`.
    """

    def score_rows(answers: Answers, labels: Labels) -> RowScores:
        largest = np.argsort(answers, axis=1, kind="stable")[:, -k:]
        found: RowScores = (largest == labels[:, None]).any(axis=1).astype(np.float64)
        return found

    return score_rows


def costs_of_rows(costs: Float64[np.ndarray, "k k"]) -> Callable[[Answers, Labels], RowScores]:
    """Return a function that looks up each row's cost in a matrix of (true, predicted) class."""

    def score_rows(answers: Answers, labels: Labels) -> RowScores:
        predicted = predicted_class(answers)
        if (predicted < 0).any():
            raise InputError("a cost matrix needs a predicted class in every row, but one is zero")
        found: RowScores = costs[labels, predicted]
        return found

    return score_rows


def predicted_class(answers: Answers) -> Int64[np.ndarray, " n"]:
    """Return the class of the largest answer of each row, and -1 for an all-zero row."""
    return np.where(answers.any(axis=1), answers.argmax(axis=1), -1).astype(np.int64)


def class_name(predicted: int, classes: Sequence[str] = ()) -> str:
    """Return a predicted class in words: its name, or without names its number."""
    if predicted < 0:
        return "none"
    return classes[predicted] if classes else str(predicted)
