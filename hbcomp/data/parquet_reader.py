"""Parquet files, with the signals in a column of lists or a column for each time step."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hbcomp.data.columns import Columns
from hbcomp.data.dataset import Dataset
from hbcomp.data.row_checks import Row, Unusual, regular_dataset
from hbcomp.system.errors import InputError

BATCH_ROWS = 10_000  # of Python objects at a time, in the slow pass


def read_names(path: Path) -> list[str]:
    """Return the column names of a parquet file; a damaged one is an InputError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.ParquetFile(path).schema_arrow.names)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged or no parquet file: {_first_line(error)}") from error


def read_table(path: Path, columns: Columns) -> Any:
    """Return the used columns, each in one piece; one of the wrong type is an InputError."""
    table = read_columns(path, [columns.names[i] for i in columns.used])
    problems = list(_type_problems(table, columns))
    if problems:
        raise InputError.of(path, problems)
    return table.combine_chunks()


def read_columns(path: Path, names: Sequence[str]) -> Any:
    """Return columns in the plain types of what they hold."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Arrow's own pool keeps freed memory: 100,000 rows (78 MiB) took 541 MiB at most and kept 454;
    # with the system's they take 313 and keep 165, Arrow's code included (measured).
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        # Without the file's path, or a folder called `label=1` would become a column.
        table = pq.ParquetFile(path).read(list(names))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged parquet file: {_first_line(error)}") from error
    try:
        return pa.table({name: _plain(table[name]) for name in table.column_names})
    except pa.ArrowException as error:
        raise InputError(f"{path}: a column cannot be read: {_first_line(error)}") from error


def _plain(column: Any) -> Any:
    """Return a column in the plain type of what it holds: text, lists or numbers.

    Text and lists have many types, such as dictionaries, views, and bytes that are no text.
    """
    import pyarrow as pa
    import pyarrow.types as pt

    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pt.is_string_view(kind) or pt.is_binary_view(kind):
        # One by one, because Arrow 17 cannot cast views.
        return pa.array(column.to_pylist(), pa.large_string())
    if pt.is_binary(kind) or pt.is_large_binary(kind):
        return column.cast(pa.large_string())
    if pt.is_list_view(kind) or pt.is_large_list_view(kind):
        return column.cast(pa.large_list(kind.value_type))
    return column


def read_fast(path: Path, table: Any, columns: Columns) -> Dataset:
    """Return the data set of a regular parquet file; anything else is `Unusual`."""
    if any(table[columns.names[i]].null_count for i in columns.used):
        raise Unusual("empty cells")
    if not table.num_rows:
        raise Unusual("no data row")
    texts = [_texts(table, columns, at) for at in (columns.id, columns.label, columns.group)]
    return regular_dataset(path, columns, _signals(table, columns), *texts)


def slow_rows(table: Any, columns: Columns) -> Iterator[Row]:
    """Yield every row as Python objects."""
    for start in range(0, table.num_rows, BATCH_ROWS):
        batch = table.slice(start, BATCH_ROWS)
        values = [batch[columns.names[i]].to_pylist() for i in columns.steps]
        cells = values[0] if columns.is_list else list(map(list, zip(*values, strict=True)))
        ids = _texts(batch, columns, columns.id)
        labels = _texts(batch, columns, columns.label)
        groups = _texts(batch, columns, columns.group)
        for i, row in enumerate(cells):
            problem = "the signal is empty" if row is None else None
            yield Row(ids[i], row or (), labels[i], groups[i], problem)


def _type_problems(table: Any, columns: Columns) -> Iterator[str]:
    import pyarrow.types as pt

    def is_number(kind: Any) -> bool:
        return bool(pt.is_integer(kind) or pt.is_floating(kind))

    for column in columns.steps:
        kind = table.schema.field(columns.names[column]).type
        is_list = pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)
        if columns.is_list and not (is_list and is_number(kind.value_type)):
            yield f"column {columns.names[column]!r} must hold lists of numbers, but holds {kind}"
        elif not columns.is_list and not is_number(kind):
            yield f"column {columns.names[column]!r} must hold numbers, but holds {kind}"
    for position in (columns.id, columns.group):
        if position is None:
            continue
        kind = table.schema.field(columns.names[position]).type
        if not (pt.is_integer(kind) or pt.is_string(kind) or pt.is_large_string(kind)):
            yield f"column {columns.names[position]!r} must hold text or integers, but holds {kind}"


def _texts(table: Any, columns: Columns, column: int | None) -> list[str | None]:
    if column is None:
        return [None] * table.num_rows
    values = table[columns.names[column]].to_pylist()
    return [None if value is None else str(value) for value in values]


def _signals(table: Any, columns: Columns) -> np.ndarray:
    import pyarrow.compute as pc

    # Through DLPack, because Arrow's own `to_numpy` imports pandas.
    chosen = [table[columns.names[i]] for i in columns.steps]
    if columns.is_list:
        lengths = pc.unique(pc.list_value_length(chosen[0])).to_pylist()
        values = pc.list_flatten(chosen[0]).combine_chunks()
        if len(lengths) != 1 or not lengths[0] or values.null_count:
            raise Unusual("rows of different lengths or with empty values")
        signals = np.from_dlpack(values).reshape(-1, lengths[0])
    else:
        signals = np.column_stack([np.from_dlpack(column.combine_chunks()) for column in chosen])
    with np.errstate(over="ignore"):  # the data set refuses the infinity
        # A copy, so that Arrow's memory can be given back.
        return np.array(signals, dtype=np.float32, order="C")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
