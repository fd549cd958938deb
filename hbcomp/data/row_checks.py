"""The slow pass: it reads a file row by row, and names what is wrong with it.

The fast readers take only what this one takes, with the same values. It reads or diagnoses
everything that they do not recognise.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hbcomp.data.columns import Columns
from hbcomp.data.dataset import Dataset
from hbcomp.data.recordings import number_classes
from hbcomp.data.signal_blocks import SignalBlocks
from hbcomp.system.errors import InputError, Problems

# A larger number is no class, and a table of 1e9 classes would fill the memory.
MAX_LABEL = 9_999  # assumed
BLOCK_ROWS = 1000
# The most characters that a cell of Excel holds; it cuts longer ones without a warning.
CELL_LIMIT = 32_767


class Unusual(Exception):  # noqa: N818  # no error: the slow pass may read the file
    """A fast reader leaves the file to the slow pass."""


@dataclass(frozen=True)
class Row:
    """One row as the file has it; `problem` says why its fields could not be separated.

    `n_letters` is the length of the text of a signal that is in one cell, and otherwise 0.
    """

    id: str | None
    cells: Sequence[Any]
    label: str | None = None
    group: str | None = None
    problem: str | None = None
    n_letters: int = 0


@dataclass
class _Rows:
    """The rows that have been read so far."""

    columns: Columns
    row_of_id: dict[str, int] = field(default_factory=dict)
    signals: SignalBlocks = field(default_factory=SignalBlocks)
    waiting: list[np.ndarray] = field(default_factory=list)  # rows of the next block
    n_timepoints: int = 0
    labels: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)
    n_rows: int = 0
    n_cut: int = 0
    n_longer: int = 0

    def add(self, number: int, row: Row) -> None:
        """Add one row, or everything that is wrong with it."""
        self.n_rows += 1
        self.n_cut += row.n_letters == CELL_LIMIT
        self.n_longer += row.n_letters > CELL_LIMIT
        found = [row.problem] if row.problem else self._problems(number, row)
        name = f"row {number} (id {row.id})" if row.id else f"row {number}"
        for problem in found:
            self.problems.add(name, problem)

    @property
    def looks_cut(self) -> bool:
        """More cells end where a spreadsheet cuts them than by chance."""
        is_chance = self.n_cut == 1 < self.n_rows and not self.problems.lines()
        return self.n_cut > 0 and not self.n_longer and not is_chance

    def _problems(self, number: int, row: Row) -> list[str]:
        found = []
        row_id = row.id if self.columns.id is not None else str(number - 1)
        if not row_id:
            found.append("the id is empty")
        elif row_id in self.row_of_id:
            found.append(f"the id occurred before, in row {self.row_of_id[row_id]}")
        else:
            self.row_of_id[row_id] = number
        found += self._add_signal(row.cells)
        if self.columns.label is not None:
            found += self._add_label(row.label)
        if self.columns.group is not None:
            found += [] if row.group else ["the group is empty"]
            self.groups.append(row.group or "")
        return found

    def _add_signal(self, cells: Sequence[Any]) -> list[str]:
        self.n_timepoints = self.n_timepoints or len(cells)
        if len(cells) != self.n_timepoints:
            count = f"{len(cells)} time step{'s' * (len(cells) != 1)}"
            return [f"{count}, but the first row has {self.n_timepoints}"]
        signal = _to_float32(cells)
        if signal is None:
            return [self._name(cells)]
        self.waiting.append(signal)
        if len(self.waiting) == BLOCK_ROWS:
            self.end_block()
        return []

    def end_block(self) -> None:
        """Add the rows that are waiting."""
        if self.waiting:
            self.signals.append(np.stack(self.waiting))
            self.waiting.clear()

    def _name(self, cells: Sequence[Any]) -> str:
        broken = [(i, reason) for i, cell in enumerate(cells) if (reason := value_problem(cell))]
        position, reason = broken[0]
        more = f", and {len(broken) - 1} more like it" if len(broken) > 1 else ""
        if self.columns.is_list:
            return f"time step {position + 1} {reason}{more}"
        return f"column {self.columns.names[self.columns.steps[position]]!r} {reason}{more}"

    def _add_label(self, text: str | None) -> list[str]:
        self.labels.append(text or "")
        if self.columns.classes is not None:
            return [] if text and text.strip() else ["the label is empty"]
        try:
            parse_label(text)
        except ValueError as error:
            return [str(error)]
        return []


def parse_rows(path: Path, rows: Iterable[Row], columns: Columns) -> Dataset:
    """Return the rows as a data set, or raise one InputError with all their problems.

    Rows are counted from 1 without the header, as are the time steps of a row.
    """
    read = _Rows(columns)
    for number, row in enumerate(rows, start=1):
        read.add(number, row)
    if read.looks_cut:
        raise InputError(
            f"{path}: {read.n_cut:,} of {read.n_rows:,} signals end at exactly {CELL_LIMIT:,} "
            "characters and none is longer, so a spreadsheet has cut them; export the file without "
            "one, or, if the signals are complete, with a column for each time step or as parquet"
        )
    if problems := read.problems.lines():
        raise InputError.of(path, problems, n_more=read.problems.n_hidden)
    if not read.row_of_id:
        raise InputError(f"{path}: there is a header but no data row")
    labels, classes = _numbered(columns, read.labels, list(read.row_of_id), path)
    read.end_block()
    return Dataset(
        ids=np.array(list(read.row_of_id)),
        signals=_in_channels(read.signals.array(), columns),
        labels=labels,
        groups=None if columns.group is None else np.array(read.groups),
        source=str(path),
        classes=classes,
    )


def _in_channels(signals: np.ndarray, columns: Columns) -> np.ndarray:
    """Return rows of values as signals, without a copy."""
    return signals.reshape(len(signals), columns.n_channels, -1)


def _numbered(
    columns: Columns, texts: Sequence[str | None], names: Sequence[str], path: Path
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the numbers of the classes that labels name, and the classes if any text is one."""
    if columns.label is None:
        return None, ()
    if columns.classes is None:
        return parse_labels(texts), ()
    return number_classes([text or "" for text in texts], columns.classes, names, str(path))


def regular_dataset(
    path: Path,
    columns: Columns,
    signals: np.ndarray,
    ids: Sequence[str | None],
    labels: Sequence[str | None],
    groups: Sequence[str | None],
) -> Dataset:
    """Return what a fast reader has read as a data set; it is `Unusual` if anything is wrong."""
    if np.isnan(signals).any():
        raise Unusual("values that are no numbers")
    try:
        names = [str(each) for each in (range(len(signals)) if columns.id is None else ids)]
        numbers, classes = _numbered(columns, labels, names, path)
        return Dataset(
            ids=np.array(names if columns.id is None else ids),
            signals=_in_channels(signals, columns),
            labels=numbers,
            groups=None if columns.group is None else np.array(groups),
            source=str(path),
            classes=classes,
        )
    except ValueError as error:  # an InputError, too: the slow pass names the row
        raise Unusual(str(error)) from error


def _to_float32(cells: Sequence[Any]) -> np.ndarray | None:
    """Return the cells as a signal, or None if `value_problem` finds a problem in any."""
    text = "".join(cells) if cells and isinstance(cells[0], str) else ""
    if "_" in text or not text.isascii():
        return None
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except (TypeError, ValueError):
        return None
    with np.errstate(over="ignore"):
        signal = values.astype(np.float32)
    return signal if np.isfinite(signal).all() else None


def value_problem(cell: Any) -> str | None:
    """Return what is wrong with a cell as a value of a signal, or None."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "is empty"
    value = _number(cell)
    if value is None:
        return f"is not a number: {_quoted(cell)}"
    if not math.isfinite(value):
        return f"is not finite: {cell}"
    try:
        struct.pack("<f", value)  # only with a byte order does it check the range
    except OverflowError:
        return f"is too large for float32: {cell}"
    return None


def _number(cell: Any) -> float | None:
    # float() also takes 1_0 and the digits of other scripts, which are more likely damage.
    if isinstance(cell, str) and ("_" in cell or not cell.isascii()):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def parse_label(text: str | None) -> int:
    """Return the class of a label such as `0`, `0.0` or `0e0`; anything else is a ValueError."""
    if text is None or not text.strip():
        raise ValueError("the label is empty")
    value = _number(text)
    if value is None or not (value >= 0 and value.is_integer()):
        raise ValueError(f"the label must be one of 0, 1, 2, ..., but is {_quoted(text)}")
    if value > MAX_LABEL:
        raise ValueError(f"the label must be at most {MAX_LABEL}, but is {_quoted(text)}")
    return int(value)


def parse_labels(texts: Sequence[str | None]) -> np.ndarray:
    """Return the classes of many labels, parsing each distinct text once."""
    classes = {text: parse_label(text) for text in set(texts)}
    return np.array([classes[text] for text in texts], dtype=np.int64)


def _quoted(cell: Any) -> str:
    text = str(cell)
    return repr(text if len(text) <= 24 else f"{text[:20]}...")
