"""Which column of a file holds what: the layouts of the competition and of plain wide tables."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hbcomp.data.dataset import DataConfig
from hbcomp.errors import MAX_SHOWN, InputError, closest, did_you_mean

# pandas writes an unnamed index under this name; it is no sample.
INDEX_COLUMN = re.compile(r"__index_level_\d+__")

# What it writes and reads as the name of a column without one.
UNNAMED = re.compile(r"(Unnamed: \d+)?")


@dataclass(frozen=True)
class Columns:
    """The positions of the columns that are read; all others are ignored.

    `is_list` says that one column holds the whole signal; otherwise each of `samples` is one
    sample of it, in file order.
    """

    names: tuple[str, ...]
    id: int
    label: int | None
    group: int | None
    samples: tuple[int, ...]
    is_list: bool

    @property
    def used(self) -> list[int]:
        """The positions of all columns that are read, in file order."""
        others = [column for column in (self.label, self.group) if column is not None]
        return sorted({self.id, *others, *self.samples})

    @property
    def hint(self) -> str:
        """What to add to a message when a misspelt signal column may be behind the problems."""
        if self.is_list or len(self.samples) > MAX_SHOWN:
            return ""
        names = ", ".join(repr(self.names[column]) for column in self.samples)
        return f" (no signal column found, so each of {names} was read as one sample)"


def find_columns(path: Path, names: list[str], config: DataConfig, *, labelled: bool) -> Columns:
    """Return where everything is, or raise an InputError that lists what the file has."""
    wanted = [config.id_column]
    if labelled:
        wanted += [config.label_column]
        wanted += [config.group_column] if config.group_column is not None else []
    problems = [
        f"no column {name!r}{did_you_mean(list(map(repr, closest(name, names))))}"
        for name in wanted
        if name not in names
    ]
    problems += [f"column {name!r} occurs {n} times" for name, n in Counter(names).items() if n > 1]
    special = {config.id_column, config.label_column, config.group_column}
    is_list = config.signal_column in names
    samples = tuple(
        position
        for position, name in enumerate(names)
        if (name == config.signal_column if is_list else name not in special)
        and not INDEX_COLUMN.fullmatch(name)
    )
    if any(UNNAMED.fullmatch(names[position]) for position in samples):
        problems.append("a column without a name would be read as a sample; is it an index?")
    if not samples:
        problems.append(f"no column {config.signal_column!r} and none that could be a sample")
    if problems:
        raise InputError.of(path, [*problems, f"the file has {_shortened(names)}"])

    def position(name: str | None) -> int | None:
        return names.index(name) if labelled and name is not None else None

    return Columns(
        names=tuple(names),
        id=names.index(config.id_column),
        label=position(config.label_column),
        group=position(config.group_column),
        samples=samples,
        is_list=is_list,
    )


def _shortened(names: list[str]) -> str:
    dots = f", ... ({len(names)} columns)" if len(names) > MAX_SHOWN else ""
    return ", ".join(repr(name) for name in names[:MAX_SHOWN]) + dots
