"""The area under the ROC curve, of one class or as the mean of every class against the rest.

Contributions are placement values (DeLong, DeLong and Clarke-Pearson, "Comparing the areas under
two or more correlated ROC curves", 1988): the share of negatives that a positive row ranks above,
and of positives that a negative row ranks below, ties counted half. With m of n rows positive,
AUC + n / m * (placement - AUC) for a positive row, and likewise for a negative one, has the mean
AUC, and sd / sqrt(n) is DeLong's standard error.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from hbcomp.scoring.row_metrics import Answers, Labels, RowScores
from hbcomp.system.errors import InputError


@dataclass(frozen=True)
class RocAuc:
    """The AUC of class `positive`, or with None the mean over all classes that have rows."""

    name: str
    positive: int | None
    bounds: tuple[float, float] = (0.0, 1.0)
    rules: tuple[str, ...] = ("raw",)
    greater_is_better: bool = True
    answers: str = "probabilities"

    def score(self, answers: Answers, labels: Labels) -> float:
        """Return the area; weights of a blend ask for thousands, so it sorts and does no more."""
        classes = self._classes(answers, labels)
        return float(np.mean([_area(answers[:, label], labels == label) for label in classes]))

    def contributions(self, answers: Answers, labels: Labels) -> RowScores:
        """Return each row's scaled placement value; their mean is the area."""
        classes = self._classes(answers, labels)
        found = [scaled_placements(answers[:, label], labels == label) for label in classes]
        mean: RowScores = np.mean(found, axis=0)
        return mean

    def _classes(self, answers: Answers, labels: Labels) -> list[int]:
        """Return the classes whose areas are averaged."""
        if self.positive is not None:
            return [self.positive]
        return [label for label in range(answers.shape[1]) if (labels == label).any()]


def _area(values: Float64[np.ndarray, " n"], is_positive: Bool[np.ndarray, " n"]) -> float:
    """Return the share of pairs of a positive and a negative row that are in order."""
    positives, negatives = _sorted_parts(values, is_positive)
    return float(_share_below(negatives, positives).mean())


def scaled_placements(
    values: Float64[np.ndarray, " n"], is_positive: Bool[np.ndarray, " n"]
) -> RowScores:
    """Return each row's contribution to the area of one class."""
    positives, negatives = _sorted_parts(values, is_positive)
    placements = np.where(
        is_positive, _share_below(negatives, values), 1.0 - _share_below(positives, values)
    )
    area = float(placements[is_positive].mean())
    scale = np.where(is_positive, len(values) / len(positives), len(values) / len(negatives))
    # Every positive and every negative deviates from the same area, so the mean is the area.
    return area + scale * (placements - area)


def _sorted_parts(
    values: Float64[np.ndarray, " n"], is_positive: Bool[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " p"], Float64[np.ndarray, " q"]]:
    """Return the values of positive and of negative rows, each in order; both must have some."""
    positives, negatives = np.sort(values[is_positive]), np.sort(values[~is_positive])
    if not len(positives) or not len(negatives):
        raise InputError(
            "the area under the ROC curve needs rows of a class and rows of others, but there are "
            f"{len(positives)} and {len(negatives)}"
        )
    return positives, negatives


def _share_below(
    ascending: Float64[np.ndarray, " m"], values: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Return the share of the first that is below each value, equal ones counted half."""
    n_below = np.searchsorted(ascending, values, "left")
    n_at_most = np.searchsorted(ascending, values, "right")
    share: Float64[np.ndarray, " n"] = (n_below + n_at_most) / (2 * len(ascending))
    return share
