"""Reading a CSV file against the naive way, each in a fresh process.

Run as a program, `python -m bench.reading naive FILE`, it is such a process. So every reader
imports what it needs inside: the memory of its imports is part of what is measured.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.children import mib, run_python
from bench.timing import Spread, ratio, spread_cells

if TYPE_CHECKING:
    from hbcomp.reporting.pages import Table

N_ROWS = 20_000  # 54 MB of text: about two seconds the naive way on 2 cores (measured)
N_ROUNDS = 3
NAIVE, OURS, CACHED = "pandas and split", "ours", "ours, cached"

Read = Callable[[Path], tuple[np.ndarray, np.ndarray]]


def naive_reader() -> Read:
    """Return the reader that people write: every row's text split into Python floats."""
    import pandas as pd

    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        frame = pd.read_csv(path)
        texts = frame["heartbeat_signals"]
        rows = texts.apply(lambda text: np.array(text.split(","), dtype=float))
        return np.stack(rows.to_list()), frame["label"].to_numpy()

    return read


def our_reader() -> Read:
    """Return hbcomp's reader; where the cache folder knows the file, it is not parsed again."""
    from hbcomp.competitions.competition import load_competition
    from hbcomp.data.reader import read_dataset

    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        dataset = read_dataset(path, load_competition().file.data, labelled=True)
        return dataset.flat, dataset.known_labels

    return read


READERS: Mapping[str, Callable[[], Read]] = {"naive": naive_reader, "ours": our_reader}


@dataclass(frozen=True)
class Reading:
    """Seconds of one read, and the process's peak memory after its imports and in the end."""

    seconds: float
    imports_mib: float
    peak_mib: float
    n_rows: int


def read_in_child(reader: str, path: Path, cache: Path) -> Reading:
    """Return what reading the file costs in a fresh process with that cache folder."""
    words = ["-m", "bench.reading", reader, str(path)]
    places = os.pathsep.join(filter(None, sys.path))  # it runs in another folder
    done = run_python(words, path.parent, {"HBCOMP_CACHE": str(cache), "PYTHONPATH": places})
    return Reading(**json.loads(done.stdout))


def measure() -> dict[str, Any]:
    """Return seconds, rows per second and memory of the naive way, ours, and a second read."""
    from bench.beats import tiled_beats
    from hbcomp.data.synthetic import write_competition_csv

    with tempfile.TemporaryDirectory(prefix="hbcomp-bench-") as name:
        path = Path(name) / "beats.csv"
        write_competition_csv(path, tiled_beats(N_ROWS))
        n_bytes = path.stat().st_size
        readings = _read_all(path)
    return {"n_rows": N_ROWS, "file_mb": round(n_bytes / 1e6, 1), **_summary(readings)}


def _read_all(path: Path) -> dict[str, list[Reading]]:
    """Return the readings of every way, in turn; each round begins with an empty cache."""
    ways = {NAIVE: "naive", OURS: "ours", CACHED: "ours"}
    readings: dict[str, list[Reading]] = {way: [] for way in ways}
    for number in range(N_ROUNDS):
        cache = path.parent / f"cache-{number}"
        for way, reader in ways.items():
            readings[way].append(read_in_child(reader, path, cache))
    return readings


def _summary(readings: Mapping[str, list[Reading]]) -> dict[str, Any]:
    ours = [each.seconds for each in readings[OURS]]
    return {
        way: {
            "seconds": Spread.of([each.seconds for each in of_way]).to_json(),
            "rows_per_second": Spread.of([each.n_rows / each.seconds for each in of_way]).to_json(),
            "times_ours": ratio([each.seconds for each in of_way], ours).to_json(),
            "peak_mib": Spread.of([each.peak_mib for each in of_way]).to_json(),
            "imports_mib": Spread.of([each.imports_mib for each in of_way]).to_json(),
        }
        for way, of_way in readings.items()
    }


def tables(numbers: dict[str, Any]) -> "list[Table]":
    """Return the numbers for people."""
    from hbcomp.reporting.pages import Table

    kinds = ("seconds", "times_ours")
    rows = [
        [
            way,
            *(cell for kind in kinds for cell in spread_cells(numbers[way][kind])),
            numbers[way]["peak_mib"]["median"],
            numbers[way]["imports_mib"]["median"],
        ]
        for way in (NAIVE, OURS, CACHED)
    ]
    header = ["reading", "seconds", "low", "high", "times ours", "low", "high"]
    title = f"reading {numbers['n_rows']:,} rows of CSV, {numbers['file_mb']} MB"
    return [Table(title, [*header, "peak MiB", "of it imports"], rows)]


def main() -> None:
    """Read a file with one of the readers and write a `Reading` as JSON."""
    name, path = sys.argv[1:]
    read = READERS[name]()
    imports_mib = mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    start = time.perf_counter()
    signals, _ = read(Path(path))
    seconds = time.perf_counter() - start
    peak_mib = mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    reading = {"imports_mib": imports_mib, "peak_mib": peak_mib, "n_rows": len(signals)}
    sys.stdout.write(json.dumps({"seconds": seconds, **reading}) + "\n")


if __name__ == "__main__":
    main()
