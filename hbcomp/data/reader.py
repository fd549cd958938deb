"""Reading one file of signals: CSV (also in .gz or .zip) or parquet, fast if it is regular."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from hbcomp.data import cache
from hbcomp.data import csv_reader as csv_blocks
from hbcomp.data import parquet_reader as parquet
from hbcomp.data.columns import find_columns
from hbcomp.data.dataset import Dataset, without_padding
from hbcomp.data.layout import DataLayout
from hbcomp.data.row_checks import Unusual, parse_rows
from hbcomp.data.signal_blocks import folder, in_blocks
from hbcomp.system.errors import InputError, unreadable
from hbcomp.system.memory import mapped

# How each kind of file begins, and what it is called; a CSV file begins like none of them.
MAGIC = {".parquet": b"PAR1", ".csv.gz": b"\x1f\x8b", ".zip": b"PK\x03\x04"}
CONTENT = {
    ".parquet": "parquet",
    ".csv.gz": "gzip",
    ".zip": "zip",
    ".csv": "neither gzip, zip nor parquet",
}
# Shorter reads, under about a second, need no bar.
MIN_BYTES_FOR_BAR = 100_000_000  # assumed


def read_dataset(path: Path, layout: DataLayout, *, labelled: bool) -> Dataset:
    """Return the rows of a file, or raise one InputError that names all its problems.

    The column `layout.signal` holds the signals, comma-separated in CSV and as lists in parquet.
    Without it, every column except id, label, group and the ignored ones is a time step, in file
    order, and their names must be one numbered series. Labels and groups are read only if
    `labelled`; a test file may have such columns. The run of `padding_value` at the end of a row
    is no value.
    """
    try:
        suffix = _suffix(path)
        if suffix == ".parquet":
            return _read_parquet(path, layout, labelled=labelled)
        return _read_csv(path, layout, labelled=labelled)
    except OSError as error:
        raise unreadable(path, error) from error


def step_names(path: Path, layout: DataLayout, *, labelled: bool) -> list[str] | None:
    """Return the names of the time steps of a wide file, or None if one column holds the signals.

    Only the header is read; the file must be one that `read_dataset` accepts.
    """
    is_parquet = _suffix(path) == ".parquet"
    names = parquet.read_names(path) if is_parquet else csv_blocks.read_header(path)
    columns = find_columns(path, names, layout, labelled=labelled)
    return None if columns.is_list else [names[position] for position in columns.steps]


def _suffix(path: Path) -> str:
    """Return the kind of the file, on which its name and its first bytes must agree."""
    with path.open("rb") as file:
        start = file.read(4)
    suffix = next((known for known in CONTENT if path.name.endswith(known)), None)
    if suffix is None:
        raise InputError(f"{path}: the name must end in one of {', '.join(sorted(CONTENT))}")
    if not start:
        raise InputError(f"{path}: the file is empty")
    inside = next((known for known, magic in MAGIC.items() if start.startswith(magic)), ".csv")
    if inside != suffix:
        raise InputError(f"{path}: the name says {suffix}, but the content is {CONTENT[inside]}")
    return suffix


def _read_parquet(path: Path, layout: DataLayout, *, labelled: bool) -> Dataset:
    try:
        columns = find_columns(path, parquet.read_names(path), layout, labelled=labelled)
        table = parquet.read_table(path, columns)
        try:
            rows = parquet.read_fast(path, table, columns)
        except Unusual:
            rows = parse_rows(path, parquet.slow_rows(table, columns), columns)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: damaged parquet file: text that is not UTF-8") from error
    return _without_padding(rows, layout)


def _read_csv(path: Path, layout: DataLayout, *, labelled: bool) -> Dataset:
    options = layout.model_dump(mode="json", exclude={"train", "test", "train_labels"})
    options |= {"labelled": labelled, "is_gzip": path.suffix == ".gz"}
    key = cache.key_of(path, options)
    dataset = cache.load(key, str(path))
    if dataset is None:
        dataset = _without_padding(_parse_csv(path, layout, labelled=labelled), layout)
        # Hashed again, because the file may have changed while it was parsed.
        if cache.key_of(path, options) == key:
            _keep(key, dataset)
            if mapped(dataset.signals):  # the entry has them now, and outlives this process
                return cache.load(key, str(path)) or dataset
    return dataset


def _parse_csv(path: Path, layout: DataLayout, *, labelled: bool) -> Dataset:
    columns = find_columns(path, csv_blocks.read_header(path), layout, labelled=labelled)
    try:
        with _progress(path) as report:
            return csv_blocks.read_fast(path, columns, report)
    except Unusual:
        with _progress(path, "row by row") as report:
            return parse_rows(path, csv_blocks.slow_rows(path, columns, report), columns)


def _without_padding(rows: Dataset, layout: DataLayout) -> Dataset:
    return replace(
        rows,
        signals=in_blocks(lambda block: without_padding(block, layout.padding_value), rows.signals),
    )


def _keep(key: str, dataset: Dataset) -> None:
    try:
        cache.save(key, dataset)
    except OSError as error:
        _warn(f"{folder()}: {error.strerror}")


@lru_cache  # once for train and test
def _warn(reason: str) -> None:
    from hbcomp.system.command import console

    console.print(f"warning: parsed rows are not cached: {reason}", markup=False)


@contextmanager
def _progress(path: Path, how: str = "") -> Iterator[Callable[[int], None]]:
    """Yield a function that moves a bar to a position in the file; print one line elsewhere."""
    from hbcomp.system.command import console

    n_bytes = path.stat().st_size
    text = f"reading {path.name} {how}".strip()
    if n_bytes < MIN_BYTES_FOR_BAR:
        yield lambda _: None
    elif not console.is_terminal:
        console.print(f"{text} ({n_bytes / 1e6:.0f} MB)", markup=False)
        yield lambda _: None
    else:
        from rich.progress import Progress

        with Progress(console=console, transient=True) as bars:
            task = bars.add_task(text, total=n_bytes)
            yield lambda position: bars.update(task, completed=position)
