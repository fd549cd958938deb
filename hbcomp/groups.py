"""The command `python -m hbcomp.groups`: related rows as groups, for a split without leaks."""

from itertools import pairwise
from math import inf
from pathlib import Path
from shlex import join
from typing import Annotated, Any, Final

import typer

from hbcomp.system import command as cli
from hbcomp.system import options

SIZES: Final = (1, 2, 10, 100, 1_000)  # the largest of each row of the table but the last


@cli.command("Train")
def groups(
    train: options.Sample = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("groups.csv"),
    neighbours: Annotated[
        int, typer.Option(help="Nearest rows of each among which relatives are sought.")
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
            help="A mixture sees its two parents in opposite directions, up to an angle of at "
            "most this sine."
        ),
    ] = 0.01,
    max_share: Annotated[
        float,
        typer.Option(
            help="The largest group's share of the rows, 2 at least; links beyond are cut."
        ),
    ] = 0.01,
    id_column: options.IdColumn = "id",
    signal_column: options.SignalColumn = "heartbeat_signals",
    label_column: options.LabelColumn = "label",
    ignored_columns: options.IgnoredColumns = None,
) -> dict[str, Any]:
    """Write id,group of every row: near-duplicates, and mixtures with their parents, together.

    Found from the signals alone. `hbcomp cv NAME --set folds.groups=FILE` then keeps every group in
    one fold, for a score nearer to that of rows without relatives. An existing file is never
    overwritten.

    Example: hbcomp groups --train train.csv --out groups.csv
    """
    _check(neighbours, distance, sine, max_share)
    from hbcomp.data.dataset import DataConfig
    from hbcomp.data.load import load_data
    from hbcomp.data.related_rows import find_links, spread, unite
    from hbcomp.data.splits import write_groups
    from hbcomp.system.config import validate

    columns: dict[str, str | list[str]] = {
        "id_column": id_column,
        "signal_column": signal_column,
        "label_column": label_column,
        **({"ignored_columns": ignored_columns} if ignored_columns else {}),
    }
    asked = columns if train is None else {"train": train, **columns}
    beats, _ = load_data(validate(DataConfig, asked, ""))
    max_distance = distance * spread(beats.signals)
    links = find_links(beats.signals, neighbours, max_distance, sine)
    max_size = max(2, int(max_share * beats.n_rows))
    found = unite(links, beats.n_rows, max_size)
    write_groups(out, found.group_of_row, beats)
    numbers = {
        "file": str(out),
        "n_rows": beats.n_rows,
        "n_neighbours": neighbours,
        "n_near_pairs": links.n_near,
        "n_mixtures": links.n_mixtures,
        "n_links": len(links.pairs),
        "n_cut": len(found.cut),
        "n_parted": found.n_parted,
        "n_groups": len(found.sizes),
        "largest": int(found.sizes.max()),
        "max_size": max_size,
        "max_distance": max_distance,
    }
    changed = {key: name for key, name in columns.items() if name != getattr(DataConfig(), key)}
    _print(numbers, found.sizes.tolist(), train, changed)
    return numbers


def _check(neighbours: int, distance: float, sine: float, max_share: float) -> None:
    from hbcomp.system.errors import InputError

    rules = {
        f"--neighbours must be at least 2, but got {neighbours}": neighbours >= 2,
        f"--distance must be a number of at least 0, but got {distance}": 0 <= distance < inf,
        f"--sine must be above 0 and below 1, but got {sine}": 0 < sine < 1,
        f"--max-share must be above 0 and at most 1, but got {max_share}": 0 < max_share <= 1,
    }
    if problems := [rule for rule, is_kept in rules.items() if not is_kept]:
        raise InputError.of("", problems)


def _print(
    numbers: dict[str, Any],
    sizes: list[int],
    train: Path | None,
    columns: dict[str, str | list[str]],
) -> None:
    from hbcomp.reporting.pages import Table, print_table

    n_rows, n_links, n_cut = (numbers[key] for key in ("n_rows", "n_links", "n_cut"))
    title = f"{n_rows:,} rows in {len(sizes):,} groups"
    print_table(Table(title, ["rows of a group", "groups", "rows"], _size_rows(sizes)), cli.console)
    cli.console.print(
        f"{numbers['n_near_pairs']:,} pairs of near-duplicates (at most "
        f"{numbers['max_distance']:.3g} apart) and {numbers['n_mixtures']:,} mixtures of two other "
        f"rows, among the {numbers['n_neighbours']:,} nearest of each, make {n_links:,} links."
    )
    if n_cut:
        cli.console.print(
            f"{n_cut:,} links ({n_cut / n_links:.1%}) are cut, because no group may have more than "
            f"{numbers['max_size']:,} rows: {numbers['n_parted']:,} rows have a relative in "
            "another group, so the grouped score is still too good for them."
        )
    settings = [f"data.{key}={name}" for key, name in columns.items()]
    words = ["--train", str(train)] if train else []
    words += [
        word for each in [*settings, f"folds.groups={numbers['file']}"] for word in ("--set", each)
    ]
    cli.console.print(
        f"next: hbcomp cv NAME {join(words)} --name NAME-grouped, then hbcomp compare NAME "
        "NAME-grouped"
    )


def _size_rows(sizes: list[int]) -> list[list[str]]:
    """Return how many groups and rows there are by the size of the group, empty lines left out."""
    ends = [0, *(end for end in SIZES if end < max(sizes)), max(sizes)]
    rows = []
    for before, high in pairwise(ends):
        low = before + 1
        of_size = [size for size in sizes if low <= size <= high]
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        if of_size:
            rows.append([span, f"{len(of_size):,}", f"{sum(of_size):,}"])
    return rows


if __name__ == "__main__":
    cli.run(groups)
