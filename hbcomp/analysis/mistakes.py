"""What is still wrong in an experiment, and what if it were solved: arrays in, findings out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from hbcomp.analysis.neighbours import nearest_by_class, nearest_rows
from hbcomp.analysis.scored_rows import ScoredRows
from hbcomp.experiment.predictions import Predictions
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
from hbcomp.scoring.metrics import Score, class_name, row_costs, score_of

N_RIGHT: Final = 2_000  # right rows at least: the 99th percentile then rests on 20 of them
N_LISTED: Final = 20  # label issues on the page and the terminal
N_NEAREST: Final = 5  # rows that are listed beside a label issue

Signals = Float32[np.ndarray, "n t"]


@dataclass(frozen=True, eq=False)
class Group:
    """Rows with the distances to their own and to the other class, and the types these make."""

    rows: Int64[np.ndarray, " g"]
    own: Float64[np.ndarray, " g"]
    other: Float64[np.ndarray, " g"]
    types: Shaped[np.ndarray, " g"]

    def part(self, is_in: Bool[np.ndarray, " g"]) -> "Group":
        """Return those of the rows."""
        return Group(self.rows[is_in], self.own[is_in], self.other[is_in], self.types[is_in])


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The rows of other folds nearest to the first label issues; -1 where there is none."""

    of_label: Int64[np.ndarray, " d"]
    of_answer: Int64[np.ndarray, " d"]
    of_any: Int64[np.ndarray, "d m"]


@dataclass(frozen=True)
class WhatIf:
    """What would be left of the score if something were solved that concerns so many rows."""

    name: str
    n_rows: int
    left: Score


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that is said of an experiment's mistakes.

    `models` are the names of those whose agreement makes a label issue. A row is far from a class
    beyond the distance `far`.
    """

    scored: ScoredRows
    models: tuple[str, ...]
    min_prob: float
    cells: list[Cell]
    wrong: Group
    right: Group
    far: float
    issues: Doubts
    neighbours: Neighbours
    what_ifs: list[WhatIf]


def examine(
    scored: ScoredRows,
    models: Mapping[str, Float64[np.ndarray, "n k"]],
    signals: Signals,
    min_prob: float,
) -> Findings:
    """Return what is wrong in the answers, beside what each model's probabilities say."""
    stack, labels = np.stack(list(models.values())), scored.labels
    issues = label_doubts(stack, labels, min_prob)
    wrong, right, far = _groups(scored, signals)
    cells = confusion_cells(scored.costs, scored.predicted, labels)
    return Findings(
        scored=scored,
        models=tuple(models),
        min_prob=min_prob,
        cells=cells,
        wrong=wrong,
        right=right,
        far=far,
        issues=issues,
        neighbours=_neighbours(scored.predictions, signals, issues),
        what_ifs=[*_what_ifs(scored, issues, worst_cell(cells), wrong), *_bounds(scored, stack)],
    )


def _groups(scored: ScoredRows, signals: Signals) -> tuple[Group, Group, float]:
    """Return the wrong rows, right ones to compare with, and the distance that is far."""
    labels, folds = scored.labels, scored.predictions.fold_of_row
    (wrong,) = np.nonzero(~scored.is_right)
    right = matched_right_rows(~scored.is_right, labels, N_RIGHT)
    rows = np.concatenate([wrong, right])
    distances, _ = nearest_by_class(signals, labels, folds, rows)
    own = distances[np.arange(len(rows)), labels[rows]]
    other = nearest_other(distances, labels[rows], scored.predicted[rows])
    far = far_distance(own[len(wrong) :])
    both = Group(rows, own, other, kinds_of(own, other, far))
    is_first = np.arange(len(rows)) < len(wrong)
    return both.part(is_first), both.part(~is_first), far


def _neighbours(predictions: Predictions, signals: Signals, issues: Doubts) -> Neighbours:
    rows, answers = issues.rows[:N_LISTED], issues.answers[:N_LISTED]
    labels, folds = predictions.labels, predictions.fold_of_row
    _, by_class = nearest_by_class(signals, labels, folds, rows)
    everyone = np.ones(len(labels), dtype=bool)
    _, of_any = nearest_rows(signals, folds, everyone, rows, N_NEAREST)
    at = np.arange(len(rows))
    return Neighbours(by_class[at, labels[rows]], by_class[at, answers], of_any)


def _what_ifs(
    scored: ScoredRows, issues: Doubts, worst: Cell | None, wrong: Group
) -> Iterator[WhatIf]:
    """Yield the score with other labels, without the worst confusion, and without each type."""
    relabelled = scored.labels.copy()
    relabelled[issues.rows] = issues.answers
    left = score_of(row_costs(scored.answers, relabelled))
    yield WhatIf("every label issue were a wrong label", len(issues.rows), left)
    if worst:
        is_worst = (scored.labels == worst.truth) & (scored.predicted == worst.called)
        yield _solved(f"{cell_name(worst)} were right", np.flatnonzero(is_worst), scored)
    for error_type in KINDS:
        rows = wrong.rows[wrong.types == error_type]
        yield _solved(f"wrong rows {error_type} were right", rows, scored)


def _solved(name: str, rows: Int64[np.ndarray, " r"], scored: ScoredRows) -> WhatIf:
    left = scored.costs.copy()
    left[rows] = 0
    return WhatIf(name, len(rows), score_of(left))


def _bounds(scored: ScoredRows, stack: Float64[np.ndarray, "m n k"]) -> Iterator[WhatIf]:
    """Yield what the models could give if it were known for each row how to use them."""
    if len(stack) < 2:
        return
    fit, labels = CANDIDATES[scored.rule], scored.labels
    folds = scored.predictions.fold_of_row
    of_model = [cross_fitted_costs(fit, probs, labels, folds) for probs in stack]
    bounds = {
        "each row had its best model's answer": np.min(of_model, axis=0),
        "each row had its best weights, threshold 0.5": weighted_mean_floor(stack, labels),
    }
    for name, costs in bounds.items():
        yield WhatIf(name, int((costs < scored.costs).sum()), score_of(costs))


def worst_cell(cells: list[Cell]) -> Cell | None:
    """Return the confusion that costs most; None where every row is right."""
    return next((cell for cell in cells if cell.is_wrong), None)


def cell_name(cell: Cell) -> str:
    """Return which rows a cell holds: `1 predicted as 0`."""
    return f"{cell.truth} predicted as {class_name(cell.called)}"
