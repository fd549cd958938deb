"""Readers of other layouts than a table with one row per signal: arrays, .ts, long, no header.

Each returns the rows as they stand in the file.
"""

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np

from hbcomp.data.csv_reader import open_binary
from hbcomp.data.layout import DataLayout
from hbcomp.data.recordings import Recordings, split_rows
from hbcomp.system.errors import InputError, unreadable

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
    table = read_table(
        path,
        dtype={place: str} if labelled else None,
        na_values=dict.fromkeys(numbers, MISSING),
        **options,
    )
    labels = table.pop(place).fillna("").tolist() if labelled else None
    if wrong := [name for name, kind in table.dtypes.items() if kind.kind not in "fiu"]:
        raise InputError(f"{path}: column {wrong[0] + 1} must hold numbers; is there a header?")
    values = table.to_numpy(dtype=np.float64)
    is_value = ~np.isnan(values)
    lengths = values.shape[1] - is_value[:, ::-1].argmax(axis=1)
    lengths[~is_value.any(axis=1)] = 0
    return Recordings(
        [row[None, :length] for row, length in zip(values, lengths, strict=True)], labels=labels
    )


def read_table(path: Path, **options: Any) -> Any:
    """Return what pandas reads of a text file, also of one in .gz or .zip.

    No text stands for a missing value unless `na_values` says so: a class may be called NA.
    """
    import pandas as pd

    try:
        with open_binary(path) as file:
            return pd.read_csv(file, keep_default_na=False, **options)
    except FileNotFoundError as error:
        raise unreadable(path, error) from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from error


def unpacked_name(path: Path) -> str:
    """Return the name of a file without the .gz or .zip that it is packed in."""
    return path.name.removesuffix(".gz").removesuffix(".zip")


@contextmanager
def _lines(path: Path) -> Iterator[Iterable[str]]:
    """Open a text file, also one in .gz or .zip; anything but UTF-8 in it is an InputError."""
    try:
        with open_binary(path) as file:
            lines = io.TextIOWrapper(cast(BinaryIO, file), encoding="utf-8-sig")
            yield lines
            lines.detach()  # otherwise it would close the file
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from error


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
    return np.array([float("nan" if cell.strip() in MISSING else cell) for cell in cells])


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
    loaded = _load(path)
    if isinstance(loaded, np.ndarray):
        if group is not None:
            raise InputError(f"{path}: there is no array {group!r} of groups")
        labels = None if labels_path is None else _load(labels_path)
        return _recordings(path, loaded, {"labels": labels})
    try:
        with loaded:
            signals, labels, ids, groups = (
                next((loaded[key] for key in keys if key in loaded), None)
                for keys in (SIGNAL_KEYS, LABEL_KEYS, ID_KEYS, (group,) if group else GROUP_KEYS)
            )
            names = ", ".join(loaded)
            if group is not None and groups is None:
                raise InputError(f"{path}: there is no array {group!r} of groups")
    except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no array that can be read: {error}") from error
    if signals is None:
        raise InputError(
            f"{path}: needs the signals under one of {', '.join(SIGNAL_KEYS)}, but has {names}"
        )
    return _recordings(path, signals, {"labels": labels, "ids": ids, "groups": groups})


def _load(path: Path) -> Any:
    """Return the array of an .npy, mapped, or the arrays of an .npz; no pickled objects."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no array that can be read: {error}") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _recordings(path: Path, signals: np.ndarray, parts: dict[str, np.ndarray | None]) -> Recordings:
    if signals.dtype.kind not in "fiu" or signals.ndim not in (2, 3):
        raise InputError(
            f"{path}: signals must be numbers of shape (n, t) or (n, c, t), but are "
            f"{signals.dtype} of shape {signals.shape}"
        )
    rows = list(signals if signals.ndim == 3 else signals[:, None])
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
    if part.dtype.kind == "S":
        try:
            part = np.char.decode(part, "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: {name} must be UTF-8 text: {error}") from error
    return ["" if value != value else str(value) for value in part.tolist()]


def read_long(path: Path, layout: DataLayout, *, labelled: bool) -> Recordings:
    """Return the rows of a table with a line for every time step of every signal.

    Signals keep the order in which their ids first occur, their steps are sorted by `layout.order`.
    """
    import pandas as pd

    assert layout.order is not None  # the layout was checked
    text = [layout.id_name, *([layout.label] if labelled else [])]
    text += [layout.group] if labelled and layout.group else []
    columns = [*text, layout.order, *layout.channels]
    if path.suffix == ".parquet":
        try:
            table = pd.read_parquet(path, columns=columns)
        except (ValueError, OSError) as error:
            raise InputError(f"{path}: {str(error).splitlines()[0]}") from error
    else:
        table = read_table(
            path,
            usecols=columns,
            dtype=dict.fromkeys(text, str),
            na_values=dict.fromkeys((layout.order, *layout.channels), MISSING),
        )
    problems = [
        f"column {name!r} must hold numbers"
        for name in (layout.order, *layout.channels)
        if table[name].dtype.kind not in "fiu"
    ]
    problems += [
        f"column {name!r} has empty cells"
        for name in (*text, layout.order)
        if table[name].isna().any() or (table[name] == "").any()
    ]
    if problems:
        raise InputError.of(path, problems)
    return _from_long(path, table, layout, layout.order, text)


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
