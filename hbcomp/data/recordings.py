"""The rows of a file as they stand in it, and how they become arrays of one shape.

The readers of foreign layouts return `Recordings`; what is missing, unequal or text in them is
decided here, by what competition.toml says, for all layouts alike.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from hbcomp.data.dataset import without_padding
from hbcomp.data.layout import DataLayout
from hbcomp.data.signal_blocks import SignalBlocks
from hbcomp.system.errors import MAX_SHOWN, InputError, listed
from hbcomp.system.memory import BLOCK_BYTES

MAX_CLASSES = 10_000  # assumed: more are ids, not classes


@dataclass(eq=False)
class Recordings:
    """Rows of `(channels, time steps)` each, NaN where a value is missing; labels are text.

    `ids`, `labels` and `groups` are None where the file has none.
    """

    signals: list[np.ndarray]
    ids: list[str] | None = None
    labels: list[str] | None = None
    groups: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """The ids, or the numbers of the rows from 0."""
        return self.ids if self.ids is not None else [str(row) for row in range(len(self.signals))]


def stack_signals(
    recordings: Recordings, layout: DataLayout, source: str
) -> Float32[np.ndarray, "n c t"]:
    """Return the signals as one array, with NaN where a row has no value.

    Rows that are shorter than the longest one are padded at the end or the start, as `layout.pad`
    says.
    """
    if not recordings.signals:
        raise InputError(f"{source}: there is no data row")
    problems = [*_shape_problems(recordings, layout)]
    if problems:
        raise InputError.of(source, problems)
    n_channels = len(recordings.signals[0])
    shape = n_channels, max(signal.shape[1] for signal in recordings.signals)
    n_rows = max(1, BLOCK_BYTES // (4 * shape[0] * shape[1]))
    blocks = SignalBlocks()
    for start in range(0, len(recordings.signals), n_rows):
        block = _stacked(recordings.signals[start : start + n_rows], shape, layout)
        blocks.append(without_padding(block, layout.padding_value))
    return blocks.array()


def _stacked(
    signals: Sequence[np.ndarray], shape: tuple[int, int], layout: DataLayout
) -> Float32[np.ndarray, "r c t"]:
    stacked = np.full((len(signals), *shape), np.nan, dtype=np.float32)
    for row, signal in zip(stacked, signals, strict=True):
        start = row.shape[1] - signal.shape[1] if layout.pad == "start" else 0
        with np.errstate(over="ignore"):  # the data set refuses the infinity
            row[:, start : start + signal.shape[1]] = _filled(signal, layout.missing)
    return stacked


def number_classes(
    texts: Sequence[str], classes: Sequence[str], names: Sequence[str], source: str
) -> tuple[Int64[np.ndarray, " n"], tuple[str, ...]]:
    """Return the number of each label's class, and the classes in their order.

    Without `classes` they are those of the labels, numbers in their order and then texts in theirs.
    `1` and `1.0` are one class, named 1.
    """
    key_of = {text: _key(text) for text in {*texts}}
    keys = [key_of[text] for text in texts]
    if empty := [name for name, text in zip(names, texts, strict=True) if not text.strip()]:
        raise InputError(f"{source}: the label is empty for {listed(empty, 'id')}")
    if not classes:
        first = {key: text.strip() for key, text in reversed([*zip(keys, texts, strict=True)])}
        classes = [_class_name(key, first[key]) for key in sorted(first, key=_order)]
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise InputError(
            f"{source}: there must be 2 to {MAX_CLASSES:,} classes, but there are {len(classes):,}"
        )
    number_of = {_key(name): number for number, name in enumerate(classes)}
    unknown = [place for place, key in enumerate(keys) if key not in number_of]
    if unknown:
        shown, text = ", ".join(classes[:MAX_SHOWN]), texts[unknown[0]].strip()
        of = listed([names[place] for place in unknown], "id")
        raise InputError(f"{source}: labels must be one of {shown}, but {text!r} is not: {of}")
    return np.array([number_of[key] for key in keys], dtype=np.int64), tuple(classes)


def _key(text: str) -> str | float:
    """Return a label as a number if it is one, so that `1` and `1.0` are equal."""
    try:
        number = float(text)
    except ValueError:
        return text.strip()
    return number if text.isascii() and np.isfinite(number) else text.strip()


def _class_name(key: str | float, text: str) -> str:
    return str(int(key)) if isinstance(key, float) and key.is_integer() else text


def _order(key: str | float) -> tuple[bool, float, str]:
    return (isinstance(key, str), 0.0 if isinstance(key, str) else key, str(key))


def _shape_problems(recordings: Recordings, layout: DataLayout) -> Iterator[str]:
    names, signals = recordings.names, recordings.signals
    n_channels, n_steps = signals[0].shape
    pairs = list(zip(names, signals, strict=True))
    if others := [name for name, signal in pairs if len(signal) != n_channels]:
        yield f"every row must have {n_channels} channels, but not {listed(others, 'id')}"
    if empty := [name for name, signal in pairs if not signal.shape[1]]:
        yield f"a row must have at least one time step, but not {listed(empty, 'id')}"
    others = [name for name, signal in pairs if signal.shape[1] != n_steps]
    if others and layout.pad == "refuse":
        yield (
            f"rows must have {n_steps} time steps as the first one, but not {listed(others, 'id')};"
            ' data.pad = "end" pads them'
        )
    missing = [name for name, signal in pairs if np.isnan(signal).any()]
    if missing and layout.missing == "refuse":
        yield (
            f"values are missing for {listed(missing, 'id')}; data.missing says what stands in "
            "for them: zero, hold (the value before), or mask (no value, which nets are told)"
        )
    if infinite := [name for name, signal in pairs if np.isinf(signal).any()]:
        yield f"values must be finite, but not those of {listed(infinite, 'id')}"


def _filled(signal: np.ndarray, missing: str) -> np.ndarray:
    """Return the signal with 0, the value before, or still none, where one is missing.

    Before the first value there is none to hold: the first one is taken.
    """
    is_missing = np.isnan(signal)
    if not is_missing.any():
        return signal
    if missing == "mask":
        return np.where(is_missing, np.nan, signal)  # of all NaNs the usual one
    if missing == "zero":
        return np.where(is_missing, 0.0, signal)
    filled = np.zeros_like(signal)
    for channel, values, gaps in zip(filled, signal, is_missing, strict=True):
        if not gaps.all():
            places = np.where(gaps, -1, np.arange(len(values)))
            last = np.maximum.accumulate(places)
            channel[:] = values[np.where(last < 0, places.max(initial=0, where=~gaps), last)]
            channel[last < 0] = values[np.flatnonzero(~gaps)[0]]
    return filled


def split_rows(values: np.ndarray, starts: Sequence[int]) -> list[np.ndarray]:
    """Return the columns of `(channels, all steps)` cut into one row per start."""
    ends = [*starts[1:], values.shape[1]]
    return [values[:, start:end] for start, end in itertools.zip_longest(starts, ends)]
