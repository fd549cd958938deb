"""Draw the bundled sample from the full training file: same classes in the same proportions.

usage: python experiments/draw_sample.py DATA_DIR      (the folder with train.parquet)
"""

import csv
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.model_selection import train_test_split

from hbcomp.competitions.competition import load_competition
from hbcomp.data.dataset import Dataset
from hbcomp.data.duplicates import find_duplicates
from hbcomp.data.reader import read_dataset
from hbcomp.data.sample import TEST, TRAIN, TRUTH
from hbcomp.system.files import atomic_path

N_TRAIN, N_TEST, SEED = 4000, 1000, 0


def main(folder: Path) -> None:
    full = read_dataset(folder / "train.parquet", load_competition().file.data, labelled=True)
    train_idx, test_idx = draw(full)
    train, test = part(full, train_idx), part(full, test_idx)
    found = find_duplicates(train, test)
    if found.n_repeated or found.n_in_train or found.n_shared_ids:
        raise SystemExit(f"the draw has duplicates, take another seed: {found}")
    write_parquet(TRAIN, train, with_labels=True)
    write_parquet(TEST, test, with_labels=False)
    with atomic_path(TRUTH) as partial, partial.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["id", "label"])
        rows.writerows(zip(test.ids.tolist(), test.known_labels.tolist(), strict=True))
    for path in (TRAIN, TEST, TRUTH):
        print(path, path.stat().st_size, "bytes")


def draw(full: Dataset) -> tuple[np.ndarray, np.ndarray]:
    rows, labels = np.arange(full.n_rows), full.known_labels
    both, _ = train_test_split(
        rows, train_size=N_TRAIN + N_TEST, stratify=labels, random_state=SEED
    )
    train_idx, test_idx = train_test_split(
        both, train_size=N_TRAIN, stratify=labels[both], random_state=SEED
    )
    return np.sort(train_idx), np.sort(test_idx)


def part(full: Dataset, idx: np.ndarray) -> Dataset:
    return Dataset(full.ids[idx], full.signals[idx], full.known_labels[idx], source=full.source)


def write_parquet(path: Path, dataset: Dataset, *, with_labels: bool) -> None:
    signals = pa.FixedSizeListArray.from_arrays(dataset.flat.ravel(), dataset.n_timepoints)
    columns = {"id": pa.array(dataset.ids.astype(np.int64)), "heartbeat_signals": signals}
    if with_labels:
        columns["label"] = pa.array(dataset.known_labels.astype(np.int8))
    with atomic_path(path) as partial:
        pq.write_table(pa.table(columns), partial, compression="zstd", compression_level=19)


main(Path(sys.argv[1]))
