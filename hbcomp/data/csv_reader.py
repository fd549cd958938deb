"""A fast reader of CSV files whose punctuation is the same in every line, and a slow one.

If commas, quotes and line ends form the same pattern in every line, the text between them is a flat
table of tokens, which Arrow turns into float64 in one call, without a Python object for each cell.
Any other file is left to the slow reader (`Unusual`).
"""

import csv
import errno
import gzip
import io
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from hbcomp.data.columns import Columns
from hbcomp.data.dataset import Dataset
from hbcomp.data.row_checks import CELL_LIMIT, Row, Unusual, regular_dataset
from hbcomp.data.signal_blocks import SignalBlocks
from hbcomp.system.errors import InputError

# measured: 1.74 s per 100,000 rows, against 1.82 s at 512 kB, 2.1 s at 2 MB, 2.7 s at 4 MB:
# the arrays of a block should stay in the processor's cache.
BLOCK_BYTES = 1 << 20
# numpy and Arrow release Python's lock for most of a block's work. measured on two
# cores, 100,000 rows, median of 5: one thread 2.96 s, two 2.26 s, four 2.24 s.
N_THREADS = 2
# The punctuation of a field and the mark that ends it.
FIELD = re.compile(rb'(?P<quoted>",*")?[,\n]')
# All punctuation is at most the comma, and all of a number but its plus sign above it.
LAST_PUNCTUATION = ord(",")
# A line of 32 MB is a signal of a million time steps.
MAX_LINE_BYTES = 1 << 25  # assumed

Report = Callable[[int], None]


def read_header(path: Path) -> list[str]:
    """Return the column names of a CSV file."""
    with open_binary(path) as file, closing(text_lines(path, file)) as lines:
        try:
            names = next(csv.reader(lines, strict=True), None)
        except csv.Error as error:
            raise InputError(f"{path}: the header cannot be read: {error}") from error
    if names is None:
        raise InputError(f"{path}: the file is empty")
    if not "".join(names).strip():
        raise InputError(f"{path}: the first line must name the columns, but it is blank")
    if any("\n" in name or "\r" in name for name in names):
        raise InputError(f"{path}: the header must be one line, but a name has a line break")
    return names


@contextmanager
def open_binary(path: Path, report: Report = lambda _: None) -> Iterator[io.BufferedIOBase]:
    """Open a text file, unpacking `.gz` and `.zip`; `report` gets the position in the packed file.

    A damaged archive is an InputError wherever in the block it shows.
    """
    with io.BufferedReader(_Watched(path, report)) as packed:
        if path.suffix not in (".gz", ".zip"):
            yield packed
            return
        import zlib
        from zipfile import BadZipFile

        try:
            with _unpacked(path, packed) as unpacked:
                yield unpacked
        except (OSError, BadZipFile, EOFError, zlib.error) as error:
            # zipfile looks for its parts at places that a damaged file gives.
            is_damage = not isinstance(error, OSError) or error.errno in (None, errno.EINVAL)
            if not is_damage:
                raise
            kind = "gzip" if path.suffix == ".gz" else "zip"
            raise InputError(f"{path}: damaged {kind} file: {error}") from error


def _unpacked(path: Path, packed: Any) -> io.BufferedIOBase:
    """Return the unpacked content: of a .zip that of its only file, without a Mac's own ones."""
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=packed, mode="rb")
    from zipfile import ZipFile

    try:
        archive = ZipFile(packed)
    except NotImplementedError as error:  # of a version that there is not
        raise InputError(f"{path}: damaged zip file: {error}") from error
    names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    names = [name for name in names if not name.endswith("/")]
    if len(names) != 1:
        held = ", ".join(names) or "none"
        raise InputError(f"{path}: a .zip must hold one file, but holds {held}")
    try:
        return cast(io.BufferedIOBase, archive.open(names[0]))
    except (RuntimeError, NotImplementedError) as error:  # a password, or an unknown compression
        raise InputError(f"{path}: {error}") from error


class _Watched(io.FileIO):
    """A file that reports the position of every read."""

    def __init__(self, path: Path, report: Report) -> None:
        super().__init__(path)
        self._report = report

    def readinto(self, buffer: Any, /) -> int:
        n_bytes = super().readinto(buffer)
        self._report(self.tell())
        return n_bytes


def read_fast(path: Path, columns: Columns, report: Report) -> Dataset:
    """Return the data set of a regular CSV file; anything else is `Unusual`."""
    with open_binary(path, report) as file, ThreadPoolExecutor(N_THREADS) as pool:
        if b"\r" in file.readline(MAX_LINE_BYTES).rstrip(b"\r\n"):
            raise Unusual("lines that end in CR")
        blocks = _blocks(file)
        first = next(blocks, None)
        if first is None:
            raise Unusual("no data row")
        parser = _Parser.of(first, columns)
        signals = SignalBlocks()
        ids: list[str] = []
        labels: list[str] = []
        groups: list[str] = []
        for block in _mapped(pool, parser.parse, chain([first], blocks)):
            signals.append(block.signals)
            ids += block.ids
            labels += block.labels
            groups += block.groups
    return regular_dataset(path, columns, signals.array(), ids, labels, groups)


def _mapped(
    pool: ThreadPoolExecutor, parse: Callable[[bytes], "_Block"], blocks: Iterable[bytes]
) -> Iterator["_Block"]:
    """Yield the parsed blocks in their order, a few of them being parsed ahead.

    `pool.map` would take all blocks at once, and with them the whole file into memory.
    """
    ahead: deque[Future[_Block]] = deque()
    for block in blocks:
        ahead.append(pool.submit(parse, block))
        if len(ahead) > 2 * N_THREADS:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _blocks(file: io.BufferedIOBase) -> Iterator[bytes]:
    """Yield blocks of whole lines that end in a bare newline, the last one included."""
    rest = b""
    while chunk := file.read(BLOCK_BYTES):
        if b"\0" in chunk or len(rest) > MAX_LINE_BYTES:
            raise Unusual("not lines of text")
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield _with_bare_newlines(rest + chunk[:cut])
            rest = chunk[cut:]
        else:
            rest += chunk
    if rest:
        yield _with_bare_newlines(rest + b"\n")


def _with_bare_newlines(block: bytes) -> bytes:
    # The search for one byte is forty times as fast, and most files have none.
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block


@dataclass(frozen=True)
class _Block:
    """The rows of one block, with ids, labels and groups as text."""

    ids: list[str]
    signals: np.ndarray
    labels: list[str]
    groups: list[str]


@dataclass(frozen=True)
class _Parser:
    """The punctuation of every line, and the tokens that it separates.

    Token j of a line ends at the line's j-th punctuation mark.
    """

    pattern: np.ndarray
    is_value: np.ndarray
    empty_tokens: list[int]
    columns: Columns
    token_of_column: list[int]

    @classmethod
    def of(cls, block: bytes, columns: Columns) -> "_Parser":
        """Return the parser for lines like the first one of `block`."""
        line = np.frombuffer(block[: block.index(b"\n") + 1], np.uint8)
        pattern = line[line <= LAST_PUNCTUATION]
        fields, empty_tokens = _split_pattern(pattern.tobytes())
        if len(fields) != len(columns.names):
            raise Unusual("a row has more or fewer fields than the header")
        is_value = np.zeros(len(pattern), bool)
        for column in columns.steps:
            is_value[fields[column]] = True
        is_single = [len(fields[column]) == 1 for column in columns.used]
        if not columns.is_list and not all(is_single):
            raise Unusual("a quoted list in a column of single values")
        return cls(pattern, is_value, empty_tokens, columns, [tokens[0] for tokens in fields])

    def parse(self, block: bytes) -> _Block:
        """Return the rows of a block whose lines all have this punctuation."""
        codes = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(codes <= LAST_PUNCTUATION)
        width = len(self.pattern)
        if len(ends) % width or not (codes[ends].reshape(-1, width) == self.pattern).all():
            raise Unusual("lines of different punctuation")
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = (ends - starts).reshape(-1, width)
        if lengths[:, self.empty_tokens].any():
            raise Unusual("text between a quote and its comma")
        if self.columns.is_list:
            first, last = np.flatnonzero(self.is_value)[[0, -1]]
            if (ends[last::width] - starts[first::width] == CELL_LIMIT).any():
                raise Unusual("a cell as long as the longest of a spreadsheet")
        return _Block(
            ids=self._texts(block, starts, ends, self.columns.id),
            signals=self._signals(block, ends),
            labels=self._texts(block, starts, ends, self.columns.label),
            groups=self._texts(block, starts, ends, self.columns.group),
        )

    def _signals(self, block: bytes, ends: np.ndarray) -> np.ndarray:
        import pyarrow as pa

        # Without punctuation the tokens lie end to end, as an Arrow string array wants them.
        text = block.translate(None, b',"\n')
        offsets = np.zeros(len(ends) + 1, np.int32)
        offsets[1:] = ends - np.arange(len(ends))
        is_valid = np.tile(self.is_value, len(ends) // len(self.pattern))
        buffers = [np.packbits(is_valid, bitorder="little"), offsets, text]
        tokens = pa.Array.from_buffers(pa.string(), len(ends), [pa.py_buffer(b) for b in buffers])
        try:
            values = tokens.cast(pa.float64())  # never text to float32: that would round twice
        except pa.ArrowInvalid as error:
            raise Unusual(str(error)) from error
        numbers = np.frombuffer(values.buffers()[1], np.float64, len(values))
        table = numbers.reshape(-1, len(self.pattern))[:, self._value_tokens()]
        with np.errstate(over="ignore"):  # the data set refuses the infinity
            return table.astype(np.float32, order="C")  # an index picks tokens in column order

    def _value_tokens(self) -> slice | np.ndarray:
        """Return the tokens of values, as a slice if they are adjacent, which needs no copy."""
        tokens = np.flatnonzero(self.is_value)
        if self.columns.n_channels > 1:  # which may alternate in the file
            return np.array([self.token_of_column[column] for column in self.columns.steps])
        if tokens[-1] - tokens[0] + 1 == len(tokens):
            return slice(int(tokens[0]), int(tokens[-1]) + 1)
        return tokens

    def _texts(
        self, block: bytes, starts: np.ndarray, ends: np.ndarray, column: int | None
    ) -> list[str]:
        if column is None:
            return []
        token, width = self.token_of_column[column], len(self.pattern)
        spans = zip(starts[token::width].tolist(), ends[token::width].tolist(), strict=True)
        try:
            return [block[start:end].decode() for start, end in spans]
        except UnicodeDecodeError as error:
            raise Unusual(str(error)) from error


def _split_pattern(pattern: bytes) -> tuple[list[list[int]], list[int]]:
    """Return the tokens of each field, and the tokens around quotes, which must be empty."""
    fields: list[list[int]] = []
    empty_tokens: list[int] = []
    end = 0
    while match := FIELD.match(pattern, end):
        start, end = match.span()
        if match["quoted"]:
            fields.append(list(range(start + 1, end - 1)))
            empty_tokens += [start, end - 1]
        else:
            fields.append([start])
    if end < len(pattern):
        raise Unusual("punctuation that does not separate fields")
    return fields, empty_tokens


def slow_rows(path: Path, columns: Columns, report: Report) -> Iterator[Row]:
    """Yield every data row through Python's own csv module; blank lines are no rows."""
    with (
        open_binary(path, report) as file,
        closing(text_lines(path, file)) as lines,
        _long_fields(),
    ):
        reader = csv.reader(lines, strict=True)
        next(reader)
        while True:
            try:
                fields = next(reader, None)
            except csv.Error as error:
                yield Row(None, (), problem=_describe(error, reader.line_num))
                return
            if fields is None:
                return
            if fields:
                yield _row(fields, columns)


def text_lines(path: Path, file: io.BufferedIOBase) -> Generator[str, None, None]:
    """Yield the lines, which end in LF, CRLF or CR; anything but text is an InputError."""
    lines = io.TextIOWrapper(cast(BinaryIO, file), encoding="utf-8-sig", newline="")
    try:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES + 1), ""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise InputError(f"{path}: line {number} is longer than {MAX_LINE_BYTES:,} letters")
            if "\0" in line:
                raise InputError(
                    f"{path}: a CSV file must be text, but line {number} has a NUL byte"
                )
            yield line
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    finally:
        lines.detach()  # otherwise it would close the file


def not_utf8(path: Path, error: UnicodeDecodeError) -> InputError:
    """Return the error of a text file with a byte that is not UTF-8, naming its line."""
    # The decoder works ahead of the lines, so the line must be looked for.
    return InputError(
        f"{path}: the file must be UTF-8 text, but there is a byte "
        f"{error.object[error.start]:#04x} in line {_first_foreign_line(path)}"
    )


def _first_foreign_line(path: Path) -> int:
    with open_binary(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError("a line that cannot be decoded was found before")


def _row(fields: list[str], columns: Columns) -> Row:
    if len(fields) != len(columns.names):
        at = columns.id
        name = fields[at] if at is not None and at < len(fields) else None
        problem = f"{len(fields)} fields, but the header has {len(columns.names)}"
        return Row(name, (), problem=problem)
    if columns.is_list:
        (column,) = columns.steps
        cells = fields[column].split(",")
        n_letters = len(fields[column])
    else:
        n_letters = 0
        cells = [fields[column] for column in columns.steps]
    return Row(
        id=None if columns.id is None else fields[columns.id],
        cells=cells,
        n_letters=n_letters,
        label=None if columns.label is None else fields[columns.label],
        group=None if columns.group is None else fields[columns.group],
    )


def _describe(error: csv.Error, line: int) -> str:
    if "unexpected end of data" in str(error):
        return f"the file ends inside a quoted field, at line {line}: it was cut off"
    return f"line {line}: {error}"


@contextmanager
def _long_fields() -> Iterator[None]:
    """Raise the csv module's limit of 131,072 characters per field, a signal of 7,000 time steps.

    There is still a limit, because a quoted field may have any number of lines.
    """
    before = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)
