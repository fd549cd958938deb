"""The command `python -m hbcomp.ledger`: the submissions that were written, sent and scored."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli


@cli.command("Submit")
def ledger(
    folder: Annotated[
        Path, typer.Option(help="The folder with the files and their ledger.csv.")
    ] = Path("submissions"),
) -> dict[str, Any]:
    """List every submission with its state and its expected and leaderboard scores.

    It also shows files that the ledger does not have, pairs whose order on the leaderboard is not
    the expected one, and the mean gap.

    Example: hbcomp ledger
    """
    from hbcomp.submissions.ledger_tables import show

    return show(folder, cli.console)


if __name__ == "__main__":
    cli.run(ledger)
