"""The score of a submission whose labels are known, as numbers and a table."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hbcomp.competitions.competition import load_competition, metric_of
from hbcomp.competitions.submission_form import SubmissionForm, known_form
from hbcomp.data.dataset import DataConfig
from hbcomp.data.layout import DataLayout
from hbcomp.data.tables import read_rows, read_truth
from hbcomp.experiment.origin import SAMPLE, sample
from hbcomp.scoring.by_class import ClassScore, accuracy, confusion, score_by_class
from hbcomp.scoring.metrics import describe_metric
from hbcomp.scoring.paired import as_text, measure
from hbcomp.scoring.row_metrics import class_name
from hbcomp.submissions.files import read_submission
from hbcomp.system.errors import InputError


def score_submission(
    file: Path, truth: Path | None, competition: str, console: Console
) -> dict[str, Any]:
    """Print and return the scores; without `truth` the labels are those of the bundled rows."""
    of_competition = load_competition(competition)
    form = known_form(DataConfig(competition=competition))
    classes = form.classes if form else ()
    submission = read_submission(file, form)
    if truth is None:
        if {*submission.ids.tolist()} != {*sample().ids.tolist()}:
            raise InputError(
                f"{file}: its ids are not those of {SAMPLE}, whose labels come with hbcomp; name "
                "the file of the labels with --truth"
            )
        console.print(f"The labels are those of {SAMPLE}, which have these ids.")
    answers = submission.answers
    columns = _truth_columns(truth, submission.id_column, of_competition.file.data, form)
    labels = read_truth(truth, submission.ids, answers.shape[1], *columns, classes)
    names = classes or [str(label) for label in range(answers.shape[1])]
    metric = metric_of(of_competition.metric_spec(names))
    rows = measure(metric, answers, labels)
    by_class = score_by_class(rows.values, answers, labels)
    of_answers = accuracy(answers, labels)
    console.print(_class_table(file, metric.name, by_class, names))
    console.print(
        f"{describe_metric(metric)}: {as_text(rows.score)} ± {as_text(rows.standard_error)} on "
        f"{len(labels):,} rows; accuracy of the answers {of_answers:.4f}"
    )
    return {
        "file": str(file),
        "metric": metric.name,
        "score": rows.score,
        "standard_error": rows.standard_error,
        "n_rows": len(labels),
        "accuracy": of_answers,
        "by_class": [asdict(each) for each in by_class],
        "confusion": confusion(answers, labels).tolist(),
    }


def _truth_columns(
    truth: Path | None, id_column: str, layout: DataLayout, form: SubmissionForm | None
) -> tuple[str, str]:
    """Return the columns of the ids and the labels: called as in the data or in a submission."""
    header = read_rows(truth)[0] if truth else []
    answered = form.columns[0] if form and form.kind == "label" else layout.label_name
    label = layout.label_name if layout.label_name in header else answered
    return id_column if id_column in header else layout.id_name, label


def _class_table(
    file: Path, metric: str, by_class: Sequence[ClassScore], classes: Sequence[str]
) -> Table:
    # Not by `print_table`, which imports matplotlib for the pictures of pages.
    title = Text(f"{file}: {metric} by true class", style="bold")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("class", "rows", "share of score", "mean", "recall", "answered none"):
        table.add_column(name, justify="right")
    for row in by_class:
        table.add_row(
            class_name(row.label, classes),
            f"{row.n_rows:,}",
            as_text(row.share),
            as_text(row.mean),
            f"{row.recall:.4f}",
            f"{row.n_none:,}",
        )
    return table
