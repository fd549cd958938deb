"""The heartbeat data set, built from the open records of the MIT-BIH Arrhythmia Database.

    pip install "hbcomp[replica]"
    python experiments/replica/build.py MITDB_FOLDER --to data

Writes train.parquet (100,000 rows), testA.parquet and testB.parquet (20,000 each), and their labels
as testA-labels.csv and testB-labels.csv, for `hbcomp score --truth`. The rows have the form and the
numbers of rows per class of the competition's file; the cut is this script's own, with a public
seed. MITDB_FOLDER has the 48 records as PhysioNet has them (100.hea, 100.dat, 100.atr, ...).

The competition's own rows come from the same records. Who trains on these rows and submits to its
leaderboard trains on test rows: this data set is for development, and for repeating our numbers.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Class 0 are normal beats and bundle branch blocks, 1 supraventricular, 2 ventricular, 3 paced and
# unclassifiable ones. Fusion beats (F) are left out, as the competition did.
CLASS_OF_SYMBOL = dict.fromkeys("NLRej", 0) | dict.fromkeys("AaJS", 1)
CLASS_OF_SYMBOL |= dict.fromkeys("VE", 2) | dict.fromkeys("/fQ", 3)
BEATS = frozenset(CLASS_OF_SYMBOL) | {"F"}
N_OF_CLASS = (90_000, 5_000, 20_000, 25_000)
PARTS = {"train": 100_000, "testA": 20_000, "testB": 20_000}
EVERY = 3  # samples of 360 Hz, so 120 Hz
OVERHANG = 0.2  # of the interval after the next beat, which a row also shows
LENGTH = 187  # time steps, before the inserted ones
INSERTED = np.arange(11, 199, 11)  # columns of the result that are the mean of their neighbours
N_NEIGHBOURS = 5  # of SMOTE
SEED = 531883  # the competition's number

Rows = np.ndarray


def as_row(segment: np.ndarray) -> np.ndarray:
    """Return the 205 values of a segment: scaled, cut or padded, filled in, compressed."""
    scaled = (segment - segment.min()) / (segment.max() - segment.min())
    padded = np.zeros(LENGTH)
    padded[: len(scaled[:LENGTH])] = scaled[:LENGTH]
    row = np.insert(padded, INSERTED - np.arange(len(INSERTED)), np.nan)
    row[INSERTED] = (row[INSERTED - 1] + row[INSERTED + 1]) / 2
    return np.log2(1 + row)


def beats_of(
    samples: np.ndarray, positions: np.ndarray, symbols: list[str]
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield a row and a class for each beat that two others follow.

    A row goes from its beat to the next one and 20 % of the interval after that further. Segments
    without any change of the signal are left out, because they cannot be scaled.
    """
    is_beat = [symbol in BEATS for symbol in symbols]
    positions, names = positions[is_beat], [name for name in symbols if name in BEATS]
    # The last two beats have no two others after them.
    for start, second, third, name in zip(
        positions, positions[1:], positions[2:], names, strict=False
    ):
        segment = samples[start : second + round(OVERHANG * (third - second)) : EVERY]
        if name in CLASS_OF_SYMBOL and len(segment) and np.ptp(segment) > 0:
            yield as_row(segment), CLASS_OF_SYMBOL[name]


def read_records(folder: Path) -> tuple[Rows, np.ndarray]:
    """Return the rows and classes of all records in a folder, from their first channel."""
    import wfdb

    names = sorted(path.with_suffix("") for path in folder.glob("*.hea"))
    names = [name for name in names if name.with_suffix(".atr").exists()]
    if not names:
        raise SystemExit(f"{folder}: no record with annotations (NAME.hea, NAME.dat, NAME.atr)")
    found = []
    for name in names:
        samples = wfdb.rdrecord(str(name), channels=[0]).p_signal[:, 0]
        annotations = wfdb.rdann(str(name), "atr")
        found += beats_of(samples, annotations.sample, annotations.symbol)
    rows, classes = zip(*found, strict=True)
    return np.stack(rows), np.array(classes)


def brought_to(
    counts: tuple[int, ...], rows: Rows, classes: np.ndarray, rng: np.random.Generator
) -> tuple[Rows, np.ndarray]:
    """Return so many rows of each class: some where there are more, topped up by SMOTE where fewer.

    SMOTE (Chawla et al. 2002, JAIR 16:321-357) adds rows between a row and one of its 5 nearest of
    the same class.
    """
    from imblearn.over_sampling import SMOTE

    kept = [
        rng.permutation(np.flatnonzero(classes == label))[:count]
        for label, count in enumerate(counts)
    ]
    if short := [label for label, some in enumerate(kept) if len(some) <= N_NEIGHBOURS]:
        raise SystemExit(f"classes {short} have too few beats for SMOTE, which needs more than 5")
    chosen = np.concatenate(kept)
    smote = SMOTE(
        sampling_strategy=dict(enumerate(counts)),
        k_neighbors=N_NEIGHBOURS,
        random_state=int(rng.integers(2**31)),
    )
    return smote.fit_resample(rows[chosen], classes[chosen])


def cut(
    rows: Rows, classes: np.ndarray, parts: dict[str, int], rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    """Return the rows in random order as tables of these sizes, numbered throughout."""
    order = rng.permutation(len(rows))[: sum(parts.values())]
    signals = rows[order].astype(np.float32)
    table = pd.DataFrame(
        {
            "id": np.arange(len(order)),
            "heartbeat_signals": list(signals),
            "label": classes[order].astype(np.int8),
        }
    )
    ends = np.cumsum(list(parts.values()))
    starts = ends - list(parts.values())
    return {
        name: table.iloc[start:end] for name, start, end in zip(parts, starts, ends, strict=True)
    }


def write(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write the labelled rows, and of each test file the rows and the labels by themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        if name == "train":
            table.to_parquet(folder / "train.parquet", index=False)
        else:
            table.drop(columns="label").to_parquet(folder / f"{name}.parquet", index=False)
            table[["id", "label"]].to_csv(folder / f"{name}-labels.csv", index=False)


def build(
    folder: Path,
    counts: tuple[int, ...] = N_OF_CLASS,
    parts: dict[str, int] | None = None,
    seed: int = SEED,
) -> dict[str, pd.DataFrame]:
    """Return the tables that the records in a folder give; the same seed, the same rows."""
    rng = np.random.default_rng(seed)
    rows, classes = brought_to(counts, *read_records(folder), rng)
    return cut(rows, classes, parts or PARTS, rng)


def main() -> None:
    """Read the records, and write the data set."""
    parser: Any = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", type=Path, metavar="MITDB_FOLDER")
    parser.add_argument("--to", type=Path, default=Path("data"))
    options = parser.parse_args()
    tables = build(options.records)
    write(tables, options.to)
    for name, table in tables.items():
        print(f"{options.to / name}.parquet: {len(table):,} rows")
    print("These rows share their records with the competition's: do not train on them to submit.")


if __name__ == "__main__":
    main()
