"""The data of a configuration: its files, those of its competition, or the bundled sample."""

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from hbcomp.competitions.competition import DEFAULT, FILE, Competition, load_competition
from hbcomp.data import csv_reader, parquet_reader
from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.duplicates import check_pair
from hbcomp.data.foreign_readers import read_arrays, read_long, read_plain, read_ts
from hbcomp.data.layout import DataLayout
from hbcomp.data.reader import read_dataset, step_names
from hbcomp.data.recordings import Recordings, number_classes, stack_signals
from hbcomp.data.sample import load_sample
from hbcomp.data.signal_blocks import in_blocks
from hbcomp.system.errors import InputError

FOREIGN = ("plain", "array", "ts", "long")
FILES = {"competition", "train", "test"}  # the keys that other competitions take from the user


def load_data(config: DataConfig) -> tuple[Dataset, Dataset | None]:
    """Return the train and the test rows of the named files, or those that ship with hbcomp."""
    if config.competition == DEFAULT and config.train is None:
        ignored = [key for key in DataConfig.model_fields if getattr(config, key) != _default(key)]
        if ignored:
            raise InputError(f"the bundled sample would ignore data.{', data.'.join(ignored)}")
        return load_sample()
    files = with_files(config)
    assert files.train is not None
    train = read_rows(files.train, config, labelled=True)
    if files.test is None:
        return train, None
    test = read_rows(files.test, config, labelled=False)
    n_steps = max(train.n_timepoints, test.n_timepoints)
    train, test = (padded_to(rows, n_steps, config) for rows in (train, test))
    if _layout(config).layout not in FOREIGN:
        _check_names(files.train, files.test, files)
    check_pair(train, test, numbers_apart=config.competition != DEFAULT)
    return train, test


def padded_to(rows: Dataset, n_steps: int, config: DataConfig) -> Dataset:
    """Return the rows with padding up to so many time steps, if their competition pads."""
    pad, n_missing = _layout(config).pad, n_steps - rows.n_timepoints
    if n_missing <= 0 or pad == "refuse":
        return rows
    widths = (n_missing, 0) if pad == "start" else (0, n_missing)

    def padded(block: np.ndarray) -> np.ndarray:
        return np.pad(block, ((0, 0), (0, 0), widths), constant_values=np.nan)

    return replace(rows, signals=in_blocks(padded, rows.signals))


def with_files(config: DataConfig) -> DataConfig:
    """Return the configuration with the files and columns that its competition names."""
    if config.competition == DEFAULT:
        return config
    competition = load_competition(config.competition)
    layout = competition.file.data
    own = config.model_fields_set - FILES
    if changed := sorted(key for key in own if getattr(config, key) != _default(key)):
        raise InputError(
            f"data.{', data.'.join(changed)}: {competition.name} names its columns in {FILE}"
        )
    train = config.train or _file(competition, layout.train)
    if train is None:
        raise InputError(f"{competition.name}: no labelled file; name it in {FILE} or with --train")
    return config.model_copy(
        update={
            "train": train,
            "test": config.test or _file(competition, layout.test),
            "id_column": layout.id if _has_column(train, layout.id) else None,
            "signal_column": layout.signal or "",
            "label_column": layout.label,
            "group_column": layout.group,
            "ignored_columns": layout.ignore,
            "classes": layout.classes,
            "channels": () if layout.layout == "long" else layout.channels,
            "padding_value": layout.padding_value,
        }
    )


def read_rows(path: Path, config: DataConfig, *, labelled: bool) -> Dataset:
    """Return the rows of a file in the layout of its competition."""
    if config.competition == DEFAULT:
        return read_dataset(path, config, labelled=labelled)
    layout = _layout(config)
    if layout.layout not in FOREIGN:
        return read_dataset(path, with_files(config), labelled=labelled)
    recordings = _read_foreign(path, config, layout, labelled=labelled)
    return _as_dataset(recordings, layout, str(path), labelled=labelled)


def _read_foreign(
    path: Path, config: DataConfig, layout: DataLayout, *, labelled: bool
) -> Recordings:
    if layout.layout == "plain":
        separator = "\t" if ".tsv" in path.name else ","
        is_first = layout.label == "first"
        return read_plain(path, labelled=labelled, is_label_first=is_first, separator=separator)
    if layout.layout == "ts":
        return read_ts(path)
    if layout.layout == "long":
        return read_long(path, layout, labelled=labelled)
    competition = load_competition(config.competition)
    return read_arrays(path, _file(competition, layout.train_labels) if labelled else None)


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


def _layout(config: DataConfig) -> DataLayout:
    return load_competition(config.competition).file.data


def _file(competition: Competition, relative: Path | None) -> Path | None:
    return None if relative is None else competition.path(relative)


def _has_column(path: Path, name: str) -> bool:
    """Return whether a table has a column of that name; other files have no columns."""
    if path.suffix == ".parquet":
        return name in parquet_reader.read_names(path)
    if path.name.endswith((".csv", ".csv.gz", ".zip")):
        return name in csv_reader.read_header(path)
    return False


def _default(key: str) -> object:
    return DataConfig.model_fields[key].default


def _check_names(train: Path, test: Path, config: DataConfig) -> None:
    """Refuse wide files whose time steps differ, because they are matched by position."""
    names = step_names(train, config, labelled=True)
    others = step_names(test, config, labelled=False)
    if names is None or others is None or names == others:
        return
    pairs = enumerate(zip_longest(names, others), start=1)
    at, (wanted, found) = next((at, pair) for at, pair in pairs if len({*pair}) > 1)
    raise InputError(
        f"{test}: the time steps must be those of {train} in their order, but number {at} "
        f"is {found!r} instead of {wanted!r}"
    )
