"""The score of a submission whose labels are known, as numbers and a table."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hbcomp.data.tables import read_truth
from hbcomp.experiment.origin import SAMPLE, sample
from hbcomp.scoring.metrics import describe
from hbcomp.submissions.files import read_submission
from hbcomp.system.errors import InputError


def score_submission(file: Path, truth: Path | None, console: Console) -> dict[str, Any]:
    """Print and return the scores; without `truth` the labels are those of the bundled rows."""
    submission = read_submission(file)
    if truth is None:
        if {*submission.ids.tolist()} != {*sample().ids.tolist()}:
            raise InputError(
                f"{file}: its ids are not those of {SAMPLE}, whose labels come with hbcomp; name "
                "the file of the labels with --truth"
            )
        console.print(f"The labels are those of {SAMPLE}, which have these ids.")
    labels = read_truth(truth, submission.ids, submission.answers.shape[1], submission.id_column)
    numbers: dict[str, Any] = describe(submission.answers, labels)
    console.print(_class_table(file, numbers["by_class"]))
    console.print(
        f"abs-sum {numbers['sum']:.3f} over {numbers['n_rows']:,} rows = {numbers['mean']:.5f} "
        f"per row = {numbers['per_20k']:.1f} per 20k; "
        f"accuracy of the answers {numbers['accuracy']:.4f}"
    )
    return {"file": str(file), **numbers}


def _class_table(file: Path, by_class: list[dict[str, Any]]) -> Table:
    # Not by `print_table`, which imports matplotlib for the pictures of pages.
    title = Text(f"{file}: abs-sum by true class", style="bold")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("class", "rows", "abs-sum", "per row", "recall", "answered none"):
        table.add_column(name, justify="right")
    for row in by_class:
        table.add_row(
            str(row["label"]),
            f"{row['n_rows']:,}",
            f"{row['total']:.3f}",
            f"{row['mean']:.5f}",
            f"{row['recall']:.4f}",
            f"{row['n_none']:,}",
        )
    return table
