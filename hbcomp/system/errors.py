"""Errors in the input, each a message of one line; a command prints it and exits with code 2."""

import difflib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MAX_SHOWN = 8
BUT_IS = ", but is "  # between a rule and the value that breaks it


class InputError(ValueError):
    """Wrong input; the message states the rule and what was found instead.

    A command prints it as one line and exits with code 2. Any other exception is a bug of hbcomp
    and keeps its traceback.
    """

    @classmethod
    def of(cls, subject: object, problems: Sequence[str], *, n_more: int = 0) -> "InputError":
        """Return one error about `subject`, such as a file or "", that names every problem.

        At most `MAX_SHOWN` problems are described. The rest, and `n_more`, are counted.
        """
        shown = list(problems[:MAX_SHOWN])
        n_hidden = len(problems) - len(shown) + n_more
        if n_hidden:
            shown.append(f"and {n_hidden} more")
        return cls(f"{subject}: " * bool(str(subject)) + "; ".join(shown))


def listed(values: Sequence[object], noun: str) -> str:
    """Return `id a`, or `3 ids: a, b, c`, shortened after `MAX_SHOWN` values."""
    if len(values) == 1:
        return f"{noun} {values[0]}"
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    dots = ", ..." if len(values) > MAX_SHOWN else ""
    return f"{len(values)} {plural}: {', '.join(map(str, values[:MAX_SHOWN]))}{dots}"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of a device ran out."""
    if isinstance(error, MemoryError):
        return True
    # The messages of torch for a CPU, CUDA, an Apple GPU and too large a size, and that of Python
    # for a thread that cannot start.
    texts = (
        *("can't allocate memory", "not enough memory", "out of memory", "invalid buffer size"),
        *("cublas_status_alloc_failed", "storage size calculation overflowed"),
        "can't start new thread",
    )
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in texts)


class Problems:
    """The problems of a file's rows; each rule appears once, however many rows break it."""

    def __init__(self) -> None:
        self.n_hidden = 0
        self._first: dict[str, str] = {}
        self._values: dict[str, Counter[str]] = {}

    def add(self, where: str, problem: str) -> None:
        """Add a problem of a row, as `RULE` or `RULE, but is VALUE`."""
        rule, _, value = problem.partition(BUT_IS)
        if rule not in self._first and len(self._first) == MAX_SHOWN:
            self.n_hidden += 1
            return
        self._first.setdefault(rule, where)
        self._values.setdefault(rule, Counter())[value] += 1

    def lines(self) -> list[str]:
        """Return a sentence for each rule, at most `MAX_SHOWN`; `n_hidden` rows break others."""
        return [self._line(rule, self._first[rule], self._values[rule]) for rule in self._first]

    @staticmethod
    def _line(rule: str, first: str, values: Counter[str]) -> str:
        if values.total() == 1:
            return f"{first}: {rule}{''.join(BUT_IS + value for value in values if value)}"
        if not any(values):
            return f"{first} and {values.total() - 1:,} more: {rule}"
        shown = [f"{value} in {n:,}" for value, n in values.most_common(MAX_SHOWN)]
        more = f" and {len(values) - MAX_SHOWN:,} other values" * (len(values) > MAX_SHOWN)
        return f"{rule}{BUT_IS}{', '.join(shown)}{more} rows, first in {first}"


def closest(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are most like `name` or begin with it, ignoring case."""
    names_of: dict[str, list[str]] = {}
    for each in known:
        names_of.setdefault(each.casefold(), []).append(each)
    wanted = name.casefold()
    # Assumed: at 0.6, the default, missing.csv is like submissions.
    found = difflib.get_close_matches(wanted, names_of, n=1, cutoff=0.7)
    found = found or [each for each in names_of if wanted and each.startswith(wanted)]
    return [each for folded in found for each in names_of[folded]]


def did_you_mean(names: Sequence[str]) -> str:
    """Return `, did you mean A or B?`, or nothing where there are no names."""
    return f", did you mean {' or '.join(names)}?" if names else ""


def there_are(names: Iterable[str]) -> str:
    """Return ` (there are: A, B)`, for when no name is like the given one."""
    return f" (there are: {', '.join(names)})"


def check_name(what: str, name: str, known: Collection[str]) -> str:
    """Return the name if it is known; otherwise raise an InputError that lists the known names."""
    if name not in known:
        hint = did_you_mean(closest(name, known))
        raise InputError(f"{what} must be one of {', '.join(known)}, but got {name!r}{hint}")
    return name


def unreadable(path: Path, error: OSError) -> InputError:
    """Return the error of a file that cannot be read, with a similar name that exists."""
    hint = did_you_mean(similar_names(path)) if isinstance(error, FileNotFoundError) else ""
    reason = os.strerror(error.errno) if error.errno else error  # Arrow's strerror is a sentence
    return InputError(f"{path}: {reason}{hint}")


def similar_names(path: Path) -> list[str]:
    """Return the names that are most like the first part of the path that does not exist."""
    for part in (*reversed(path.parents), path):
        if not part.exists():
            there = part.parent.iterdir() if part.parent.is_dir() else ()
            return closest(part.name, sorted(each.name for each in there))
    return []


@contextmanager
def within_memory(advice: str, place: str = "", device: str = "cpu") -> Iterator[None]:
    """Turn an out-of-memory error into an InputError with the place, the device and advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"{place}out of memory on {device}; {advice}") from error
