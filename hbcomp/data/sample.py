"""The bundled sample: real heartbeats in the competition's format.

`experiments/draw_sample.py` drew it; `bundled/ATTRIBUTION.md` names the source.
"""

from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled"
TRAIN, TEST, TRUTH = BUNDLED / "train.parquet", BUNDLED / "test.parquet", BUNDLED / "truth.csv"
