"""Row by row, slow and obviously correct: what a file may hold, and what is wrong with it.

The fast readers take only what this one takes, with the same values; everything they do not
recognise comes here, where it is either read after all or diagnosed.
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
from hbcomp.system.errors import InputError, Problems

# A column with thousands of distinct labels is no class; stops a table of 1e9 classes, too.
MAX_LABEL = 9_999  # assumed
# The most characters that a cell of Excel holds; what is longer is cut there without a word.
CELL_LIMIT = 32_767


class Unusual(Exception):  # noqa: N818  # it is no error: the slow pass may well read the file
    """A fast reader met something that it leaves to the slow pass."""


@dataclass(frozen=True)
class Row:
    """One data row as the file has it; `problem` says why its fields could not be told apart.

    `n_letters` is the length of the text of a whole signal in one cell, and otherwise 0.
    """

    id: str | None
    cells: Sequence[Any]
    label: str | None = None
    group: str | None = None
    problem: str | None = None
    n_letters: int = 0


@dataclass
class _Beats:
    """What has been read so far."""

    columns: Columns
    row_of_id: dict[str, int] = field(default_factory=dict)
    signals: list[np.ndarray] = field(default_factory=list)
    n_timepoints: int = 0
    labels: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)
    n_rows: int = 0
    n_cut: int = 0
    n_longer: int = 0

    def add(self, number: int, row: Row) -> None:
        """Take one row, or note everything that is wrong with it."""
        self.n_rows += 1
        self.n_cut += row.n_letters == CELL_LIMIT
        self.n_longer += row.n_letters > CELL_LIMIT
        found = [row.problem] if row.problem else self._problems(number, row)
        name = f"row {number} (id {row.id})" if row.id else f"row {number}"
        for problem in found:
            self.problems.add(name, problem)

    @property
    def looks_cut(self) -> bool:
        """Whether cells end where a spreadsheet cuts them, more than one by chance would."""
        is_chance = self.n_cut == 1 < self.n_rows and not self.problems.lines()
        return self.n_cut > 0 and not self.n_longer and not is_chance

    def _problems(self, number: int, row: Row) -> list[str]:
        found = []
        if not row.id:
            found.append("the id is empty")
        elif row.id in self.row_of_id:
            found.append(f"the id occurred before, in row {self.row_of_id[row.id]}")
        else:
            self.row_of_id[row.id] = number
        found += self._take_samples(row.cells)
        if self.columns.label is not None:
            found += self._take_label(row.label)
        if self.columns.group is not None:
            found += [] if row.group else ["the group is empty"]
            self.groups.append(row.group or "")
        return found

    def _take_samples(self, cells: Sequence[Any]) -> list[str]:
        self.n_timepoints = self.n_timepoints or len(cells)
        if len(cells) != self.n_timepoints:
            count = f"{len(cells)} sample{'s' * (len(cells) != 1)}"
            return [f"{count}, but the first row has {self.n_timepoints}"]
        signal = _to_float32(cells)
        if signal is None:
            return [self._name(cells)]
        self.signals.append(signal)
        return []

    def _name(self, cells: Sequence[Any]) -> str:
        broken = [(i, reason) for i, cell in enumerate(cells) if (reason := sample_problem(cell))]
        position, reason = broken[0]
        more = f", and {len(broken) - 1} more like it" if len(broken) > 1 else ""
        if self.columns.is_list:
            return f"sample {position + 1} {reason}{more}"
        return f"column {self.columns.names[self.columns.samples[position]]!r} {reason}{more}"

    def _take_label(self, text: str | None) -> list[str]:
        try:
            self.labels.append(parse_label(text))
        except ValueError as error:
            return [str(error)]
        return []


def parse_rows(path: Path, rows: Iterable[Row], columns: Columns) -> Dataset:
    """Return the rows as a data set, or raise one InputError with all their problems.

    Rows are counted from 1 without the header, as are the samples of a row.
    """
    beats = _Beats(columns)
    for number, row in enumerate(rows, start=1):
        beats.add(number, row)
    if beats.looks_cut:
        raise InputError(
            f"{path}: {beats.n_cut:,} of {beats.n_rows:,} signals end at exactly {CELL_LIMIT:,} "
            "characters and none is longer, so a spreadsheet has cut them; export the file without "
            "one, or, if the signals are complete, one column per sample or as parquet"
        )
    if problems := beats.problems.lines():
        raise InputError.of(path, problems, n_more=beats.problems.n_hidden)
    if not beats.row_of_id:
        raise InputError(f"{path}: there is a header but no data row")
    return Dataset(
        ids=np.array(list(beats.row_of_id)),
        signals=np.stack(beats.signals),
        labels=None if columns.label is None else np.array(beats.labels, dtype=np.int64),
        groups=None if columns.group is None else np.array(beats.groups),
        source=str(path),
    )


def _to_float32(cells: Sequence[Any]) -> np.ndarray | None:
    """Return the cells as one signal, or None if `sample_problem` finds a problem in any."""
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


def sample_problem(cell: Any) -> str | None:
    """Return what is wrong with a cell as a sample, or None."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "is empty"
    # float() also takes 1_0 and the digits of other scripts: more likely damage than numbers.
    if isinstance(cell, str) and ("_" in cell or not cell.isascii()):
        return f"is not a number: {_quoted(cell)}"
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return f"is not a number: {_quoted(cell)}"
    if not math.isfinite(value):
        return f"is not finite: {cell}"
    try:
        struct.pack("<f", value)  # only with a byte order does it check the range
    except OverflowError:
        return f"is too large for float32: {cell}"
    return None


def parse_label(text: str | None) -> int:
    """Return the class that `0`, `0.0` or `0e0` writes; anything else is a ValueError."""
    if text is None or not text.strip():
        raise ValueError("the label is empty")
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not (value >= 0 and value.is_integer()):
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
