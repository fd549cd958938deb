"""The columns of a file, in the competition's layout or that of a wide table."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hbcomp.data.layout import DataLayout
from hbcomp.system.errors import MAX_SHOWN, InputError, closest, did_you_mean

# The name under which pandas writes an unnamed index.
INDEX_COLUMN = re.compile(r"__index_level_\d+__")

# A column of one time step of a numbered series: s0, s1, ... or 0, 1, ... or t_0.5ms, t_1.0ms, ...
NUMBERED = re.compile(r"(.*?)(\d+(?:\.\d+)?)(\D*)", re.ASCII | re.DOTALL)

# What stands for the number in the name of a channel of a wide file.
STEP = "{step}"
# The columns of a file are those of its competition, or the file is another competition's.
HINT = "`hbcomp init` writes the competition.toml of files with other columns"

# The names that pandas writes and reads for a column without one.
UNNAMED = re.compile(r"(Unnamed: \d+)?")


@dataclass(frozen=True)
class Columns:
    """The positions of the columns that are read; all others are ignored.

    If `is_list`, one column holds the signals; otherwise each of `steps` is one time step, in file
    order within each channel.
    """

    names: tuple[str, ...]
    id: int | None  # None: rows are numbered from 0
    label: int | None
    group: int | None
    steps: tuple[int, ...]
    is_list: bool
    classes: tuple[str, ...] | None = None  # None: labels are 0, 1, 2, ...; empty: any text
    n_channels: int = 1  # the steps of one come after those of the other

    @property
    def used(self) -> list[int]:
        """The positions of all columns that are read, in file order."""
        named = (self.id, self.label, self.group)
        return sorted({*(column for column in named if column is not None), *self.steps})


def find_columns(path: Path, names: list[str], layout: DataLayout, *, labelled: bool) -> Columns:
    """Return the columns of a file, or raise an InputError that lists what the file has."""
    row_id = layout.id_name if layout.id or "id" in names else None
    wanted = [row_id] if row_id else []
    if labelled:
        wanted += [layout.label]
        wanted += [layout.group] if layout.group is not None else []
    problems = [
        f"no column {name!r}{did_you_mean(list(map(repr, closest(name, names))))}"
        for name in wanted
        if name not in names
    ]
    problems += [f"column {name!r} occurs {n} times" for name, n in Counter(names).items() if n > 1]
    special = {row_id, layout.label, layout.group, *layout.ignore}
    is_list = layout.signal in names
    steps = tuple(
        position
        for position, name in enumerate(names)
        if (name == layout.signal if is_list else name not in special)
        and not INDEX_COLUMN.fullmatch(name)
    )
    if any(UNNAMED.fullmatch(names[position]) for position in steps):
        problems.append("a column without a name would be read as a time step; is it an index?")
    if not steps:
        problems.append(f"{_no_signal(layout)} and none that could be a time step")
    elif not is_list and not problems and layout.channels:
        steps = _steps_of_channels(names, steps, layout, problems)
    elif not is_list and not problems:
        problems += _series_problems([names[position] for position in steps], layout)
    if problems:
        raise InputError.of(path, [*problems, f"the file has {_shortened(names)}", HINT])

    def position(name: str | None) -> int | None:
        return names.index(name) if labelled and name is not None else None

    return Columns(
        names=tuple(names),
        id=None if row_id is None else names.index(row_id),
        label=position(layout.label),
        group=position(layout.group),
        steps=steps,
        is_list=is_list,
        classes=None if layout.labels == "numbered" else layout.classes,
        n_channels=1 if is_list else max(1, len(layout.channels)),
    )


def _steps_of_channels(
    names: list[str], among: tuple[int, ...], layout: DataLayout, problems: list[str]
) -> tuple[int, ...]:
    """Return the columns of all channels, one channel after another; add what is wrong with them.

    A column of no channel is refused unless it is ignored: it may be an age, or a channel that was
    forgotten.
    """
    found = {
        channel: {
            names[at][len(prefix) : len(names[at]) - len(suffix)]: at
            for at in among
            if _is_step(names[at], prefix, suffix)
        }
        for channel in layout.channels
        for prefix, _, suffix in [channel.partition(STEP)]
    }
    first, *others = layout.channels
    if absent := [channel for channel in found if not found[channel]]:
        problems.append(f"no column of the channels {', '.join(absent)}")
    steps_of = {channel: list(places) for channel, places in found.items() if places}
    problems += [
        f"all channels must have the same time steps in one order, but {channel} has "
        f"{_shortened(steps_of[channel])} and {first} {_shortened(steps_of[first])}"
        for channel in others
        if {first, channel} <= {*steps_of} and steps_of[channel] != steps_of[first]
    ]
    steps = tuple(at for places in found.values() for at in places.values())
    if rest := [names[at] for at in among if at not in set(steps)]:
        problems.append(
            f"{_shortened(rest)} {'is' if len(rest) == 1 else 'are'} of no channel; name what is "
            "no time step in data.ignore"
        )
    numbers = [float(step) for step in found[first]]
    if numbers != sorted(numbers):
        problems.append(f"the columns of {first} must be in the order of their numbers")
    return steps


def _is_step(name: str, prefix: str, suffix: str) -> bool:
    part = NUMBERED.fullmatch(name)
    return part is not None and (part[1], part[3]) == (prefix, suffix)


def _series_problems(names: list[str], layout: DataLayout) -> Iterator[str]:
    """Yield which columns cannot be time steps, because they are outside of one series.

    A number that is no time step (an age, a fold) would otherwise be trained on as one.
    """
    parts = [NUMBERED.fullmatch(name) for name in names]
    families = Counter((part[1], part[3]) for part in parts if part)
    if not families:
        yield (
            f"{_no_signal(layout)}, and the other columns are not a numbered series of time steps "
            "(s0, s1, ...)"
        )
        return
    prefix, suffix = max(families, key=lambda family: families[family])
    others = [
        name
        for name, part in zip(names, parts, strict=True)
        if not part or (part[1], part[3]) != (prefix, suffix)
    ]
    if others:
        yield (
            f"the time steps must be one numbered series, like {prefix}0{suffix}, {prefix}1{suffix}"
            f", ..., but {_shortened(others)} {'is' if len(others) == 1 else 'are'} not of it; "
            "name what is no time step in data.ignore"
        )
        return
    numbers = [float(part[2]) for part in parts if part]
    for place in range(1, len(numbers)):
        if numbers[place] <= numbers[place - 1]:
            yield (
                "the columns of the time steps must be in the order of their numbers, but "
                f"{names[place]!r} comes after {names[place - 1]!r}"
            )
            return


def _no_signal(layout: DataLayout) -> str:
    return f"no column {layout.signal!r}" if layout.signal else "no column of signals is named"


def _shortened(names: list[str]) -> str:
    dots = f", ... ({len(names)} columns)" if len(names) > MAX_SHOWN else ""
    return ", ".join(repr(name) for name in names[:MAX_SHOWN]) + dots
