"""The bundled sample: real heartbeats in the competition's format.

`experiments/draw_sample.py` drew it; `bundled/ATTRIBUTION.md` names the source.
"""

from dataclasses import replace
from pathlib import Path

from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.reader import read_dataset

BUNDLED = Path(__file__).parent / "bundled"
TRAIN, TEST, TRUTH = BUNDLED / "train.parquet", BUNDLED / "test.parquet", BUNDLED / "truth.csv"


def load_sample() -> tuple[Dataset, Dataset]:
    """Return 4,000 labelled training rows and 1,000 test rows without labels.

    The labels of the test rows are in the file `TRUTH`, which only scores submissions; training and
    tuning must not read it.
    """
    config = DataConfig()
    train = read_dataset(TRAIN, config, labelled=True)
    test = read_dataset(TEST, config, labelled=False)
    # The path of the installation would say nothing.
    return replace(train, source="bundled train"), replace(test, source="bundled test")
