"""The rows of one file, checked once, so that no later code has to check them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Float, Float32, Int, Int64, Shaped
from pydantic import model_validator

from hbcomp.system.config import Section, validate
from hbcomp.system.errors import MAX_SHOWN, InputError, listed
from hbcomp.system.memory import MappedArray, mapped, row_blocks


class DataConfig(Section):
    """A competition and the files to read in place of its own; without any, the bundled sample."""

    competition: str = "heartbeat"  # one that ships with hbcomp, or a folder
    train: Path | None = None
    test: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        is_heartbeat = self.competition == "heartbeat"
        if self.test is not None and self.train is None and is_heartbeat:
            raise ValueError("`test` needs `train`; leave both out for the bundled sample")
        return self


def data_config(**options: Any) -> DataConfig:
    """Return the configuration that the options of a command make; None is one not given."""
    given = {key: value for key, value in options.items() if value is not None}
    return validate(DataConfig, given, "")


def as_options(config: DataConfig) -> list[str]:
    """Return the options with which a command reads the same files."""
    changed = config.model_dump(mode="json", exclude_defaults=True)
    return [word for key, value in changed.items() for word in (f"--{key}", value)]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Signals with their ids, and their labels and groups where they are known.

    Ids and groups are text, so that a submission repeats the file's ids exactly. Signals of one
    channel may be given as `(n, t)`. NaN stands where a row has no value: its padding, or a value
    that is missing.

    Notes
    -----
    There is at least one row; ids are unique and not empty; no value is infinite; labels are
    numbers of `classes`, or without any 0..k-1 with k of at least 2 and every class present. The
    arrays are read-only and in C order, because rows are hashed and stored as they lie in memory.

    """

    ids: Shaped[np.ndarray, " n"]
    signals: Float32[np.ndarray, "n *c t"]
    labels: Int64[np.ndarray, " n"] | None = None
    groups: Shaped[np.ndarray, " n"] | None = None
    source: str = "data"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.signals.ndim == 2:  # of one channel
            object.__setattr__(self, "signals", self.signals[:, None])
        problems = list(self._shape_problems()) or list(self._value_problems())
        if problems:
            raise InputError.of(self.source, problems)
        if self.labels is not None and not self.classes:
            names = tuple(map(str, range(int(self.labels.max()) + 1)))
            object.__setattr__(self, "classes", names)
        for name, array in self._arrays():
            # A view, so that the caller's own array stays as writable as it was.
            read_only = np.ascontiguousarray(array).view()
            read_only.flags.writeable = False
            object.__setattr__(self, name, read_only)

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.ids)

    @property
    def shape(self) -> tuple[int, int]:
        """The channels and time steps of each signal."""
        return int(self.signals.shape[1]), self.n_timepoints

    @property
    def filled(self) -> Float32[np.ndarray, "n c t"]:
        """The signals with 0 where a row has no value, for distances and hashes."""
        return filled(self.signals)

    @property
    def flat(self) -> Float32[np.ndarray, "n v"]:
        """The filled values of each signal, channel after channel."""
        return self.filled.reshape(self.n_rows, -1)

    @property
    def n_timepoints(self) -> int:
        """The number of time steps of each signal."""
        return int(self.signals.shape[2])

    @cached_property
    def n_classes(self) -> int:
        """The number of classes; asking an unlabelled data set is an InputError."""
        return len(self.class_counts)

    @cached_property
    def class_counts(self) -> Int64[np.ndarray, " k"]:
        """The number of rows of each class; asking an unlabelled data set is an InputError."""
        return np.bincount(self.known_labels, minlength=len(self.classes)).astype(np.int64)

    @property
    def known_labels(self) -> Int64[np.ndarray, " n"]:
        """The labels, for code that needs them; an unlabelled data set is an InputError."""
        if self.labels is None:
            raise InputError(f"{self.source}: labels are needed here, but it has none")
        return self.labels

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all ids, signals, labels and groups."""
        digest = xxhash.xxh3_128()
        for name, array in self._arrays():
            shape = tuple(size for axis, size in enumerate(array.shape) if axis != 1 or size > 1)
            digest.update(f"{name} {array.dtype.str} {shape};".encode())
            digest.update(array.view(np.uint8).data)
        if self.classes != tuple(map(str, range(len(self.classes)))):
            digest.update(f"classes {self.classes};".encode())
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to another process: of signals in a file, the place in it."""
        return {**self.__dict__, "signals": mapped(self.signals) or self.signals}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what another process sent, and map signals that lie in a file."""
        if isinstance(state["signals"], MappedArray):
            state["signals"] = np.asarray(state["signals"].open())
        self.__dict__.update(state)

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        for name in ("ids", "signals", "labels", "groups"):
            array = getattr(self, name)
            if array is not None:
                yield name, array

    def _shape_problems(self) -> Iterator[str]:
        wanted: dict[str, tuple[str, int, str]] = {
            "ids": ("U", 1, "text of shape (n,)"),
            "signals": ("f", 3, "float32 of shape (n, c, t)"),
            "labels": ("i", 1, "int64 of shape (n,)"),
            "groups": ("U", 1, "text of shape (n,)"),
        }
        for name, array in self._arrays():
            kind, n_axes, description = wanted[name]
            size_fits = kind == "U" or array.dtype == {"f": np.float32, "i": np.int64}[kind]
            if array.dtype.kind != kind or array.ndim != n_axes or not size_fits:
                yield f"{name} must be {description}, but got {array.dtype} {array.shape}"
            elif len(array) != len(self.ids):
                yield f"{name} has {len(array)} rows, but ids has {len(self.ids)}"
        if not len(self.ids):
            yield "there must be at least one row, but there is none"
        elif self.signals.ndim == 3 and not self.signals[0].size:
            yield "a signal must have at least one time step, but these have none"

    def _value_problems(self) -> Iterator[str]:
        ids = self.ids.tolist()
        if "" in ids:
            yield "an id must not be empty"
        yield from id_problems(ids)
        # Block by block, because the rows may be more than fit into memory.
        is_infinite = [
            np.isinf(self.signals[rows]).any(axis=(1, 2)) for rows in row_blocks(self.signals)
        ]
        if any(block.any() for block in is_infinite):
            broken = self.ids[np.concatenate(is_infinite)].tolist()
            yield f"values must be finite, but are not in {listed(broken, 'id')}"
        if self.labels is not None:
            yield from _label_problems(self.labels, self.ids, self.classes)
        if self.groups is not None and "" in set(self.groups.tolist()):
            yield f"empty group of {listed(self.ids[self.groups == ''].tolist(), 'id')}"


def _label_problems(labels: np.ndarray, ids: np.ndarray, classes: Sequence[str]) -> Iterator[str]:
    if labels.min() < 0:
        negative = listed(ids[labels < 0].tolist(), "id")
        yield f"labels must be 0..k-1, but are negative for {negative}"
        return
    present = np.unique(labels)
    top = int(present[-1])
    if classes:
        if top >= len(classes):
            yield f"labels must be below {len(classes)}, the number of classes, but one is {top}"
    elif len(present) != top + 1:
        shown = ", ".join(map(str, present[:MAX_SHOWN])) + (", ..." * (len(present) > MAX_SHOWN))
        missing = np.flatnonzero(~np.isin(np.arange(min(top, 1000)), present)).tolist()
        yield (
            f"labels must be 0..k-1 with every class present, but {listed(missing, 'class')} "
            f"has no row (found {shown})"
        )
    elif top == 0:
        yield "there must be at least 2 classes, but every label is 0"


def id_problems(
    ids: Sequence[str], wanted: Sequence[str] | None = None, source: str = "the data"
) -> Iterator[str]:
    """Yield how ids are not unique, or not the wanted ones of a source, in whatever order."""
    present = set(ids)
    if len(present) < len(ids):
        repeated = [row_id for row_id, count in Counter(ids).items() if count > 1]
        yield f"ids must be unique, but repeated: {listed(repeated, 'id')}"
    if wanted is None:
        return
    if missing := [row_id for row_id in wanted if row_id not in present]:
        yield f"no row for {listed(missing, 'id')} of {source}"
    if unknown := sorted(present.difference(wanted)):
        yield f"not in {source}: {listed(unknown, 'id')}"


def in_words(shape: tuple[int, int]) -> str:
    """Return channels and time steps in words."""
    n_channels, n_steps = shape
    channels = f"{n_channels} channels of " if n_channels > 1 else ""
    return f"{channels}{n_steps} time steps"


def filled(signals: Float[np.ndarray, "n c t"]) -> Float[np.ndarray, "n c t"]:
    """Return the signals with 0 in place of NaN; without any they are the same array."""
    is_none = np.isnan(signals)
    return np.where(is_none, np.zeros((), signals.dtype), signals) if is_none.any() else signals


def without_padding(
    signals: Float32[np.ndarray, "n c t"], padding_value: float | None
) -> Float32[np.ndarray, "n c t"]:
    """Return the signals with NaN for the run of `padding_value` at the end of each row, if any.

    Padding is where all channels have the value, or already none.
    """
    if padding_value is None:
        return signals
    is_padding = ((signals == np.float32(padding_value)) | np.isnan(signals)).all(axis=1)
    is_end = np.logical_and.accumulate(is_padding[:, ::-1], axis=1)[:, ::-1]
    return np.where(is_end[:, None], np.float32(np.nan), signals)


def lengths_of(signals: Float[np.ndarray, "n c t"]) -> Int[np.ndarray, " n"]:
    """Return the number of time steps up to the last value of each row; that of none is 0."""
    lengths = []
    for rows in row_blocks(signals):
        is_value = (~np.isnan(signals[rows])).any(axis=1)
        n_trailing = np.argmax(is_value[:, ::-1], axis=1)
        lengths.append(np.where(is_value.any(axis=1), signals.shape[2] - n_trailing, 0))
    return np.concatenate(lengths)
