"""The command `python -m hbcomp.submit`: the last check before a file is uploaded."""

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
    kaggle: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help='Upload it to this competition on Kaggle; needs "hbcomp[kaggle]" and an account.',
        ),
    ] = None,
) -> dict[str, Any]:
    """Check a submission for the last time and mark it as sent; you upload it, or --kaggle does.

    A file is refused if it was edited, if the leaderboard would not accept it, if it was sent
    before, and if --per-day are sent already. Its difference from what was sent is shown.

    Examples: hbcomp submit submissions/resnet.csv --test testA.csv --per-day 3

    hbcomp submit submissions/resnet.csv --kaggle titanic
    """
    from functools import partial

    from hbcomp.experiment.origin import FileOptions, answered_by, form_by, metric_by
    from hbcomp.submissions import FOLDER
    from hbcomp.submissions import kaggle as bridge
    from hbcomp.submissions import submit as sending

    upload = partial(bridge.upload, bridge.connect(), kaggle) if kaggle else None
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
        upload=upload,
    )


if __name__ == "__main__":
    cli.run(submit)
