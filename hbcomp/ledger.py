"""The command `hbcomp ledger`: what was written, sent and scored.

It is `python -m hbcomp.ledger` because `hbcomp.submissions.ledger` is the ledger itself.
"""

from typing import Any

from hbcomp.system import command as cli


def ledger() -> dict[str, Any]:
    """List every submission with its expected and its leaderboard score and what became of it.

    Also shown: files that the ledger does not know, pairs that the leaderboard orders otherwise
    than expected, and the mean gap.

    Example: hbcomp ledger, or python -m hbcomp.ledger
    """
    from hbcomp.submissions import FOLDER
    from hbcomp.submissions.ledger_tables import show

    return show(FOLDER, cli.console)


def main() -> None:
    """Run the command."""
    cli.run(ledger)


if __name__ == "__main__":
    main()
