"""The command `python -m hbcomp.groups`: groups of related rows, for a split without leaks."""

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
    id_column: options.IdColumn = "id",
    signal_column: options.SignalColumn = "heartbeat_signals",
    label_column: options.LabelColumn = "label",
    ignored_columns: options.IgnoredColumns = None,
) -> dict[str, Any]:
    """Write id,group of every row: near-duplicates, and interpolated rows with their parents.

    Groups are found from the signals alone. `hbcomp cv NAME --set folds.groups=FILE` then keeps
    every group in one fold, for a score nearer to that of unrelated rows. An existing file is never
    overwritten.

    Example: hbcomp groups --train train.csv --out groups.csv
    """
    _check(neighbours, distance, sine, max_share)
    from hbcomp.data.dataset import as_options, data_config
    from hbcomp.data.load import load_data
    from hbcomp.data.related_rows import find_links, spread, unite
    from hbcomp.data.splits import write_groups

    config = data_config(
        train=train,
        id_column=id_column,
        signal_column=signal_column,
        label_column=label_column,
        ignored_columns=ignored_columns,
    )
    rows, _ = load_data(config)
    max_distance = distance * spread(rows.signals)
    links = find_links(rows.signals, neighbours, max_distance, sine)
    max_size = max(2, int(max_share * rows.n_rows))
    found = unite(links, rows.n_rows, max_size)
    write_groups(out, found.group_of_row, rows)
    words = [*as_options(config), "--set", f"folds.groups={out}"]
    numbers = {
        "file": str(out),
        "n_rows": rows.n_rows,
        "n_neighbours": neighbours,
        "n_near_pairs": links.n_near,
        "n_interpolated": links.n_interpolated,
        "n_links": len(links.pairs),
        "n_cut": len(found.cut),
        "n_split": found.n_split,
        "n_groups": len(found.sizes),
        "largest": int(found.sizes.max()),
        "max_size": max_size,
        "max_distance": max_distance,
        "next": f"hbcomp cv NAME {join(words)} --name NAME-grouped, then hbcomp compare NAME "
        "NAME-grouped",
    }
    _print(numbers, found.sizes.tolist())
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


def _print(numbers: dict[str, Any], sizes: list[int]) -> None:
    from hbcomp.reporting.pages import Table, print_table

    n_rows, n_links, n_cut = (numbers[key] for key in ("n_rows", "n_links", "n_cut"))
    title = f"{n_rows:,} rows in {len(sizes):,} groups"
    print_table(Table(title, ["rows of a group", "groups", "rows"], _size_rows(sizes)), cli.console)
    cli.console.print(
        f"Among the {numbers['n_neighbours']:,} nearest rows of each row, "
        f"{numbers['n_near_pairs']:,} pairs are near-duplicates (at most "
        f"{numbers['max_distance']:.3g} apart) and {numbers['n_interpolated']:,} rows are "
        f"interpolated between two others: {n_links:,} links."
    )
    if n_cut:
        cli.console.print(
            f"{n_cut:,} links ({n_cut / n_links:.1%}) are cut, because no group may have more than "
            f"{numbers['max_size']:,} rows: {numbers['n_split']:,} rows are related to a row of "
            "another group, so the grouped score is still too good for them."
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
