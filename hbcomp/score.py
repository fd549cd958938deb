"""The command `python -m hbcomp.score`: the score of a submission whose labels are known."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli


@cli.command("Submit")
def score(
    file: Annotated[Path, typer.Argument(help="The submission to score.")],
    truth: Annotated[
        Path | None,
        typer.Option(help="CSV with id,label; default: the labels of the bundled test rows."),
    ] = None,
) -> dict[str, Any]:
    """Print the abs-sum of a submission (lower is better): in all, per row, per 20k rows, by class.

    Rows are matched by id; both files must have the same ids.

    Example: hbcomp score submissions/quickstart.csv
    """
    from hbcomp.data.tables import read_truth
    from hbcomp.experiment.origin import SAMPLE, sample
    from hbcomp.scoring.metrics import describe
    from hbcomp.submissions.files import read_submission
    from hbcomp.system.errors import InputError

    submission = read_submission(file)
    if truth is None:
        if {*submission.ids.tolist()} != {*sample().ids.tolist()}:
            raise InputError(
                f"{file}: its ids are not those of {SAMPLE}, whose labels come with hbcomp; name "
                "the file of the labels with --truth"
            )
        cli.console.print(f"The labels are those of {SAMPLE}, which have these ids.")
    labels = read_truth(truth, submission.ids, submission.answers.shape[1], submission.id_column)
    numbers = describe(submission.answers, labels)
    _print(file, numbers)
    return {"file": str(file), **numbers}


def _print(file: Path, numbers: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{file}: what each true class costs", style="bold")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("class", "rows", "abs-sum", "per row", "recall", "answered none"):
        table.add_column(name, justify="right")
    for row in numbers["by_class"]:
        table.add_row(
            str(row["label"]),
            f"{row['n_rows']:,}",
            f"{row['total']:.3f}",
            f"{row['mean']:.5f}",
            f"{row['recall']:.4f}",
            f"{row['n_none']:,}",
        )
    cli.console.print(table)
    cli.console.print(
        f"abs-sum {numbers['sum']:.3f} over {numbers['n_rows']:,} rows = {numbers['mean']:.5f} "
        f"per row = {numbers['per_20k']:.1f} per 20k; "
        f"accuracy of the answers {numbers['accuracy']:.4f}"
    )


if __name__ == "__main__":
    cli.run(score)
