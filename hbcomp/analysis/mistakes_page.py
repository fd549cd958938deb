"""The page of an experiment's mistakes, its tables and its pictures."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float64

from hbcomp.analysis.mistakes import N_LISTED, Findings, Group, Signals, cell_name
from hbcomp.reporting import pages
from hbcomp.reporting.figures import mistakes as pictures
from hbcomp.reporting.figures.style import printable
from hbcomp.reporting.links import links_from
from hbcomp.reporting.pages import Picture, Section, Table, Text
from hbcomp.scoring.confusions import KINDS, Cell
from hbcomp.scoring.metrics import ROWS_OF_THE_LEADERBOARD, class_name, score_of

N_CELLS: Final = 12  # costliest ones in a table; the rest is one line
N_DRAWN: Final = 12  # doubts in one picture: what a screen holds
SURE: Final = 0.8  # a margin beyond which a wrong answer is called sure; assumed


def write(path: Path, findings: Findings, signals: Signals) -> None:
    """Write the page; the signals are those of the training rows."""
    pages.write_page(
        path,
        title=f"What is wrong in {findings.answered.name}: {_per_20k(findings):.1f} per 20k",
        subtitle=(
            f"out-of-fold, cross-fitted, rule {findings.answered.rule}, "
            f"{len(findings.answered.labels):,} rows; members: {', '.join(findings.members)}"
        ),
        sections=[
            Text(summary(findings), "In short"),
            _cell_table(findings),
            *sorted(_details(findings, signals), key=lambda each: isinstance(each, Table)),
        ],
        links=links_from(path, [findings.answered.name, *findings.members], path.parents[1]),
    )


def _details(findings: Findings, signals: Signals) -> list[Section]:
    return [
        _matrix(findings),
        *_why(findings),
        Text(_about_doubts(findings), "Which labels are doubted"),
        *_doubts(findings, signals),
        _remedy_table(findings),
    ]


def printed(findings: Findings) -> list[Table]:
    """Return the tables for a terminal."""
    found = [_cell_table(findings), _kind_table(findings)]
    return [*found, *_doubt_tables(findings), _remedy_table(findings)]


def numbers(findings: Findings) -> dict[str, Any]:
    """Return what was found as plain JSON values; a called class of null is none."""
    answered = findings.answered
    return {
        "experiment": answered.name,
        "rule": answered.rule,
        "members": list(findings.members),
        "n_rows": len(answered.labels),
        "per_20k": _per_20k(findings),
        "n_wrong": len(findings.wrong.rows),
        "accuracy": float((~answered.is_wrong).mean()),
        "cells": [
            {
                "truth": cell.truth,
                "called": cell.called if cell.called >= 0 else None,
                "n_rows": cell.n_rows,
                "per_20k": _scaled(cell.total, findings),
            }
            for cell in findings.cells
        ],
        "kinds": {kind: int((findings.wrong.kinds == kind).sum()) for kind in KINDS},
        "far_distance": findings.far if math.isfinite(findings.far) else None,
        "min_prob": findings.min_prob,
        "n_doubts": len(findings.doubts.rows),
        "remedies": [
            {"name": each.name, "n_rows": each.n_rows, "per_20k": each.left.per_20k}
            for each in findings.remedies
        ],
    }


def summary(findings: Findings) -> str:
    """Return in a few sentences what is wrong, why, and whose labels are doubted."""
    return " ".join(_sentences(findings))


def _sentences(findings: Findings) -> Iterator[str]:
    n_rows, n_wrong = len(findings.answered.labels), len(findings.wrong.rows)
    yield f"{n_wrong:,} of {n_rows:,} rows are called wrong."
    if worst := next((cell for cell in findings.cells if cell.is_wrong), None):
        yield (
            f"The costliest confusion is {cell_name(worst)}: {_scaled(worst.total, findings):.1f} "
            f"of the {_per_20k(findings):.1f} per 20k."
        )
        kinds = [f"{_kind_share(findings.wrong, kind)} are {kind}" for kind in KINDS]
        yield f"Of the wrong rows {', '.join(kinds)}."
    yield f"{len(findings.doubts.rows):,} labels are doubted by {_everyone(findings)}."


def _everyone(findings: Findings) -> str:
    names = findings.members
    return f"all of {', '.join(names)}" if len(names) > 1 else f"{names[0]} alone"


def _per_20k(findings: Findings) -> float:
    return score_of(findings.answered.costs).per_20k


def _scaled(total: float, findings: Findings) -> float:
    return total * ROWS_OF_THE_LEADERBOARD / len(findings.answered.labels)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


# --- what is wrong ----------------------------------------------------------------------------


def _cell_table(findings: Findings) -> Table:
    costly = [cell for cell in findings.cells if cell.total > 0]
    whole = math.fsum(cell.total for cell in costly)
    lines = [(cell_name(cell), cell.n_rows, cell.total) for cell in costly[:N_CELLS]]
    if rest := costly[N_CELLS:]:
        n_rows = sum(cell.n_rows for cell in rest)
        lines.append((f"{len(rest)} others", n_rows, math.fsum(cell.total for cell in rest)))
    lines.append(("all", sum(cell.n_rows for cell in costly), whole))
    rows = [
        [
            name,
            f"{_scaled(total, findings):.1f}",
            _share(total, whole),
            f"{_scaled(whole - total, findings):.1f}",
            f"{n_rows:,}",
        ]
        for name, n_rows, total in lines
    ]
    title = f"What the abs-sum is made of, {len(findings.answered.labels):,} rows"
    header = ["label and answer", "per 20k", "share", "left without it", "rows"]
    note = (
        "Out-of-fold, cross-fitted. None is an answer without any class. Rows that cost nothing "
        "are left out."
    )
    return Table(title, header, rows, note)


def _matrix(findings: Findings) -> Table:
    n_classes = findings.answered.answers.shape[1]
    columns = [*range(n_classes), -1]
    cell_at = {(cell.truth, cell.called): cell for cell in findings.cells}
    rows = []
    for truth in range(n_classes):
        cells = [cell_at.get((truth, called)) for called in columns]
        rows.append([str(truth), *(_cost(cell, findings) for cell in cells)])
    header = ["label", *(f"called {class_name(called)}" for called in columns)]
    note = "A dash is a cell without rows; the cells add up to the score."
    return Table("The same by label and answer, abs-sum per 20k", header, rows, note)


def _cost(cell: Cell | None, findings: Findings) -> str:
    return f"{_scaled(cell.total, findings):.1f}" if cell else "-"


# --- why --------------------------------------------------------------------------------------


def _why(findings: Findings) -> list[Section]:
    wrong, right = findings.wrong, findings.right
    if not len(wrong.rows):
        return [Text("No row is called wrong.", "Why")]
    return [
        _kind_table(findings),
        Picture(
            "distances",
            pictures.distances(
                wrong.own, wrong.other, wrong.kinds, right.own, right.other, findings.far
            ),
            "Distances of wrong and right rows to the nearest rows of other folds. Below the "
            "dashed line the other class is nearer; above and right of the dotted ones a row is "
            "unlike both classes.",
        ),
        Picture(
            "margins",
            pictures.margins(_margins(findings), wrong.kinds),
            f"How sure the wrong answers are. {(_margins(findings) > SURE).sum():,} of "
            f"{len(wrong.rows):,} have a margin over {SURE:g}; below 0 the label was the likeliest "
            "class, but not answered.",
        ),
    ]


def _margins(findings: Findings) -> Float64[np.ndarray, " w"]:
    """Return how far the label lay behind the likeliest other class, for each wrong row."""
    rows, labels = findings.wrong.rows, findings.answered.labels
    probs = findings.answered.predictions.oof_probs[rows]
    at = (np.arange(len(rows)), labels[rows])
    others = probs.copy()
    others[at] = 0
    margins: Float64[np.ndarray, " w"] = others.max(axis=1) - probs[at]
    return margins


def _kind_table(findings: Findings) -> Table:
    wrong, right, answered = findings.wrong, findings.right, findings.answered
    groups = {"all wrong rows": wrong, "right rows, a sample": right}
    truths, called = answered.labels[wrong.rows], answered.called[wrong.rows]
    costly = [cell for cell in findings.cells if cell.is_wrong]
    groups |= {
        cell_name(cell): wrong.part((truths == cell.truth) & (called == cell.called))
        for cell in costly[:N_CELLS]
    }
    rows = [
        [
            name,
            f"{len(group.rows):,}",
            *(_kind_share(group, kind) for kind in KINDS),
            _median(group.own),
            _median(group.other),
        ]
        for name, group in groups.items()
    ]
    header = ["rows that are", "rows", *KINDS, "to own class", "to other class"]
    return Table("Why: what the nearest rows are", header, rows, _about_kinds(findings))


def _kind_share(group: Group, kind: str) -> str:
    return _share(float((group.kinds == kind).sum()), float(len(group.rows)))


def _about_kinds(findings: Findings) -> str:
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


# --- doubts and remedies ----------------------------------------------------------------------


def _about_doubts(findings: Findings) -> str:
    return (
        f"{len(findings.doubts.rows):,} rows are given one other class than their label, at more "
        f"than {findings.min_prob:g}, by {_everyone(findings)}, none of which was trained on them. "
        "doubts.csv lists them.\n\n"
        "A doubt is no proof: such rows may be rare or need knowledge that no signal holds, and "
        "members of one kind err alike. Look at them, or ask who labelled them. hbcomp never "
        "changes a label. After Northcutt, Jiang and Chuang, Confident Learning, JAIR 70, 2021."
    )


def _doubts(findings: Findings, signals: Signals) -> list[Section]:
    tables, doubts, beside = _doubt_tables(findings), findings.doubts, findings.beside
    if not tables:
        return []
    predictions, n = findings.answered.predictions, min(N_DRAWN, len(doubts.rows))
    titles = [
        f"id {printable(predictions.train_ids[row])}\nlabel {predictions.labels[row]}, "
        f"all say {doubts.answers[place]}: {doubts.least_probs[place]:.4f}"
        for place, row in enumerate(doubts.rows[:n].tolist())
    ]
    figure = pictures.doubted_beats(
        signals, doubts.rows[:n], beside.of_label[:n], beside.of_answer[:n], titles
    )
    caption = (
        f"The first {n} of {len(doubts.rows):,} doubts, each over the nearest row of its label's "
        "class and of the class that every member gives, both of other folds. The number is the "
        "smallest probability that a member gives it."
    )
    return [*tables, Picture("doubts", figure, caption)]


def _doubt_tables(findings: Findings) -> list[Table]:
    doubts, predictions = findings.doubts, findings.answered.predictions
    if not len(doubts.rows):
        return []
    rows = [
        [
            str(predictions.train_ids[row]),
            str(predictions.labels[row]),
            str(doubts.answers[place]),
            f"{doubts.least_probs[place]:.4f}",
            _labels_of(findings.beside.of_any[place], predictions.labels),
        ]
        for place, row in enumerate(doubts.rows[:N_LISTED].tolist())
    ]
    header = ["id", "label", "members' class", "smallest probability", "nearest labels"]
    title = f"Doubted labels, the first {len(rows)} of {len(doubts.rows):,}"
    note = "Nearest labels: those of the nearest rows in other folds, the nearest first."
    return [Table(title, header, rows, note)]


def _labels_of(rows: np.ndarray, labels: np.ndarray) -> str:
    return " ".join(str(labels[row]) for row in rows if row >= 0)


def _remedy_table(findings: Findings) -> Table:
    now = _per_20k(findings)
    rows = [
        [
            each.name,
            f"{now - each.left.per_20k:.1f}",
            f"{each.left.per_20k:.1f}",
            f"{each.n_rows:,}",
        ]
        for each in findings.remedies
    ]
    note = (
        f"Of {now:.1f} per 20k. Each needs the truth, so it is more than can be had, and they "
        "overlap, so the gains do not add up. Below 0 it would cost."
    )
    if len(findings.members) > 1:
        note += (
            f" Best member: each answers by rule {findings.answered.rule}. Best weights: no "
            "weighted mean of the members' probabilities answers better by rule half, whatever "
            "the weights; other blends may."
        )
    header = ["if", "gain", "left", "rows"]
    return Table("What solving it would give, abs-sum per 20k", header, rows, note)
