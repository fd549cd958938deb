"""What is still wrong in an experiment, and what solving it would give: arrays in, findings out."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from hbcomp.analysis.neighbours import nearest_by_class, nearest_rows
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import oof_answers
from hbcomp.scoring.choice import CANDIDATES, cross_fitted_costs
from hbcomp.scoring.confusions import (
    KINDS,
    Cell,
    Doubts,
    confusion_cells,
    far_distance,
    kinds_of,
    label_doubts,
    matched_right_rows,
    nearest_other,
    weighted_mean_floor,
)
from hbcomp.scoring.metrics import Score, called_class, class_name, row_costs, score_of

N_RIGHT: Final = 2_000  # right rows at least: the 99th percentile then rests on 20 of them
N_LISTED: Final = 20  # doubts on the page and the terminal
N_NEAREST: Final = 5  # rows beside a doubt

Signals = Float32[np.ndarray, "n t"]


@dataclass(frozen=True, eq=False)
class Answered:
    """The out-of-fold answers of an experiment under its rule, cross-fitted."""

    name: str
    rule: str
    predictions: Predictions

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The labels of the rows."""
        return self.predictions.labels

    @cached_property
    def answers(self) -> Float64[np.ndarray, "n k"]:
        """The answers, each by a rule that was fitted without the row's fold."""
        return oof_answers(self.predictions, self.rule)

    @cached_property
    def costs(self) -> Float64[np.ndarray, " n"]:
        """What each row costs."""
        return row_costs(self.answers, self.labels)

    @cached_property
    def called(self) -> Int64[np.ndarray, " n"]:
        """The class that each row is called; -1 is none."""
        return called_class(self.answers)

    @property
    def is_wrong(self) -> Bool[np.ndarray, " n"]:
        """Whether each row is called something else than its label."""
        is_wrong: Bool[np.ndarray, " n"] = self.called != self.labels
        return is_wrong


@dataclass(frozen=True, eq=False)
class Group:
    """Rows with the distances to their own and to the other class, and the kind these make."""

    rows: Int64[np.ndarray, " g"]
    own: Float64[np.ndarray, " g"]
    other: Float64[np.ndarray, " g"]
    kinds: Shaped[np.ndarray, " g"]

    def part(self, is_in: Bool[np.ndarray, " g"]) -> "Group":
        """Return those of the rows."""
        return Group(self.rows[is_in], self.own[is_in], self.other[is_in], self.kinds[is_in])


@dataclass(frozen=True, eq=False)
class Beside:
    """The rows of other folds that are nearest to the first doubts; -1 where there is none."""

    of_label: Int64[np.ndarray, " d"]
    of_answer: Int64[np.ndarray, " d"]
    of_any: Int64[np.ndarray, "d m"]


@dataclass(frozen=True)
class Remedy:
    """What would be left of the score if something were solved that concerns so many rows."""

    name: str
    n_rows: int
    left: Score


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that is said of an experiment's mistakes.

    `members` are the names of those whose agreement makes a doubt. A row is far from a class
    beyond the distance `far`.
    """

    answered: Answered
    members: tuple[str, ...]
    min_prob: float
    cells: list[Cell]
    wrong: Group
    right: Group
    far: float
    doubts: Doubts
    beside: Beside
    remedies: list[Remedy]


def examine(
    answered: Answered,
    members: Mapping[str, Float64[np.ndarray, "n k"]],
    signals: Signals,
    min_prob: float,
) -> Findings:
    """Return what is wrong in the answers, beside what each member's probabilities say."""
    stack, labels = np.stack(list(members.values())), answered.labels
    doubts = label_doubts(stack, labels, min_prob)
    wrong, right, far = _groups(answered, signals)
    cells = confusion_cells(answered.costs, answered.called, labels)
    return Findings(
        answered=answered,
        members=tuple(members),
        min_prob=min_prob,
        cells=cells,
        wrong=wrong,
        right=right,
        far=far,
        doubts=doubts,
        beside=_beside(answered.predictions, signals, doubts),
        remedies=_remedies(answered, stack, doubts, cells, wrong),
    )


def _groups(answered: Answered, signals: Signals) -> tuple[Group, Group, float]:
    """Return the wrong rows, right ones to compare with, and the distance that is far."""
    labels, folds = answered.labels, answered.predictions.fold_of_row
    (wrong,) = np.nonzero(answered.is_wrong)
    right = matched_right_rows(answered.is_wrong, labels, N_RIGHT)
    rows = np.concatenate([wrong, right])
    distances, _ = nearest_by_class(signals, labels, folds, rows)
    own = distances[np.arange(len(rows)), labels[rows]]
    other = nearest_other(distances, labels[rows], answered.called[rows])
    far = far_distance(own[len(wrong) :])
    both = Group(rows, own, other, kinds_of(own, other, far))
    is_first = np.arange(len(rows)) < len(wrong)
    return both.part(is_first), both.part(~is_first), far


def _beside(predictions: Predictions, signals: Signals, doubts: Doubts) -> Beside:
    rows, answers = doubts.rows[:N_LISTED], doubts.answers[:N_LISTED]
    labels, folds = predictions.labels, predictions.fold_of_row
    _, by_class = nearest_by_class(signals, labels, folds, rows)
    everyone = np.ones(len(labels), dtype=bool)
    _, of_any = nearest_rows(signals, folds, everyone, rows, N_NEAREST)
    at = np.arange(len(rows))
    return Beside(by_class[at, labels[rows]], by_class[at, answers], of_any)


def _remedies(
    answered: Answered,
    stack: Float64[np.ndarray, "m n k"],
    doubts: Doubts,
    cells: list[Cell],
    wrong: Group,
) -> list[Remedy]:
    labels, called, costs = answered.labels, answered.called, answered.costs
    relabelled = labels.copy()
    relabelled[doubts.rows] = doubts.answers
    believed = score_of(row_costs(answered.answers, relabelled))
    found = [Remedy("every doubted label were wrong", len(doubts.rows), believed)]
    if worst := next((cell for cell in cells if cell.is_wrong), None):
        (rows,) = np.nonzero((labels == worst.truth) & (called == worst.called))
        found.append(_solved(f"{cell_name(worst)} were right", rows, costs))
    for kind in KINDS:
        rows = wrong.rows[wrong.kinds == kind]
        found.append(_solved(f"wrong rows {kind} were right", rows, costs))
    return [*found, *_bounds(answered, stack)]


def _solved(name: str, rows: Int64[np.ndarray, " r"], costs: Float64[np.ndarray, " n"]) -> Remedy:
    left = costs.copy()
    left[rows] = 0
    return Remedy(name, len(rows), score_of(left))


def _bounds(answered: Answered, stack: Float64[np.ndarray, "m n k"]) -> list[Remedy]:
    """Return what the members could give if it were known for each row how to use them."""
    if len(stack) < 2:
        return []
    fit, labels = CANDIDATES[answered.rule], answered.labels
    folds = answered.predictions.fold_of_row
    of_member = [cross_fitted_costs(fit, probs, labels, folds) for probs in stack]
    bounds = {
        "each row had its best member's answer": np.min(of_member, axis=0),
        "each row had its best weights, rule half": weighted_mean_floor(stack, labels),
    }
    return [
        Remedy(name, int((costs < answered.costs).sum()), score_of(costs))
        for name, costs in bounds.items()
    ]


def cell_name(cell: Cell) -> str:
    """Return which rows a cell holds: `1 called 0`."""
    return f"{cell.truth} called {class_name(cell.called)}"
