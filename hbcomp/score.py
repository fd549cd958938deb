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
    from hbcomp.analysis.score_submission import score_submission

    return score_submission(file, truth, cli.console)


if __name__ == "__main__":
    cli.run(score)
