"""The data of a configuration: its files, those of its competition, or the bundled sample."""

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from hbcomp.competitions.competition import DEFAULT, FILE, Competition, load_competition
from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.duplicates import check_pair
from hbcomp.data.foreign_readers import read_arrays, read_long, read_plain, read_ts
from hbcomp.data.layout import DataLayout
from hbcomp.data.reader import read_dataset, step_names
from hbcomp.data.recordings import Recordings, number_classes, stack_signals
from hbcomp.data.sample import TEST, TRAIN
from hbcomp.data.signal_blocks import in_blocks
from hbcomp.system.errors import InputError

FOREIGN = ("plain", "array", "ts", "long")


def load_data(config: DataConfig) -> tuple[Dataset, Dataset | None]:
    """Return the train and the test rows of the named files, or those that ship with hbcomp."""
    if config.competition == DEFAULT and config.train is None:
        return load_sample()
    files = with_files(config)
    assert files.train is not None
    train = read_rows(files.train, config, labelled=True)
    if files.test is None:
        return train, None
    test = read_rows(files.test, config, labelled=False)
    n_steps = max(train.n_timepoints, test.n_timepoints)
    train, test = (padded_to(rows, n_steps, config) for rows in (train, test))
    if layout_of(config).layout not in FOREIGN:
        _check_names(files.train, files.test, layout_of(config))
    check_pair(train, test, numbers_apart=config.competition != DEFAULT)
    return train, test


def load_sample() -> tuple[Dataset, Dataset]:
    """Return 4,000 labelled training rows and 1,000 test rows without labels: real heartbeats.

    The labels of the test rows are in a file that only scores submissions; training and tuning must
    not read it.
    """
    layout = load_competition().file.data
    train = read_dataset(TRAIN, layout, labelled=True)
    test = read_dataset(TEST, layout, labelled=False)
    # The path of the installation would say nothing.
    return replace(train, source="bundled train"), replace(test, source="bundled test")


def padded_to(rows: Dataset, n_steps: int, config: DataConfig) -> Dataset:
    """Return the rows with padding up to so many time steps, if their competition pads."""
    pad, n_missing = layout_of(config).pad, n_steps - rows.n_timepoints
    if n_missing <= 0 or pad == "refuse":
        return rows
    widths = (n_missing, 0) if pad == "start" else (0, n_missing)

    def padded(block: np.ndarray) -> np.ndarray:
        return np.pad(block, ((0, 0), (0, 0), widths), constant_values=np.nan)

    return replace(rows, signals=in_blocks(padded, rows.signals))


def with_files(config: DataConfig) -> DataConfig:
    """Return the configuration with the files that its competition names."""
    if config.competition == DEFAULT:
        return config
    competition = load_competition(config.competition)
    layout = competition.file.data
    train = config.train or _file(competition, layout.train)
    if train is None:
        raise InputError(f"{competition.name}: no labelled file; name it in {FILE} or with --train")
    test = config.test or _file(competition, layout.test)
    return config.model_copy(update={"train": train, "test": test})


def classes_of(config: DataConfig) -> tuple[str, ...]:
    """Return the classes of a competition, in their order; none where only a file would tell."""
    layout = layout_of(config)
    if layout.classes or layout.labels == "numbered":
        return layout.classes
    train = config.train or _file(load_competition(config.competition), layout.train)
    return () if train is None else read_rows(train, config, labelled=True).classes


def read_rows(path: Path, config: DataConfig, *, labelled: bool) -> Dataset:
    """Return the rows of a file in the layout of its competition."""
    layout = layout_of(config)
    if layout.layout not in FOREIGN:
        return read_dataset(path, layout, labelled=labelled)
    recordings = _read_foreign(path, config, layout, labelled=labelled)
    return _as_dataset(recordings, layout, str(path), labelled=labelled)


def _read_foreign(
    path: Path, config: DataConfig, layout: DataLayout, *, labelled: bool
) -> Recordings:
    if layout.layout == "plain":
        separator = "\t" if ".tsv" in path.name else ","
        is_first = layout.label == "first"
        labelled = labelled or layout.test_has_label
        return read_plain(path, labelled=labelled, is_label_first=is_first, separator=separator)
    if layout.layout == "ts":
        return read_ts(path)
    if layout.layout == "long":
        return read_long(path, layout, labelled=labelled)
    competition = load_competition(config.competition)
    if not labelled:
        return read_arrays(path)
    return read_arrays(path, _file(competition, layout.train_labels), layout.group)


def _as_dataset(
    recordings: Recordings, layout: DataLayout, source: str, *, labelled: bool
) -> Dataset:
    signals = stack_signals(recordings, layout, source)
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    if labelled:
        if recordings.labels is None:
            raise InputError(f"{source}: there are no labels")
        names = recordings.names
        labels, classes = number_classes(recordings.labels, layout.classes, names, source)
    groups = recordings.groups if labelled else None
    return Dataset(
        ids=np.array(recordings.names),
        signals=signals,
        labels=labels,
        groups=None if groups is None else np.array(groups),
        source=source,
        classes=classes,
    )


def layout_of(config: DataConfig) -> DataLayout:
    """Return how the files of a competition are laid out."""
    return load_competition(config.competition).file.data


def _file(competition: Competition, relative: Path | None) -> Path | None:
    return None if relative is None else competition.path(relative)


def _check_names(train: Path, test: Path, layout: DataLayout) -> None:
    """Refuse wide files whose time steps differ, because they are matched by position."""
    names = step_names(train, layout, labelled=True)
    others = step_names(test, layout, labelled=False)
    if names is None or others is None or names == others:
        return
    pairs = enumerate(zip_longest(names, others), start=1)
    at, (wanted, found) = next((at, pair) for at, pair in pairs if len({*pair}) > 1)
    raise InputError(
        f"{test}: the time steps must be those of {train} in their order, but number {at} "
        f"is {found!r} instead of {wanted!r}"
    )
