"""Readers of other layouts than a table with one row per signal: arrays, .ts, long, no header.

Each returns the rows as they stand in the file.
"""

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np

from hbcomp.data import parquet_reader as parquet
from hbcomp.data.csv_reader import not_utf8, open_binary
from hbcomp.data.layout import DataLayout
from hbcomp.data.recordings import Recordings, split_rows
from hbcomp.system.errors import (
    InputError,
    Problems,
    closest,
    did_you_mean,
    listed,
    unreadable,
)

MISSING: Final = {"", "?", "nan", "NaN", "NA", "null"}
# What an archive of arrays calls its parts; the first that is there is taken.
SIGNAL_KEYS: Final = ("signals", "X", "x", "data")
LABEL_KEYS: Final = ("labels", "y", "label", "target")
ID_KEYS: Final = ("ids", "id")
GROUP_KEYS: Final = ("groups", "group")
# Lines of a .ts file that say it is of another kind.
REFUSED: Final = {
    "@timestamps": "time stamps are not read; resample the signals",
    "@targetlabel": "the targets are numbers: regression is out of scope",
}


def read_plain(path: Path, *, labelled: bool, is_label_first: bool, separator: str) -> Recordings:
    """Return the rows of a text file without a header: numbers, and a label first or last.

    What is missing at the end of a row is not there: the rows have unequal lengths.
    """
    options = {"sep": separator, "header": None}
    width = read_table(path, nrows=1, dtype=str, **options).shape[1]
    place = 0 if is_label_first else width - 1
    numbers = [column for column in range(width) if not labelled or column != place]
    if not numbers:
        raise InputError(f"{path}: only one column, with {separator!r} between columns")
    table = read_table(
        path,
        dtype={place: str} if labelled else None,
        na_values=dict.fromkeys(numbers, MISSING),
        **options,
    )
    labels = table.pop(place).fillna("").tolist() if labelled else None
    _make_numeric(path, table, {column: f"column {column + 1}" for column in numbers})
    values = table.to_numpy(dtype=np.float64)
    is_value = ~np.isnan(values)
    lengths = values.shape[1] - is_value[:, ::-1].argmax(axis=1)
    lengths[~is_value.any(axis=1)] = 0
    return Recordings(
        [row[None, :length] for row, length in zip(values, lengths, strict=True)], labels=labels
    )


def read_table(path: Path, columns: Sequence[str] | None = None, **options: Any) -> Any:
    """Return what pandas reads of a text file, also of one in .gz or .zip; of `columns` only.

    No text stands for a missing value unless `na_values` says so: a class may be called NA. Lines
    with more cells than the header are refused.
    """
    import pandas as pd

    with _lines(path) as lines, warnings.catch_warnings():
        # Not `usecols`, with which pandas shifts or cuts such lines without a word.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)  # of columns of mixed kinds
        try:
            table = pd.read_csv(lines, keep_default_na=False, index_col=False, **options)
        except (InputError, UnicodeDecodeError):
            raise
        except pd.errors.ParserWarning as error:
            raise InputError(f"{path}: lines have more cells than the header") from error
        except ValueError as error:
            text = str(error).splitlines()[0].removeprefix("Error tokenizing data. C error: ")
            raise InputError(f"{path}: {text}") from error
    return table if columns is None else table[_present(path, columns, list(table.columns))]


def _present(path: Path, columns: Sequence[str], present: Sequence[str]) -> list[str]:
    """Return the columns if all are there."""
    problems = [
        f"no column {name!r}{did_you_mean(list(map(repr, closest(name, present))))}"
        for name in columns
        if name not in present
    ]
    if problems:
        raise InputError.of(path, problems)
    return list(columns)


def _make_numeric(path: Path, table: Any, names: Mapping[Any, str]) -> None:
    """Make numbers of the columns that pandas read as text, naming the cells that are none.

    It also reads whole numbers beyond 64 bits as text.
    """
    problems = Problems()
    for column, name in names.items():
        if table[column].dtype.kind in "fiu":
            continue
        cells = ["" if cell != cell else str(cell) for cell in table[column]]
        wrong = [row for row, cell in enumerate(cells) if not _is_number(cell)]
        for row in wrong:
            problems.add(f"row {row + 1}", f"{name} must hold numbers, but is {cells[row]!r:.40}")
        if not wrong:
            table[column] = [_number(cell) for cell in cells]
    if lines := problems.lines():
        raise InputError.of(path, lines, n_more=problems.n_hidden)


def unpacked_name(path: Path) -> str:
    """Return the name of a file without the .gz or .zip that it is packed in."""
    return path.name.removesuffix(".gz").removesuffix(".zip")


@contextmanager
def _lines(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open a text file, also one in .gz or .zip; anything but UTF-8 in it is an InputError.

    Its lines end in LF, however they end in the file.
    """
    try:
        with open_binary(path) as file:
            lines = io.TextIOWrapper(cast(BinaryIO, file), encoding="utf-8-sig")
            yield lines
            lines.detach()  # otherwise it would close the file
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error


def read_ts(path: Path) -> Recordings:
    """Return the rows of a .ts file of the UEA archive: dimensions split by colons, label last."""
    with _lines(path) as lines:
        return _parse_ts(path, lines)


def _parse_ts(path: Path, lines: Iterable[str]) -> Recordings:
    signals, labels, has_labels, in_data = [], [], False, False
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not in_data:
            key, *values = text.lower().split()
            if values[:1] == ["true"] and key in REFUSED:
                raise InputError(f"{path}: line {number}: {REFUSED[key]}")
            has_labels = has_labels or (key == "@classlabel" and values[:1] == ["true"])
            in_data = key == "@data"
            continue
        parts = text.split(":")
        if has_labels:
            labels.append(parts.pop().strip())
        channels = [_numbers(part.split(","), path, number) for part in parts]
        signals.append(_as_row(channels, path, number))
    if not in_data:
        raise InputError(f"{path}: a .ts file must have a line @data")
    return Recordings(signals, labels=labels if has_labels else None)


def _as_row(channels: Sequence[np.ndarray], path: Path, number: int) -> np.ndarray:
    """Return channels as one row; a shorter one is missing its last values."""
    n_steps = max(len(channel) for channel in channels) if channels else 0
    if not n_steps:
        raise InputError(f"{path}: line {number}: no values")
    row = np.full((len(channels), n_steps), np.nan)
    for place, channel in enumerate(channels):
        row[place, : len(channel)] = channel
    return row


def _numbers(cells: Sequence[str], path: Path, number: int) -> np.ndarray:
    """Return cells as numbers, NaN where one is missing."""
    try:
        values = np.array([*map(float, cells)])
    except ValueError:
        values = None
    # float() also takes 1_0 and the digits of other scripts, which are more likely damage.
    if values is not None and "_" not in (text := "".join(cells)) and text.isascii():
        return values
    if wrong := next((cell for cell in cells if not _is_number(cell)), None):
        raise InputError(f"{path}: line {number}: {wrong!r:.40} is not a number")
    return np.array([*map(_number, cells)])


def _number(cell: str) -> float:
    return float("nan" if cell.strip() in MISSING else cell)


def _is_number(cell: str) -> bool:
    if cell.strip() in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()


def read_arrays(
    path: Path, labels_path: Path | None = None, group: str | None = None
) -> Recordings:
    """Return the rows of a .npy or .npz file of shape (n, t) or (n, c, t).

    An .npz has the signals under `signals` or `X`, the labels under `labels` or `y`, and may have
    `ids` and `groups`, or groups under the name `group`. The labels of an .npy lie in a file of
    their own.
    """
    found = _load(path)
    if isinstance(found, np.ndarray):
        if group is not None:
            raise InputError(f"{path}: there is no array {group!r} of groups")
        labels = None if labels_path is None else _load(labels_path)
        return _recordings(path, found, {"labels": labels})
    signals, labels, ids, groups = (
        next((found[key] for key in keys if key in found), None)
        for keys in (SIGNAL_KEYS, LABEL_KEYS, ID_KEYS, (group,) if group else GROUP_KEYS)
    )
    if group is not None and groups is None:
        raise InputError(f"{path}: there is no array {group!r} of groups")
    if signals is None:
        raise InputError(
            f"{path}: needs the signals under one of {', '.join(SIGNAL_KEYS)}, but has "
            f"{', '.join(found)}"
        )
    return _recordings(path, signals, {"labels": labels, "ids": ids, "groups": groups})


def _load(path: Path) -> Any:
    """Return the array of an .npy, mapped, or the arrays of an .npz; no pickled objects."""
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                return np.load(path, mmap_mode="r", allow_pickle=False)
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                return dict(stored)
    except OSError as error:
        if error.filename is None:  # damage, which sends zipfile to a place before the file
            raise InputError(f"{path}: no array that can be read: {error}") from error
        raise unreadable(path, error) from error
    except Exception as error:  # zipfile and numpy raise a dozen kinds for a damaged file
        text = str(error).splitlines()[0]
        raise InputError(f"{path}: no array that can be read: {text}") from error


def _recordings(path: Path, signals: Any, parts: dict[str, Any]) -> Recordings:
    given = {"signals": signals, **parts}
    # numpy gives the bytes of what has no header
    if wrong := [name for name, part in given.items() if isinstance(part, bytes)]:
        raise InputError(f"{path}: no array that can be read: {', '.join(wrong)}")
    if signals.dtype.kind not in "fiu" or signals.ndim not in (2, 3):
        raise InputError(
            f"{path}: signals must be numbers of shape (n, t) or (n, c, t), but are "
            f"{signals.dtype} of shape {signals.shape}"
        )
    array = np.asarray(signals)  # a row of a mapped array takes three times as long to make
    rows = list(array if array.ndim == 3 else array[:, None])
    texts = {}
    for name, part in parts.items():
        if part is not None and part.shape != (len(rows),):
            raise InputError(
                f"{path}: {name} must have the shape ({len(rows)},), but have {part.shape}"
            )
        texts[name] = None if part is None else _texts(path, name, part)
    return Recordings(rows, texts.get("ids"), texts.get("labels"), texts.get("groups"))


def _texts(path: Path, name: str, part: np.ndarray) -> list[str]:
    """Return values as text, bytes as what they spell, and NaN as none."""
    try:
        part = np.char.decode(part, "utf-8") if part.dtype.kind == "S" else part
        return ["" if value != value else str(value) for value in part.tolist()]
    except (UnicodeDecodeError, SystemError) as error:  # the latter of letters that no script has
        raise InputError(f"{path}: {name} must be UTF-8 text: {error}") from error


def read_long(path: Path, layout: DataLayout, *, labelled: bool) -> Recordings:
    """Return the rows of a table with a line for every time step of every signal.

    Signals keep the order in which their ids first occur, their steps are sorted by `layout.order`.
    """
    assert layout.order is not None  # the layout was checked
    text = [layout.id_name, *([layout.label] if labelled else [])]
    text += [layout.group] if labelled and layout.group else []
    columns = [*text, layout.order, *layout.channels]
    numbers = (layout.order, *layout.channels)
    if path.suffix == ".parquet":
        table = _read_parquet(path, columns)
    else:
        na_values = dict.fromkeys(numbers, MISSING)
        table = read_table(path, columns, dtype=dict.fromkeys(text, str), na_values=na_values)
    _make_numeric(path, table, {name: f"column {name!r}" for name in numbers})
    problems = [
        f"column {name!r} is empty in {listed((np.flatnonzero(is_empty) + 1).tolist(), 'row')}"
        for name in (*text, layout.order)
        if (is_empty := (table[name].isna() | (table[name] == "")).to_numpy()).any()
    ]
    if problems:
        raise InputError.of(path, problems)
    return _from_long(path, table, layout, layout.order, text)


def _read_parquet(path: Path, columns: Sequence[str]) -> Any:
    """Return what pandas makes of columns of single values."""
    import pyarrow.types as pt

    try:
        table = parquet.read_columns(path, _present(path, columns, parquet.read_names(path)))
        nested = [each for each in table.schema if pt.is_nested(each.type)]
        if nested:
            raise InputError.of(
                path, [f"column {each.name!r} must hold one value, not a list" for each in nested]
            )
        return table.to_pandas()
    except FileNotFoundError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: damaged parquet file: text that is not UTF-8") from error


def _from_long(
    path: Path, table: Any, layout: DataLayout, order: str, text: list[str]
) -> Recordings:
    place_of_id = {name: place for place, name in enumerate(dict.fromkeys(table[layout.id_name]))}
    table = table.assign(_place=table[layout.id_name].map(place_of_id))
    table = table.sort_values(["_place", order], kind="stable")
    is_new = table["_place"].diff().ne(0).to_numpy()
    repeated = ~is_new & table[order].diff().eq(0).to_numpy()
    if repeated.any():
        first = table[repeated].iloc[0]
        raise InputError(
            f"{path}: id {first[layout.id_name]} has {order} {first[order]} more than once"
        )
    starts = np.flatnonzero(is_new)
    values = table[list(layout.channels)].to_numpy(dtype=np.float64).T
    texts = {name: table[name].astype(str).to_numpy()[starts].tolist() for name in text}
    for name in text[1:]:
        constant = table.groupby("_place")[name].nunique()
        if (constant > 1).any():
            broken = texts[layout.id_name][int(constant.to_numpy().argmax())]
            raise InputError(f"{path}: id {broken} has several values of {name!r}")
    return Recordings(
        split_rows(values, starts.tolist()),
        ids=texts[layout.id_name],
        labels=texts.get(layout.label),
        groups=texts.get(layout.group or ""),
    )
