"""The command `python -m hbcomp.groups`: groups of related rows, for a split without leaks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Train")
def groups(
    train: options.Sample = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("groups.csv"),
    neighbours: Annotated[
        int, typer.Option(help="How many nearest rows of each row are compared with it.")
    ] = 40,
    distance: Annotated[
        float,
        typer.Option(
            help="Near-duplicates are at most this share of the rows' spread apart, the root "
            "mean squared distance from their mean."
        ),
    ] = 0.01,
    sine: Annotated[
        float,
        typer.Option(
            help="An interpolated (SMOTE) row sees its two parents in opposite directions, up to "
            "an angle of at most this sine."
        ),
    ] = 0.01,
    max_share: Annotated[
        float,
        typer.Option(
            help="The largest group's share of the rows, 2 at least; links beyond are cut."
        ),
    ] = 0.01,
    overlaps: Annotated[
        bool,
        typer.Option("--overlaps", help="Link rows that are overlapping windows of one recording."),
    ] = False,
    competition: options.Competition = "heartbeat",
) -> dict[str, Any]:
    """Write id,group of every row: near-duplicates, and interpolated rows with their parents.

    With --overlaps, rows that `hbcomp overlaps` lists are in one group, too. Groups are found from
    the signals alone. `hbcomp cv NAME --set folds.groups=FILE` then keeps every group in one fold,
    for a score nearer to that of unrelated rows. An existing file is never overwritten.

    Example: hbcomp groups --train train.csv --out groups.csv
    """
    from hbcomp.analysis.group_rows import Limits, write_groups
    from hbcomp.data.dataset import data_config

    config = data_config(competition=competition, train=train)
    limits = Limits(neighbours, distance, sine, max_share)
    return write_groups(config, limits, out, cli.console, with_overlaps=overlaps)


if __name__ == "__main__":
    cli.run(groups)
