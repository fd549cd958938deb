"""The command `python -m hbcomp.score`: the score of a submission whose labels are known."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Submit")
def score(
    file: Annotated[Path, typer.Argument(help="The submission to score.")],
    truth: Annotated[
        Path | None,
        typer.Option(
            help="CSV of ids and labels, in the competition's columns; default: the labels of the "
            "bundled test rows."
        ),
    ] = None,
    competition: options.Competition = "heartbeat",
) -> dict[str, Any]:
    """Print the score of a submission, its standard error, and what each class contributes.

    Rows are matched by id; both files must have the same ids.

    Examples: hbcomp score submissions/quickstart.csv

    hbcomp score submissions/mine.csv --truth truth.csv --competition FOLDER
    """
    from hbcomp.analysis.score_submission import score_submission

    return score_submission(file, truth, competition, cli.console)


if __name__ == "__main__":
    cli.run(score)
