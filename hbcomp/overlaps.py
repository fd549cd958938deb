"""The command `python -m hbcomp.overlaps`: rows that are overlapping windows of one recording."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Look")
def overlaps(
    train: options.Sample = None,
    test: options.Test = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("overlaps.csv"),
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="Look up a sample of this many rows.  [default: all]"),
    ] = None,
    competition: options.Competition = "heartbeat",
) -> dict[str, Any]:
    """Find rows whose end is the beginning of another row, up to scale and offset.

    Such rows are overlapping windows of one recording, and leak between folds, train and test. They
    are found from the signals alone. A control searches the rows reversed in time; where it finds
    something, too, or where ends fit more than one beginning, nothing is reported. The file has a
    line for each pair of rows. An existing file is never overwritten.

    Example: hbcomp overlaps --train train.csv --test testA.csv
    """
    from hbcomp.analysis.list_overlaps import list_overlaps
    from hbcomp.data.dataset import data_config

    config = data_config(competition=competition, train=train, test=test)
    return list_overlaps(config, rows, out, cli.console)


if __name__ == "__main__":
    cli.run(overlaps)
