"""From files to validated beats and folds."""

from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.duplicates import Duplicates, check_pair, find_duplicates
from hbcomp.data.load import load_data
from hbcomp.data.reader import read_dataset
from hbcomp.data.sample import load_sample
from hbcomp.data.splits import Folds, FoldsConfig, make_folds
from hbcomp.data.synthetic import make_beats, write_competition_csv

__all__ = [
    "DataConfig",
    "Dataset",
    "Duplicates",
    "Folds",
    "FoldsConfig",
    "check_pair",
    "find_duplicates",
    "load_data",
    "load_sample",
    "make_beats",
    "make_folds",
    "read_dataset",
    "write_competition_csv",
]
