"""The command `python -m hbcomp.submit`: the last check before a file is uploaded by hand."""

from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Submit", then="hbcomp lb {file} SCORE")
def submit(
    file: Annotated[str, typer.Argument(help="The submission, or the start of its hash.")],
    test: options.TestIds = None,
    per_day: Annotated[
        int | None,
        typer.Option(
            min=1,
            envvar="HBCOMP_SUBMISSIONS_PER_DAY",
            help="How many submissions are allowed per day (UTC); default: as in competition.toml.",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Send a file whose content was sent before.")
    ] = False,
    by_hand: options.ByHand = False,
    competition: options.CompetitionOfRun = None,
) -> dict[str, Any]:
    """Check a submission for the last time and mark it as sent; you upload it.

    A file is refused if it was edited, if the leaderboard would not accept it, if it was sent
    before, and if --per-day are sent already. Its difference from what was sent is shown.

    Example: hbcomp submit submissions/resnet.csv --test testA.csv --per-day 3
    """
    from functools import partial

    from hbcomp.experiment.origin import FileOptions, answered_by, form_by, metric_by
    from hbcomp.submissions import FOLDER
    from hbcomp.submissions import submit as sending

    return sending.submit(
        file,
        partial(answered_by, options=FileOptions(test, competition)),
        per_day,
        partial(metric_by, competition=competition),
        partial(form_by, competition=competition),
        FOLDER,
        cli.console,
        is_again=again,
        is_by_hand=by_hand,
    )


if __name__ == "__main__":
    cli.run(submit)
