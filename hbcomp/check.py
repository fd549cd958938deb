"""The command `python -m hbcomp.check`: does the leaderboard accept a file?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Submit", then="hbcomp submit {file}")
def check(
    file: Annotated[Path, typer.Argument(help="The submission to check.")],
    test: options.TestIds = None,
    classes: Annotated[
        int | None, typer.Option(min=2, help="The number of classes; default: that of the header.")
    ] = None,
    competition: options.CompetitionOfRun = None,
) -> dict[str, Any]:
    """Check header, ids and their order, and every answer, as the competition wants them.

    Examples: hbcomp check submissions/mine.csv --test testA.csv

    hbcomp check theirs.csv --competition FOLDER
    """
    from hbcomp.competitions.submission_form import plain_form
    from hbcomp.experiment.origin import FileOptions, answered_by, sample
    from hbcomp.submissions import FOLDER
    from hbcomp.submissions.files import check_submission, read_submission
    from hbcomp.submissions.ledger import read_ledger
    from hbcomp.system.errors import InputError

    file_options = FileOptions(test, competition)
    answered = answered_by(file, read_ledger(FOLDER), file_options)
    if answered is None:
        answered = sample()
        if {*read_submission(file).ids.tolist()} != {*answered.ids.tolist()}:
            raise InputError(
                f"{file}: no experiment here wrote it; name the test file with --test, or its "
                "competition with --competition"
            )
    form = plain_form(classes, answered.id_column) if classes else answered.form
    submission = check_submission(file, answered.ids, form, answered.id_column)
    n_rows, n_classes = submission.answers.shape
    cli.console.print(
        f"{file}: {n_rows:,} rows, {n_classes} classes, every check passed against "
        f"{answered.source}"
    )
    return {
        "file": str(file),
        "test": answered.source,
        "n_rows": n_rows,
        "n_classes": n_classes,
        "accepted": True,
    }


if __name__ == "__main__":
    cli.run(check)
