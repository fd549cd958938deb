"""Make the bundled competition japanese-vowels from the .ts files of the UEA archive.

usage: python experiments/make_vowels.py TS_DIR      (the folder with JapaneseVowels_TRAIN.ts)
"""

import csv
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hbcomp.competitions.competition import SHIPPED
from hbcomp.data.foreign_readers import read_ts
from hbcomp.data.recordings import Recordings

FOLDER = SHIPPED / "japanese-vowels"
SEED = 0


def main(source: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(SEED)
    train, test = (read_ts(source / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST"))
    # The files are sorted by speaker, so their order would give the test labels away.
    write_long(FOLDER / "train.parquet", train, rng.permutation(len(train.signals)), first_id=0)
    order = rng.permutation(len(test.signals))
    write_long(FOLDER / "test.parquet", test, order, first_id=1000, has_labels=False)
    rows = [(1000 + row, f"speaker {test.labels[at]}") for row, at in enumerate(order)]
    write_csv(FOLDER / "truth.csv", rows)
    write_csv(FOLDER / "sample_submission.csv", [(row_id, "speaker 1") for row_id, _ in rows])
    for path in sorted(FOLDER.iterdir()):
        print(path, path.stat().st_size, "bytes")


def write_long(
    path: Path, rows: Recordings, order: np.ndarray, *, first_id: int, has_labels: bool = True
) -> None:
    signals = [rows.signals[at] for at in order]
    lengths = [signal.shape[1] for signal in signals]
    values = np.concatenate(signals, axis=1).astype(np.float32)
    columns = {
        "id": pa.array(np.repeat(np.arange(first_id, first_id + len(order)), lengths), pa.int32()),
        "step": pa.array(np.concatenate([np.arange(n) for n in lengths]), pa.int8()),
        **{f"c{place}": pa.array(channel) for place, channel in enumerate(values)},
    }
    if has_labels:
        texts = np.repeat([f"speaker {rows.labels[at]}" for at in order], lengths)
        columns["speaker"] = pa.array(texts)
    pq.write_table(
        pa.table(columns),
        path,
        compression="zstd",
        use_dictionary=["speaker", "id"],
        use_byte_stream_split=[name for name in columns if name.startswith("c")],
        store_schema=False,
    )


def write_csv(path: Path, rows: list[tuple[int, str]]) -> None:
    with path.open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["id", "speaker"])
        lines.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
