"""The data of a configuration: its files, or the bundled sample."""

from itertools import zip_longest
from pathlib import Path

from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.duplicates import check_pair
from hbcomp.data.reader import read_dataset, step_names
from hbcomp.data.sample import load_sample
from hbcomp.system.errors import InputError


def load_data(config: DataConfig) -> tuple[Dataset, Dataset | None]:
    """Return the train and the test rows of the named files, or the bundled sample without any."""
    if config.train is None:
        ignored = [key for key in DataConfig.model_fields if getattr(config, key) != _default(key)]
        if ignored:
            raise InputError(f"the bundled sample would ignore data.{', data.'.join(ignored)}")
        return load_sample()
    train = read_dataset(config.train, config, labelled=True)
    if config.test is None:
        return train, None
    test = read_dataset(config.test, config, labelled=False)
    _check_names(config.train, config.test, config)
    check_pair(train, test)
    return train, test


def _default(key: str) -> object:
    return DataConfig.model_fields[key].default


def _check_names(train: Path, test: Path, config: DataConfig) -> None:
    """Refuse wide files whose sample columns differ: they are matched by position."""
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
