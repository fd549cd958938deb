"""What is still wrong in an experiment, and what if it were solved: arrays in, findings out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from hbcomp.analysis.neighbours import nearest_by_class, nearest_rows
from hbcomp.analysis.scored_rows import ScoredRows
from hbcomp.data.dataset import filled
from hbcomp.experiment.predictions import Predictions
from hbcomp.scoring.confusions import (
    ERROR_TYPES,
    Cell,
    LabelIssues,
    confusion_cells,
    error_types_of,
    far_distance,
    find_label_issues,
    matched_right_rows,
    nearest_other,
    weighted_mean_floor,
)
from hbcomp.scoring.row_metrics import RowMetric, abs_sum_of_rows, class_name

N_RIGHT: Final = 2_000  # right rows at least: the 99th percentile then rests on 20 of them
N_LISTED: Final = 20  # label issues on the page and the terminal
N_NEAREST: Final = 5  # rows that are listed beside a label issue

Signals = Float32[np.ndarray, "n c t"]
Flat = Float32[np.ndarray, "n v"]


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
    """What the score would be if something were solved that concerns so many rows."""

    name: str
    n_rows: int
    score: float


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
    issues: LabelIssues
    neighbours: Neighbours
    what_ifs: list[WhatIf]

    def class_name(self, label: int) -> str:
        """Return a class in words."""
        return class_name(label, self.scored.classes)


def examine(
    scored: ScoredRows,
    models: Mapping[str, Float64[np.ndarray, "n k"]],
    signals: Signals,
    min_prob: float,
) -> Findings:
    """Return what is wrong in the answers, beside what each model's probabilities say."""
    stack, labels = np.stack(list(models.values())), scored.labels
    issues = find_label_issues(stack, labels, min_prob)
    flat = filled(signals).reshape(len(signals), -1)  # distances are over all channels
    wrong, right, far = _groups(scored, flat)
    cells = confusion_cells(losses_of(scored), scored.predicted, labels)
    return Findings(
        scored=scored,
        models=tuple(models),
        min_prob=min_prob,
        cells=cells,
        wrong=wrong,
        right=right,
        far=far,
        issues=issues,
        neighbours=_neighbours(scored.predictions, flat, issues),
        what_ifs=[*_what_ifs(scored, issues, worst_cell(cells), wrong), *_bounds(scored, stack)],
    )


def losses_of(scored: ScoredRows) -> Float64[np.ndarray, " n"]:
    """Return each row's loss, whose mean over all rows is how far the score is from the best.

    Where the score is no mean over rows, a confusion loses what the score would gain if all its
    rows were answered by their labels, shared equally among them; then the losses of all
    confusions do not quite add up to what is lost.
    """
    if isinstance(scored.metric, RowMetric):
        return scored.rows.losses
    n_rows = len(scored.labels)
    score = scored.metric.score(scored.answers, scored.labels)
    losses = np.empty(n_rows)
    for cell in confusion_cells(np.zeros(n_rows), scored.predicted, scored.labels):
        is_in = (scored.labels == cell.truth) & (scored.predicted == cell.predicted)
        gain = _score_with_right(np.flatnonzero(is_in), scored) - score
        losses[is_in] = (gain if scored.metric.greater_is_better else -gain) * n_rows / cell.n_rows
    return losses


def _groups(scored: ScoredRows, flat: Flat) -> tuple[Group, Group, float]:
    """Return the wrong rows, right ones to compare with, and the distance that is far."""
    labels, folds = scored.labels, scored.predictions.fold_of_row
    (wrong,) = np.nonzero(~scored.is_right)
    right = matched_right_rows(~scored.is_right, labels, N_RIGHT)
    rows = np.concatenate([wrong, right])
    distances, _ = nearest_by_class(flat, labels, folds, rows)
    own = distances[np.arange(len(rows)), labels[rows]]
    other = nearest_other(distances, labels[rows], scored.predicted[rows])
    far = far_distance(own[len(wrong) :])
    both = Group(rows, own, other, error_types_of(own, other, far))
    is_first = np.arange(len(rows)) < len(wrong)
    return both.part(is_first), both.part(~is_first), far


def _neighbours(predictions: Predictions, flat: Flat, issues: LabelIssues) -> Neighbours:
    rows, answers = issues.rows[:N_LISTED], issues.answers[:N_LISTED]
    labels, folds = predictions.labels, predictions.fold_of_row
    _, by_class = nearest_by_class(flat, labels, folds, rows)
    everyone = np.ones(len(labels), dtype=bool)
    _, of_any = nearest_rows(flat, folds, everyone, rows, N_NEAREST)
    at = np.arange(len(rows))
    return Neighbours(by_class[at, labels[rows]], by_class[at, answers], of_any)


def _what_ifs(
    scored: ScoredRows, issues: LabelIssues, worst: Cell | None, wrong: Group
) -> Iterator[WhatIf]:
    """Yield the score with other labels, without the worst confusion, and without each type."""
    relabelled = scored.labels.copy()
    relabelled[issues.rows] = issues.answers
    score = scored.metric.score(scored.answers, relabelled)
    yield WhatIf("every label issue were a wrong label", len(issues.rows), score)
    if worst:
        is_worst = (scored.labels == worst.truth) & (scored.predicted == worst.predicted)
        yield _solved(
            f"{cell_name(worst, scored.classes)} were right", np.flatnonzero(is_worst), scored
        )
    for error_type in ERROR_TYPES:
        rows = wrong.rows[wrong.types == error_type]
        yield _solved(f"wrong rows {error_type} were right", rows, scored)


def _solved(name: str, rows: Int64[np.ndarray, " r"], scored: ScoredRows) -> WhatIf:
    return WhatIf(name, len(rows), _score_with_right(rows, scored))


def _score_with_right(rows: Int64[np.ndarray, " r"], scored: ScoredRows) -> float:
    """Return the score if these rows were answered by their labels and nothing else."""
    answers = scored.answers.copy()
    answers[rows] = np.eye(answers.shape[1])[scored.labels[rows]]
    return scored.metric.score(answers, scored.labels)


def _bounds(scored: ScoredRows, stack: Float64[np.ndarray, "m n k"]) -> Iterator[WhatIf]:
    """Yield what the models could give if it were known for each row how to use them.

    The weights of a mean have such a bound under abs-sum only.
    """
    if len(stack) < 2:
        return
    metric, labels = scored.metric, scored.labels
    models = [
        replace(scored, predictions=replace(scored.predictions, oof_probs=probs)) for probs in stack
    ]
    distances = np.stack([_distances(each) for each in models])
    answers = np.stack([each.answers for each in models])
    best = answers[distances.argmin(axis=0), np.arange(len(labels))]
    n_better = int((distances.min(axis=0) < _distances(scored)).sum())
    yield WhatIf("each row had its best model's answer", n_better, metric.score(best, labels))
    if isinstance(metric, RowMetric) and metric.name == "abs-sum":
        costs = weighted_mean_floor(stack, labels)
        n_better = int((costs * metric.scale < scored.rows.values).sum())
        score = float(costs.mean()) * metric.scale
        yield WhatIf("each row had its best weights, threshold 0.5", n_better, score)


def _distances(scored: ScoredRows) -> Float64[np.ndarray, " n"]:
    """Return how far each answer is from the best: in the metric's unit, if rows have a score."""
    if not isinstance(scored.metric, RowMetric):
        return abs_sum_of_rows(scored.answers, scored.labels)
    return -scored.rows.values if scored.metric.greater_is_better else scored.rows.values


def worst_cell(cells: list[Cell]) -> Cell | None:
    """Return the confusion that costs most; None where every row is right."""
    return next((cell for cell in cells if cell.is_wrong), None)


def cell_name(cell: Cell, classes: Sequence[str]) -> str:
    """Return which rows a cell holds: `1 predicted as 0`."""
    return f"{class_name(cell.truth, classes)} predicted as {class_name(cell.predicted, classes)}"
