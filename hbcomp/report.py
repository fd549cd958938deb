"""The command `python -m hbcomp.report`: every finished experiment on one page."""

from typing import Any

from hbcomp.system import command as cli


@cli.command("Look", then="hbcomp submit submissions/NAME.csv")
def report() -> dict[str, Any]:
    """Rank all runs, blends and imports, and show expected against leaderboard scores.

    The page is experiments/report.html: sorted by clicking a column's head, filtered by text, and
    it keeps both in its address, such as report.html#sort=seconds&filter=resnet.

    Example: hbcomp report
    """
    from hbcomp.analysis.ranking_page import write_leaderboard
    from hbcomp.experiment import ROOT
    from hbcomp.submissions import FOLDER

    return write_leaderboard(ROOT, FOLDER, cli.console)


if __name__ == "__main__":
    cli.run(report)
