"""The overlapping windows of a data set: a table, a file of pairs and the numbers."""

from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import Any

import numpy as np
from rich.console import Console

from hbcomp.competitions.load import load_data
from hbcomp.data.dataset import DataConfig, Dataset, as_options
from hbcomp.data.overlap_sample import overlap_line
from hbcomp.data.overlaps import Overlaps, find_overlaps
from hbcomp.reporting.pages import Table, print_table
from hbcomp.system.errors import InputError
from hbcomp.system.files import csv_bytes, write_bytes

HEADER = ("id", "file", "next_id", "next_file", "lag", "n_steps", "residual")


@dataclass(frozen=True, eq=False)
class Files:
    """Train and test rows, numbered one after the other."""

    train: Dataset
    test: Dataset | None

    @property
    def parts(self) -> list[np.ndarray]:
        """The signals of each file."""
        return [each.signals for each in (self.train, self.test) if each]

    @property
    def ids(self) -> list[str]:
        """The ids of all rows."""
        return [*self.train.ids.tolist(), *(self.test.ids.tolist() if self.test else [])]

    def name(self, row: int) -> str:
        """Return the file of a row."""
        return "train" if row < self.train.n_rows else "test"


def list_overlaps(
    config: DataConfig, n_rows: int | None, out: Path, console: Console
) -> dict[str, Any]:
    """Look for overlaps of all rows or of a sample, write and print them, return the numbers.

    Nothing is written if the control does not allow to believe them.
    """
    files = Files(*load_data(config))
    n_all = len(files.ids)
    rows = np.arange(n_all)
    if n_rows is not None and n_rows < n_all:
        rows = np.sort(np.random.default_rng(0).choice(n_all, n_rows, replace=False))
    found = find_overlaps(files.parts, rows)
    if found.n_inserted:
        console.print(
            f"{found.n_inserted} of {files.train.n_timepoints} time steps are left out, because "
            f"they are means of their neighbours after {found.transform}."
        )
    console.print(f"{overlap_line(found)}.", markup=False)
    console.print(
        f"Control: {found.n_reversed:,} of {len(found.pairs):,} are found with the rows reversed "
        f"in time, and {found.pairs.n_ambiguous:,} fit more than one place."
    )
    if not found.is_believed:
        return found.numbers
    print_table(_table(found, files), console)
    _write(out, found, files)
    again = join(["hbcomp", "groups", *as_options(config.model_copy(update={"test": None}))])
    return {**found.numbers, "file": str(out), "next": f"{again} --overlaps"}


def _table(found: Overlaps, files: Files) -> Table:
    """Return how many rows go on in which file."""
    names = ["train", "test"][: len(files.parts)]
    pairs = [
        (files.name(first), files.name(second), first)
        for first, second in zip(found.pairs.first, found.pairs.second, strict=True)
    ]
    rows = [
        [of, into, f"{len({row for a, b, row in pairs if (a, b) == (of, into)}):,}"]
        for of in names
        for into in names
    ]
    return Table("Rows that go on in another row", ["rows of", "go on in", "rows"], rows)


def _write(out: Path, found: Overlaps, files: Files) -> None:
    ids, pairs = files.ids, found.pairs
    columns = (pairs.first, pairs.second, pairs.lag, pairs.n_steps, pairs.residual)
    rows = (
        (ids[a], files.name(a), ids[b], files.name(b), lag, n_steps, f"{residual:.3g}")
        for a, b, lag, n_steps, residual in zip(*(c.tolist() for c in columns), strict=True)
    )
    content = csv_bytes(HEADER, rows)
    if out.exists() and out.read_bytes() != content:
        raise InputError(f"{out}: exists and holds something else; choose another --out")
    write_bytes(out, content)
