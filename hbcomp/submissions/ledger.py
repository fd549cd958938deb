"""The ledger of submissions: `ledger.csv` has one row for every content that was ever written.

A content is identified by its sha256 and not by its file's name, so a file that was renamed is
still known and one that was edited by hand is not. The table is plain CSV that a person can edit;
it is read strictly. Everything but reading and writing it is pure.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from hbcomp.scoring.paired import N_ERRORS_OF_NOISE, is_better, is_beyond_noise
from hbcomp.system.config import Section, written_as
from hbcomp.system.errors import InputError
from hbcomp.system.files import csv_bytes, sweep, take_lock, write_bytes

NAME: Final = "ledger.csv"
LOCK: Final = "ledger.lock"
OPTIMISTIC: Final = "epochs chosen on the scored rows"  # in the recipe of what was made so
BY_HAND: Final = "by hand"  # the source of a content that was not written by hbcomp
LOCK_SECONDS: Final = 60.0  # assumed: a change takes milliseconds, a submission of 20k rows 0.2 s


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError as error:  # the first or last day there is, in another zone
        raise ValueError(f"the time must be one in UTC, too: {error}") from error


Time = Annotated[AwareDatetime, AfterValidator(_in_utc)]
# Far beyond any table or score, and near enough that arithmetic stays finite.
Count = Annotated[int, Field(ge=1, le=10**9)]
Score = Annotated[float, Field(ge=-1e12, le=1e12)]
Direction = Literal["lower", "higher"]  # which scores of a metric are better
State = Literal["ok", "renamed", "edited by hand", "missing"]


def _split(value: object) -> object:
    return tuple(map(datetime.fromisoformat, value.split())) if isinstance(value, str) else value


class Entry(Section):
    """The record of one content of a submission file.

    `file` is its name in the ledger's folder. `out_of_fold` is the cross-fitted score by `metric`
    of `n_scored` labelled rows; `expected` is what these answers can be expected to score, and
    `low` and `high` are its 95 % interval. `leaderboard` is the leaderboard's score and `received`
    its time. `sent` holds every time at which the content was sent.
    """

    sha256: Annotated[str, written_as("[0-9a-f]{64}", "64 hexadecimal digits in lower case")]
    file: Annotated[str, written_as(r"[^/\\]+", "the name of a file, without its folder")]
    written: Time
    source: Annotated[str, Field(min_length=1)]
    recipe: str = ""
    rule: str = ""
    n_rows: Count | None = None
    metric: str = ""
    better: Direction = "lower"
    out_of_fold: Score | None = None
    standard_error: Annotated[float, Field(ge=0, le=1e12)] | None = None
    n_scored: Count | None = None
    expected: Score | None = None
    low: Score | None = None
    high: Score | None = None
    sent: Annotated[tuple[Time, ...], BeforeValidator(_split)] = ()
    leaderboard: Score | None = None
    received: Time | None = None

    @model_validator(mode="after")
    def _check(self) -> "Entry":
        for names in (
            ("out_of_fold", "standard_error", "n_scored"),
            ("expected", "low", "high"),
            ("leaderboard", "received"),
        ):
            if len({getattr(self, name) is None for name in names}) > 1:
                raise ValueError(f"{', '.join(names)} must be given together")
        return self

    @property
    def times_sent(self) -> tuple[datetime, ...]:
        """When it was sent; a score without a recorded time counts as sent when it was received."""
        return self.sent or ((self.received,) if self.received else ())

    @property
    def greater_is_better(self) -> bool:
        """The direction of its metric."""
        return self.better == "higher"

    @property
    def is_optimistic(self) -> bool:
        """Whether its expected score is too good, because early stopping watched the rows of it."""
        return OPTIMISTIC in self.recipe

    @property
    def gap(self) -> float | None:
        """Leaderboard minus expected score, or None where one is not known."""
        if self.leaderboard is None or self.expected is None:
            return None
        return self.leaderboard - self.expected

    @property
    def gap_error(self) -> float | None:
        """The standard error of the gap, which the width of the interval says."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / (2 * N_ERRORS_OF_NOISE)

    @property
    def is_inside(self) -> bool | None:
        """Whether the leaderboard's score lies in the interval, or None where one is not known."""
        if self.leaderboard is None or self.low is None or self.high is None:
            return None
        return self.low <= self.leaderboard <= self.high


Entries = tuple[Entry, ...]
COLUMNS: Final = tuple(Entry.model_fields)
# The columns that are not known of a content that was made by hand.
ORIGIN: Final = (
    *("source", "recipe", "rule", "n_rows"),
    *("metric", "better", "out_of_fold", "standard_error", "n_scored"),
    *("expected", "low", "high"),
)


# --- entries ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inversion:
    """Two entries of which the one expected to be better did worse on the leaderboard.

    Both differences are positive. Beyond noise means more than two standard errors of the gaps, as
    if the two files were scored on different rows. On the same rows, which are hard or easy for
    both, the noise is smaller, so too few inversions count as beyond it.
    """

    expected_better: Entry
    did_better: Entry
    expected_difference: float
    leaderboard_difference: float
    is_beyond_noise: bool


def inversions(entries: Sequence[Entry]) -> tuple[Inversion, ...]:
    """Return the pairs whose order on the leaderboard is not the expected one, largest first."""
    scored = [entry for entry in entries if entry.gap is not None]
    found = [
        inversion
        for favourite, other in permutations(scored, 2)
        if (inversion := _inversion(favourite, other))
    ]
    return tuple(sorted(found, key=lambda each: -each.leaderboard_difference))


def _inversion(favourite: Entry, other: Entry) -> Inversion | None:
    sign = -1.0 if favourite.greater_is_better else 1.0
    expected = sign * ((other.expected or 0.0) - (favourite.expected or 0.0))
    real = sign * ((favourite.leaderboard or 0.0) - (other.leaderboard or 0.0))
    if favourite.metric != other.metric or expected <= 0 or real <= 0:
        return None
    noise = float(((favourite.gap_error or 0.0) ** 2 + (other.gap_error or 0.0) ** 2) ** 0.5)
    return Inversion(favourite, other, expected, real, is_beyond_noise(expected + real, noise))


def best(entries: Sequence[Entry], metric: str) -> Entry | None:
    """Return the entry that scored best on the leaderboard under a metric, if any did."""
    found: Entry | None = None
    for each in entries:
        if each.leaderboard is None or each.metric != metric:
            continue
        if found is None or is_better(
            each.leaderboard, found.leaderboard or 0.0, each.greater_is_better
        ):
            found = each
    return found


def find(entries: Sequence[Entry], sha256: str) -> Entry | None:
    """Return the entry of a content, or None."""
    return next((entry for entry in entries if entry.sha256 == sha256), None)


def added(entries: Entries, entry: Entry) -> Entries:
    """Return the entries with one more; a content that is known keeps its first entry.

    An entry of a content that seemed to be made by hand gets the new entry's origin.
    """
    known = find(entries, entry.sha256)
    if known is None:
        return (*entries, entry)
    if known.source != BY_HAND:
        return entries
    return replaced(entries, changed(known, **entry.model_dump(include=set(ORIGIN))))


def replaced(entries: Entries, entry: Entry) -> Entries:
    """Return the entries with this one in place of that of the same content."""
    return tuple(entry if each.sha256 == entry.sha256 else each for each in entries)


def changed(entry: Entry, **values: Any) -> Entry:
    """Return an entry with some values changed, and checked as all values are."""
    return Entry.model_validate({**dict(entry), **values})


# --- the disk ---------------------------------------------------------------------------------


def now() -> datetime:
    """Return the time in UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def sha256_of(path: Path) -> str:
    """Return the hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_ledger(folder: Path) -> Entries:
    """Return the entries of a folder's ledger, oldest first; without a ledger there are none.

    Header, numbers, times and hashes are checked; all problems come in one InputError.
    """
    path = folder / NAME
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text, but {error.reason}") from error
    return _parse(path, text)


def _parse(path: Path, text: str) -> Entries:
    rows = list(csv_rows(path, text))
    header = rows[0][1] if rows else []
    if header != list(COLUMNS):
        raise InputError(f"{path}: the header must be {','.join(COLUMNS)}, but is {header}")
    entries: dict[str, Entry] = {}
    problems = []
    for line, row in rows[1:]:
        try:
            entry = _entry(row)
        except ValueError as error:
            problems += [f"line {line}: {problem}" for problem in _problems(error)]
            continue
        if entry.sha256 in entries:
            problems.append(f"line {line}: sha256 {entry.sha256} is there twice")
        entries[entry.sha256] = entry
    if problems:
        raise InputError.of(path, problems)
    return tuple(entries.values())


def csv_rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line it begins in; blank lines are skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}: line {line}: not valid CSV: {error}") from error


def _entry(row: Sequence[str]) -> Entry:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} cells, but the header has {len(COLUMNS)}")
    # An empty cell is a value that is not known, which every optional column starts as.
    return Entry.model_validate_strings(
        {name: cell for name, cell in zip(COLUMNS, row, strict=True) if cell}
    )


def _problems(error: ValueError) -> list[str]:
    if not isinstance(error, ValidationError):
        return [str(error)]
    return [
        ": ".join([*map(str, detail["loc"][:1]), detail["msg"].removeprefix("Value error, ")])
        + (f", but got {detail['input']!r}" if isinstance(detail["input"], str) else "")
        for detail in error.errors()
    ]


def write_ledger(folder: Path, entries: Entries) -> None:
    """Write a folder's ledger atomically; whoever changes it holds the lock."""
    rows = ([_cell(value) for _, value in entry] for entry in entries)
    write_bytes(folder / NAME, csv_bytes(COLUMNS, rows, "\r\n"))  # lines end as RFC 4180 says


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_cell, value))
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return "" if value is None else str(value)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's ledger for this process alone; others wait.

    Files that a killed process left half-written are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = take_lock(folder / LOCK, LOCK_SECONDS)
    if lock is None:
        raise InputError(
            f"{folder / NAME}: another process has held it for {LOCK_SECONDS:.0f} seconds"
        )
    try:
        sweep(folder)
        yield
    finally:
        lock.release()


def states(entries: Sequence[Entry], folder: Path) -> tuple[State, ...]:
    """Return the present state of each entry's file.

    "ok": a file of that name has that content. "renamed": the content is there under another
    name. "edited by hand": the name is there with a content that the ledger does not know.
    "missing": neither.
    """
    hash_of = _hashes(folder)
    contents = set(hash_of.values())
    known = {entry.sha256 for entry in entries}

    def state(entry: Entry) -> State:
        there = hash_of.get(entry.file)
        if there == entry.sha256:
            return "ok"
        if entry.sha256 in contents:
            return "renamed"
        return "missing" if there is None or there in known else "edited by hand"

    return tuple(map(state, entries))


def locate(entry: Entry, folder: Path) -> Path | None:
    """Return where an entry's content lies, whatever its name is now, or None."""
    names = [name for name, sha256 in _hashes(folder).items() if sha256 == entry.sha256]
    return folder / (entry.file if entry.file in names else names[0]) if names else None


def unknown_files(entries: Sequence[Entry], folder: Path) -> tuple[str, ...]:
    """Return the names of the folder's CSV files whose content has no entry."""
    known = {entry.sha256 for entry in entries}
    return tuple(
        name
        for name, sha256 in _hashes(folder).items()
        if name.endswith(".csv") and sha256 not in known
    )


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: sha256_of(path)
        for path in sorted(folder.glob("[!.]*"))
        if path.name not in (NAME, LOCK) and path.is_file()
    }
