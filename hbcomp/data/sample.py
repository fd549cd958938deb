"""The bundled sample: real beats in the competition's format, for trying things out offline.

Drawn by `experiments/draw_sample.py`; `bundled/ATTRIBUTION.md` says where the beats come from.
"""

from dataclasses import replace
from pathlib import Path

from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.reader import read_dataset

BUNDLED = Path(__file__).parent / "bundled"
TRAIN, TEST, TRUTH = BUNDLED / "train.parquet", BUNDLED / "test.parquet", BUNDLED / "truth.csv"


def load_sample() -> tuple[Dataset, Dataset]:
    """Return the bundled beats: 4,000 labelled ones for training and 1,000 without labels.

    The labels of the test beats lie in a file of their own, `TRUTH`, for scoring a finished
    submission; nothing that trains or tunes may look there.
    """
    config = DataConfig()
    train = read_dataset(TRAIN, config, labelled=True)
    test = read_dataset(TEST, config, labelled=False)
    # Named for what they are: the path of the installation says nothing.
    return replace(train, source="bundled train"), replace(test, source="bundled test")
