"""The command `hbcomp ledger`: what was written, sent and scored.

It is `python -m hbcomp.ledger` because `hbcomp.submissions.ledger` is the ledger itself.
"""

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
    """List every submission with its expected and its leaderboard score and what became of it.

    Also shown: files that the ledger does not know, pairs that the leaderboard orders otherwise
    than expected, and the mean gap.

    Example: hbcomp ledger, or python -m hbcomp.ledger
    """
    from hbcomp.submissions.ledger_tables import show

    return show(folder, cli.console)


if __name__ == "__main__":
    cli.run(ledger)
