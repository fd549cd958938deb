"""The command `python -m hbcomp.lb`: record a score of the leaderboard."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Submit", then="hbcomp ledger")
def lb(
    file: Annotated[str, typer.Argument(help="The file that was sent, or the start of its hash.")],
    score: Annotated[float, typer.Argument(help="The score that the leaderboard shows.")],
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
) -> dict[str, Any]:
    """Record the leaderboard's score of a submission, and show it beside the expected one.

    The score belongs to the content of the file. A file that was edited after it was written is
    refused, unless it was sent as it is now (--by-hand).

    Example: hbcomp lb submissions/resnet.csv 166.4954
    """
    from functools import partial

    from hbcomp.experiment.origin import form_by, metric_by
    from hbcomp.submissions import FOLDER, ledger
    from hbcomp.submissions.submit import record

    return record(
        file,
        score,
        (date if date.tzinfo else date.replace(tzinfo=UTC)) if date else ledger.now(),
        partial(metric_by, competition=competition),
        partial(form_by, competition=competition),
        FOLDER,
        cli.console,
        is_correction=correct,
        is_by_hand=by_hand,
        force=force,
    )


if __name__ == "__main__":
    cli.run(lb)
