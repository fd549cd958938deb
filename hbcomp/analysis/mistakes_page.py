"""The page of an experiment's mistakes, its tables and its pictures."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float64

from hbcomp.analysis.mistakes import N_LISTED, Findings, Group, Signals, cell_name, worst_cell
from hbcomp.reporting import pages
from hbcomp.reporting.figures import mistakes as pictures
from hbcomp.reporting.figures.style import class_text, printable
from hbcomp.reporting.links import links_from
from hbcomp.reporting.pages import Picture, Section, Table, Text
from hbcomp.scoring.confusions import ERROR_TYPES, Cell
from hbcomp.scoring.metrics import describe_metric
from hbcomp.scoring.paired import as_text
from hbcomp.scoring.row_metrics import RowMetric

N_CELLS: Final = 12  # costliest ones in a table; the rest is one line
N_DRAWN: Final = 12  # label issues in one picture: what a screen holds
SURE: Final = 0.8  # a margin beyond which a wrong answer is called sure; assumed


def write(path: Path, findings: Findings, signals: Signals) -> None:
    """Write the page; the signals are those of the training rows."""
    scored = findings.scored
    pages.write_page(
        path,
        title=f"What is wrong in {scored.name}: {as_text(scored.score)} {scored.metric.name}",
        subtitle=(
            f"{describe_metric(scored.metric)}, out-of-fold, cross-fitted, rule {scored.rule}, "
            f"{len(scored.labels):,} rows; models: {', '.join(findings.models)}"
        ),
        sections=[
            Text(summary(findings), "In short"),
            _cell_table(findings),
            *sorted(_details(findings, signals), key=lambda each: isinstance(each, Table)),
        ],
        links=links_from(path, [scored.name, *findings.models], path.parents[1]),
    )


def _details(findings: Findings, signals: Signals) -> list[Section]:
    return [
        _matrix(findings),
        *_why(findings),
        Text(_about_issues(findings), "Label issues"),
        *_issues(findings, signals),
        _what_if_table(findings),
    ]


def printed(findings: Findings) -> list[Table]:
    """Return the tables for a terminal."""
    found = [_cell_table(findings), _type_table(findings)]
    return [*found, *_issue_tables(findings), _what_if_table(findings)]


def numbers(findings: Findings) -> dict[str, Any]:
    """Return what was found as plain JSON values; a predicted class of null is none."""
    scored = findings.scored
    return {
        "experiment": scored.name,
        "metric": scored.metric.name,
        "rule": scored.rule,
        "models": list(findings.models),
        "n_rows": len(scored.labels),
        "score": scored.score,
        "n_wrong": len(findings.wrong.rows),
        "accuracy": float(scored.is_right.mean()),
        "cells": [
            {
                "truth": cell.truth,
                "predicted": cell.predicted if cell.predicted >= 0 else None,
                "n_rows": cell.n_rows,
                "loss": _mean(cell.loss, findings),
            }
            for cell in findings.cells
        ],
        "error_types": {each: int((findings.wrong.types == each).sum()) for each in ERROR_TYPES},
        "far_distance": findings.far if math.isfinite(findings.far) else None,
        "min_prob": findings.min_prob,
        "n_label_issues": len(findings.issues.rows),
        "what_if": [
            {"name": each.name, "n_rows": each.n_rows, "score": each.score}
            for each in findings.what_ifs
        ],
    }


def summary(findings: Findings) -> str:
    """Return in a few sentences what is wrong, why, and how many label issues there are."""
    return " ".join(_sentences(findings))


def _sentences(findings: Findings) -> Iterator[str]:
    n_rows, n_wrong = len(findings.scored.labels), len(findings.wrong.rows)
    score = f"{as_text(findings.scored.score)}, {describe_metric(findings.scored.metric)}"
    yield f"The score is {score}. {n_wrong:,} of {n_rows:,} rows are predicted wrong."
    if worst := worst_cell(findings.cells):
        loss = as_text(_mean(worst.loss, findings))
        share = _share(worst.loss, _total(findings.cells))
        name = cell_name(worst, findings.scored.classes)
        yield f"The costliest confusion is {name}: it loses {loss}, {share} of all losses."
        shares = [f"{_type_share(findings.wrong, each)} are {each}" for each in ERROR_TYPES]
        yield f"Of the wrong rows {', '.join(shares)}."
    yield (
        f"{len(findings.issues.rows):,} rows are label issues: {_everyone_predicts(findings)} the "
        "same other class."
    )


def _everyone_predicts(findings: Findings) -> str:
    names = findings.models
    return f"{', '.join(names)} all predict" if len(names) > 1 else f"{names[0]} alone predicts"


def _mean(total: float, findings: Findings) -> float:
    """Return what rows lose together as a part of the score."""
    return total / len(findings.scored.labels)


def _total(cells: Sequence[Cell]) -> float:
    return math.fsum(cell.loss for cell in cells if cell.loss > 0)


def _without(total: float, findings: Findings) -> str:
    """Return the score without what rows lose together."""
    loss = _mean(total, findings)
    is_greater = findings.scored.metric.greater_is_better
    return as_text(findings.scored.score + (loss if is_greater else -loss))


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


# --- what is wrong ----------------------------------------------------------------------------


def _cell_table(findings: Findings) -> Table:
    costly = [cell for cell in findings.cells if cell.loss > 0]
    whole = _total(costly)
    names = findings.scored.classes
    lines = [(cell_name(cell, names), cell.n_rows, cell.loss) for cell in costly[:N_CELLS]]
    if rest := costly[N_CELLS:]:
        lines.append((f"{len(rest)} others", sum(cell.n_rows for cell in rest), _total(rest)))
    if _adds_up(findings):
        lines.append(("all", sum(cell.n_rows for cell in costly), whole))
    rows = [
        [
            name,
            as_text(_mean(total, findings)),
            _share(total, whole),
            _without(total, findings),
            f"{n_rows:,}",
        ]
        for name, n_rows, total in lines
    ]
    title = f"What each confusion loses, {len(findings.scored.labels):,} rows"
    header = ["label and prediction", "loss", "share", "score without it", "rows"]
    note = (
        f"{describe_metric(findings.scored.metric)}, out-of-fold, cross-fitted. None is an answer "
        f"without any class. Rows that lose nothing are left out. {_about_losses(findings)}"
    )
    return Table(title, header, rows, note)


def _adds_up(findings: Findings) -> bool:
    return isinstance(findings.scored.metric, RowMetric)


def _about_losses(findings: Findings) -> str:
    if _adds_up(findings):
        return "The losses of all confusions add up."
    return (
        "Each loss is what the score would gain if these rows alone were answered by their labels, "
        "so the losses do not quite add up."
    )


def _matrix(findings: Findings) -> Table:
    n_classes = findings.scored.answers.shape[1]
    columns = [*range(n_classes), -1]
    losses = {
        (cell.truth, cell.predicted): as_text(_mean(cell.loss, findings)) for cell in findings.cells
    }
    rows = [
        [
            findings.class_name(truth),
            *(losses.get((truth, predicted), "-") for predicted in columns),
        ]
        for truth in range(n_classes)
    ]
    header = ["label", *(f"predicted {findings.class_name(predicted)}" for predicted in columns)]
    note = f"A dash is a cell without rows. {_about_losses(findings)}"
    return Table("The losses by label and prediction", header, rows, note)


# --- why --------------------------------------------------------------------------------------


def _why(findings: Findings) -> list[Section]:
    wrong, right = findings.wrong, findings.right
    if not len(wrong.rows):
        return [Text("Every row is predicted right.", "Why")]
    return [
        _type_table(findings),
        Picture(
            "distances",
            pictures.distances(
                wrong.own, wrong.other, wrong.types, right.own, right.other, findings.far
            ),
            "Distances of wrong and right rows to the nearest rows of other folds. Below the "
            "dashed line the other class is nearer; above and right of the dotted ones a row is "
            "unlike both classes.",
        ),
        Picture(
            "margins",
            pictures.margins(_margins(findings), wrong.types),
            f"How sure the wrong answers are. {(_margins(findings) > SURE).sum():,} of "
            f"{len(wrong.rows):,} have a margin over {SURE:g}; below 0 the label was the likeliest "
            "class, but not answered.",
        ),
    ]


def _margins(findings: Findings) -> Float64[np.ndarray, " w"]:
    """Return how far the label lay behind the likeliest other class, for each wrong row."""
    rows, labels = findings.wrong.rows, findings.scored.labels
    probs = findings.scored.predictions.oof_probs[rows]
    at = (np.arange(len(rows)), labels[rows])
    others = probs.copy()
    others[at] = 0
    margins: Float64[np.ndarray, " w"] = others.max(axis=1) - probs[at]
    return margins


def _type_table(findings: Findings) -> Table:
    wrong, right, scored = findings.wrong, findings.right, findings.scored
    groups = {"all wrong rows": wrong, "right rows, a sample": right}
    truths, predicted = scored.labels[wrong.rows], scored.predicted[wrong.rows]
    costly = [cell for cell in findings.cells if cell.is_wrong]
    groups |= {
        cell_name(cell, scored.classes): wrong.part(
            (truths == cell.truth) & (predicted == cell.predicted)
        )
        for cell in costly[:N_CELLS]
    }
    rows = [
        [
            name,
            f"{len(group.rows):,}",
            *(_type_share(group, each) for each in ERROR_TYPES),
            _median(group.own),
            _median(group.other),
        ]
        for name, group in groups.items()
    ]
    header = ["rows that are", "rows", *ERROR_TYPES, "to own class", "to other class"]
    return Table("Why: what the nearest rows are", header, rows, _about_types(findings))


def _type_share(group: Group, error_type: str) -> str:
    return _share(float((group.types == error_type).sum()), float(len(group.rows)))


def _about_types(findings: Findings) -> str:
    far = (
        f"farther from either than {findings.far:.3g}, which at most 1 % of the "
        f"{len(findings.right.rows):,} right rows exceed"
        if math.isfinite(findings.far)
        else "none, because no right rows set a bound"
    )
    return (
        "Euclidean distance to the nearest row of the row's own class and of the other class, "
        "among the rows of other folds of the first seed; the last columns are medians. The other "
        "class is the one answered; where none or the right one was, the nearest other. Unlike "
        f"both classes: {far}. Otherwise the nearer class decides: rows like their own class could "
        "have been known. The right rows have the wrong rows' mix of classes."
    )


def _median(values: Float64[np.ndarray, " g"]) -> str:
    middle = float(np.median(values)) if len(values) else math.inf
    return f"{middle:.3f}" if math.isfinite(middle) else "-"


# --- label issues and what if -----------------------------------------------------------------


def _about_issues(findings: Findings) -> str:
    return (
        f"For {len(findings.issues.rows):,} rows {_everyone_predicts(findings)} the same other "
        f"class than the label, with a probability above {findings.min_prob:g}; none was trained "
        "on the row. label_issues.csv lists them.\n\n"
        "A label issue is no proof: such rows may be rare or need knowledge that no signal holds, "
        "and models of one kind err alike. Look at them, or ask who labelled them. hbcomp never "
        "changes a label. After Northcutt, Jiang and Chuang, Confident Learning, JAIR 70, 2021."
    )


def _issues(findings: Findings, signals: Signals) -> list[Section]:
    tables, issues, neighbours = _issue_tables(findings), findings.issues, findings.neighbours
    if not tables:
        return []
    predictions, n = findings.scored.predictions, min(N_DRAWN, len(issues.rows))
    titles = [
        f"id {printable(predictions.train_ids[row])}\n"
        f"label {class_text(int(predictions.labels[row]), findings.scored.classes)}, predicted "
        f"{class_text(int(issues.answers[place]), findings.scored.classes)}: "
        f"{issues.least_probs[place]:.4f}"
        for place, row in enumerate(issues.rows[:n].tolist())
    ]
    figure = pictures.label_issues(
        signals, issues.rows[:n], neighbours.of_label[:n], neighbours.of_answer[:n], titles
    )
    caption = (
        f"The first {n} of {len(issues.rows):,} label issues, each over the nearest row of its "
        "label's class and of the predicted class, both of other folds. The number is the "
        "smallest probability that a model gives the predicted class."
    )
    return [*tables, Picture("label-issues", figure, caption)]


def _issue_tables(findings: Findings) -> list[Table]:
    issues, predictions = findings.issues, findings.scored.predictions
    if not len(issues.rows):
        return []
    rows = [
        [
            str(predictions.train_ids[row]),
            findings.class_name(int(predictions.labels[row])),
            findings.class_name(int(issues.answers[place])),
            f"{issues.least_probs[place]:.4f}",
            " ".join(
                findings.class_name(int(predictions.labels[near])) for near in nearest if near >= 0
            ),
        ]
        for place, (row, nearest) in enumerate(
            zip(issues.rows[:N_LISTED].tolist(), findings.neighbours.of_any, strict=True)
        )
    ]
    header = ["id", "label", "predicted", "smallest probability", "nearest labels"]
    title = f"Label issues, the first {len(rows)} of {len(issues.rows):,}"
    note = "Nearest labels: those of the nearest rows in other folds, the nearest first."
    return [Table(title, header, rows, note)]


def _what_if_table(findings: Findings) -> Table:
    now, sign = findings.scored.score, 1 if findings.scored.metric.greater_is_better else -1
    rows = [
        [each.name, as_text(sign * (each.score - now)), as_text(each.score), f"{each.n_rows:,}"]
        for each in findings.what_ifs
    ]
    note = (
        f"The score is {as_text(now)}. Each line needs the truth, so it is more than can be had, "
        "and the lines overlap, so the gains do not add up. A gain below 0 would be a loss."
    )
    if any("best model" in each.name for each in findings.what_ifs):
        note += f" Best model: each answers by rule {findings.scored.rule}."
    if any("best weights" in each.name for each in findings.what_ifs):
        note += (
            " Best weights: no weighted mean of the models' probabilities answers better under "
            "threshold 0.5, whatever the weights; other blends may."
        )
    header = ["if", "gain", "score", "rows"]
    title = f"What if it were solved, {describe_metric(findings.scored.metric)}"
    return Table(title, header, rows, note)
