"""The command `python -m hbcomp.lb`: record a score of the leaderboard."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Submit", then="hbcomp ledger")
def lb(
    file: Annotated[str, typer.Argument(help="The file that was sent, or the start of its hash.")],
    score: Annotated[
        float | None, typer.Argument(help="The score that the leaderboard shows.")
    ] = None,
    date: Annotated[
        datetime | None, typer.Option(help="The time of the score, in UTC.  [default: now]")
    ] = None,
    correct: Annotated[
        bool, typer.Option("--correct", help="Replace another score that was recorded.")
    ] = False,
    by_hand: options.ByHand = False,
    competition: options.CompetitionOfRun = None,
    force: Annotated[
        bool, typer.Option("--force", help="Record a score that the file cannot have.")
    ] = False,
    kaggle: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Ask this competition on Kaggle for the score."),
    ] = None,
) -> dict[str, Any]:
    """Record the leaderboard's score of a submission, and show it beside the expected one.

    The score belongs to the content of the file. A file that was edited after it was written is
    refused, unless it was sent as it is now (--by-hand).

    Examples: hbcomp lb submissions/resnet.csv 166.4954

    hbcomp lb submissions/resnet.csv --kaggle titanic
    """
    from functools import partial

    from hbcomp.experiment.origin import form_by, metric_by
    from hbcomp.submissions import FOLDER, ledger
    from hbcomp.submissions.submit import ask, record
    from hbcomp.system.errors import InputError

    if (score is None) == (kaggle is None):
        raise InputError("give the SCORE that the leaderboard shows, or ask with --kaggle NAME")
    find_form = partial(form_by, competition=competition)
    received = (date if date.tzinfo else date.replace(tzinfo=UTC)) if date else None
    if score is None:
        assert kaggle is not None
        score, sent = ask(file, kaggle, find_form, FOLDER, is_by_hand=by_hand)
        received = received or sent
    return record(
        file,
        score,
        received or ledger.now(),
        partial(metric_by, competition=competition),
        find_form,
        FOLDER,
        cli.console,
        is_correction=correct,
        is_by_hand=by_hand,
        force=force,
    )


if __name__ == "__main__":
    cli.run(lb)
