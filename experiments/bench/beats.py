"""Any number of beats to measure with, made from the bundled ones."""

from pathlib import Path

import numpy as np

from hbcomp.competitions.load import load_sample
from hbcomp.data.dataset import Dataset
from hbcomp.system.files import atomic_path

FADING = 1e-3  # each copy of the sample is this much smaller than the one before: no duplicates


def tiled_beats(n: int) -> Dataset:
    """Return `n` labelled beats with ids "0", "1", ...: the bundled ones, repeated and scaled."""
    sample, _ = load_sample()
    rows = np.arange(n)
    factors = 1 - FADING * (rows // sample.n_rows)
    signals = sample.signals[rows % sample.n_rows] * factors[:, None, None].astype(np.float32)
    labels = sample.known_labels[rows % sample.n_rows]
    return Dataset(np.array([str(row) for row in range(n)]), signals, labels, source="tiled sample")


def write_parquet(path: Path, dataset: Dataset) -> None:
    """Write labelled beats as a parquet file that `read_dataset` takes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    signals = pa.FixedSizeListArray.from_arrays(dataset.flat.ravel(), dataset.n_timepoints)
    columns = {
        "id": pa.array(dataset.ids.tolist()),
        "heartbeat_signals": signals,
        "label": pa.array(dataset.known_labels),
    }
    with atomic_path(path) as partial:
        pq.write_table(pa.table(columns), partial)
