"""The one way from a configuration to beats: the named files, or the bundled sample."""

from dataclasses import dataclass

from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.duplicates import check_pair
from hbcomp.data.reader import read_dataset
from hbcomp.data.sample import load_sample


@dataclass(frozen=True, eq=False)
class Data:
    """A labelled training set and, where there is one, the test set that goes with it."""

    train: Dataset
    test: Dataset | None = None

    def __post_init__(self) -> None:
        _ = self.train.known_labels
        if self.test is not None:
            check_pair(self.train, self.test)


def load_data(config: DataConfig) -> Data:
    """Return the data of the named files, or the bundled sample where none is named."""
    if config.train is None:
        return Data(*load_sample())
    train = read_dataset(config.train, config, labelled=True)
    if config.test is None:
        return Data(train)
    return Data(train, read_dataset(config.test, config, labelled=False))
