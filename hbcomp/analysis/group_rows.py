"""Groups of related rows: a file for `folds.groups`, and a table of their sizes."""

from dataclasses import dataclass
from itertools import pairwise
from math import inf
from pathlib import Path
from shlex import join
from typing import Any, Final

import numpy as np
from rich.console import Console

from hbcomp.competitions.load import load_data
from hbcomp.data.dataset import DataConfig, as_options
from hbcomp.data.overlap_sample import overlap_line
from hbcomp.data.overlaps import find_overlaps
from hbcomp.data.related_rows import add_pairs, find_links, spread, unite
from hbcomp.data.tables import write_values
from hbcomp.reporting.pages import Table, print_table
from hbcomp.system.errors import InputError

SIZES: Final = (1, 2, 10, 100, 1_000)  # the largest of each row of the table but the last


@dataclass(frozen=True)
class Limits:
    """The limits within which rows are related, as the options of `hbcomp groups` give them."""

    neighbours: int
    distance: float
    sine: float
    max_share: float

    def __post_init__(self) -> None:
        rules = {
            f"--neighbours must be at least 2, but got {self.neighbours}": self.neighbours >= 2,
            f"--distance must be a number of at least 0, but got {self.distance}": (
                0 <= self.distance < inf
            ),
            f"--sine must be above 0 and below 1, but got {self.sine}": 0 < self.sine < 1,
            f"--max-share must be above 0 and at most 1, but got {self.max_share}": (
                0 < self.max_share <= 1
            ),
        }
        if problems := [rule for rule, is_kept in rules.items() if not is_kept]:
            raise InputError.of("", problems)


def write_groups(
    config: DataConfig, limits: Limits, out: Path, console: Console, *, with_overlaps: bool = False
) -> dict[str, Any]:
    """Find the groups of the training rows, write and print them, and return the numbers."""
    rows, _ = load_data(config)
    max_distance = limits.distance * spread(rows.flat)
    links = find_links(rows.flat, limits.neighbours, max_distance, limits.sine)
    if with_overlaps:
        overlaps = find_overlaps([rows.signals], np.arange(rows.n_rows))
        console.print(f"{overlap_line(overlaps)}.", markup=False)
        if overlaps.is_believed:
            links = add_pairs(links, np.stack([overlaps.pairs.first, overlaps.pairs.second], 1))
    max_size = max(2, int(limits.max_share * rows.n_rows))
    found = unite(links, rows.n_rows, max_size)
    write_values(out, "group", found.group_of_row, rows.ids)
    words = join([*as_options(config), "--set", f"folds.groups={out}"])
    numbers = {
        "file": str(out),
        "n_rows": rows.n_rows,
        "n_neighbours": limits.neighbours,
        "n_near_pairs": links.n_near,
        "n_interpolated": links.n_interpolated,
        **({"n_overlapping": links.n_overlapping} if with_overlaps else {}),
        "n_links": len(links.pairs),
        "n_cut": len(found.cut),
        "n_split": found.n_split,
        "n_groups": len(found.sizes),
        "largest": int(found.sizes.max()),
        "max_size": max_size,
        "max_distance": max_distance,
        "next": f"hbcomp cv NAME {words} --name NAME-grouped, then "
        "hbcomp compare NAME NAME-grouped",
    }
    print_table(_size_table(found.sizes.tolist()), console)
    _print(numbers, console)
    return numbers


def _print(numbers: dict[str, Any], console: Console) -> None:
    overlapping = ""
    if "n_overlapping" in numbers:
        overlapping = f"; {numbers['n_overlapping']:,} pairs are overlapping windows"
    n_links, n_cut = numbers["n_links"], numbers["n_cut"]
    console.print(
        f"Among the {numbers['n_neighbours']:,} nearest rows of each row, "
        f"{numbers['n_near_pairs']:,} pairs are near-duplicates (at most "
        f"{numbers['max_distance']:.3g} apart) and {numbers['n_interpolated']:,} rows are "
        f"interpolated between two others{overlapping}: {n_links:,} links."
    )
    if n_cut:
        console.print(
            f"{n_cut:,} links ({n_cut / n_links:.1%}) are cut, because no group may have more than "
            f"{numbers['max_size']:,} rows: {numbers['n_split']:,} rows are related to a row of "
            "another group, so the grouped score is still too good for them."
        )


def _size_table(sizes: list[int]) -> Table:
    """Return how many groups and rows there are by the size of the group, without empty lines."""
    ends = [0, *(end for end in SIZES if end < max(sizes)), max(sizes)]
    rows = []
    for before, high in pairwise(ends):
        of_size = [size for size in sizes if before < size <= high]
        span = f"{high:,}" if high == before + 1 else f"{before + 1:,} to {high:,}"
        if of_size:
            rows.append([span, f"{len(of_size):,}", f"{sum(of_size):,}"])
    title = f"{sum(sizes):,} rows in {len(sizes):,} groups"
    return Table(title, ["rows of a group", "groups", "rows"], rows)
