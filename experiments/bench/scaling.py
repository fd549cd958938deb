"""How time and memory of the whole main job grow with rows and with folds."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.beats import tiled_beats, write_parquet
from bench.children import run_python
from bench.timing import power_law, shown, significant
from hbcomp.reporting.pages import Table
from hbcomp.system.command import console

ROWS = (10_000, 30_000, 100_000)
FOLDS = (2, 4, 8)
ROWS_FOR_FOLDS = ROWS[0]
ROWS_TO_START = 500  # what such a job takes is start-up: imports, report, pictures
N_TIMEPOINTS = 205
# One epoch of a net so small that rows, not the net, are what is measured.
SETTINGS = (
    "net.widths=[8,8]",
    "net.strides=[2,2]",
    "net.hidden=16",
    "train.n_epochs=1",
    "train.batch_size=256",
    "report.n_scored_epochs=1",
    "compute.n_threads=1",
    "augment.scale=0.0",
    "augment.noise=0.0",
)
# Phases that cost the same for any number of rows, drawing nearly so; their noise of a second would
# hide what 10,000 rows cost.
FIXED_PHASES = {"import", "probe", "compile", "draw"}


@dataclass(frozen=True)
class Job:
    """What a cross-validation took: from start to end, in phases that grow, and at its peak."""

    seconds: float
    growing_seconds: float
    peak_mib: float

    def to_json(self) -> dict[str, float]:
        """Return the three numbers under their names."""
        return {name: significant(value) for name, value in asdict(self).items()}


def measure() -> dict[str, Any]:
    """Return seconds and peak memory of cross-validations of several sizes, and their exponents."""
    with tempfile.TemporaryDirectory(prefix="hbcomp-bench-") as name:
        folder = Path(name)
        start = run_job(folder, ROWS_TO_START, 2)
        of_rows = {n: run_job(folder, n, 2) for n in ROWS}
        of_folds = {n: run_job(folder, ROWS_FOR_FOLDS, n) for n in FOLDS if n != 2}
    of_folds = {2: of_rows[ROWS_FOR_FOLDS], **of_folds}
    return {
        "start_up": start.to_json(),
        "rows": {str(n): job.to_json() for n, job in of_rows.items()},
        "folds": {str(n): job.to_json() for n, job in of_folds.items()},
        "exponent_of_rows": _exponent(of_rows, start),
        # f folds train on f - 1 times the rows.
        "exponent_of_trained_rows": _exponent({n - 1: of_folds[n] for n in FOLDS}, start),
        "memory_over_data": {
            str(n): significant((job.peak_mib - start.peak_mib) / data_mib(n))
            for n, job in of_rows.items()
        },
    }


def run_job(folder: Path, n_rows: int, n_folds: int) -> Job:
    """Return what `hbcomp cv` takes on `n_rows` beats in a process of its own."""
    console.print(f"scaling: {n_rows:,} rows, {n_folds} folds")
    data = folder / f"{n_rows}.parquet"
    if not data.exists():
        write_parquet(data, tiled_beats(n_rows))
    words = ["-m", "hbcomp.cv", "quickstart", "--train", data.name, "--name", f"{n_rows}-{n_folds}"]
    words += [
        "--profile",
        "--jobs",
        "1",
    ]  # a choice that changes with the size would bend the curve
    for setting in (*SETTINGS, f"folds.n_folds={n_folds}"):
        words += ["--set", setting]
    done = run_python(words, folder, {"HBCOMP_CACHE": str(folder / "cache")})
    phases: dict[str, float] = json.loads(done.stdout.splitlines()[-1])["seconds_by_phase"]
    growing = sum(seconds for name, seconds in phases.items() if name not in FIXED_PHASES)
    return Job(done.seconds, growing, done.peak_mib)


def data_mib(n_rows: int) -> float:
    """Return the size of the signals in memory: float32."""
    return n_rows * N_TIMEPOINTS * 4 / 2**20


def _exponent(jobs: Mapping[int, Job], start: Job) -> float | None:
    """Return the exponent of the time beyond start-up; None where that is not positive."""
    sizes = [float(size) for size in jobs]
    seconds = [job.growing_seconds - start.growing_seconds for job in jobs.values()]
    exponent = power_law(sizes, seconds)
    return None if exponent is None else significant(exponent)


def tables(numbers: dict[str, Any]) -> list[Table]:
    """Return the numbers for people."""
    jobs = {f"{ROWS_TO_START:,} rows, 2 folds (start-up)": numbers["start_up"]}
    jobs |= {f"{int(n):,} rows, 2 folds": costs for n, costs in numbers["rows"].items()}
    jobs |= {
        f"{ROWS_FOR_FOLDS:,} rows, {n} folds": costs
        for n, costs in numbers["folds"].items()
        if n != "2"
    }
    kinds = ("seconds", "growing_seconds", "peak_mib")
    rows = [[name, *(shown(job[kind]) for kind in kinds)] for name, job in jobs.items()]
    title = (
        f"scaling of hbcomp cv: seconds beyond start-up grow with rows to the power "
        f"{shown(numbers['exponent_of_rows'])}, with trained rows to the power "
        f"{shown(numbers['exponent_of_trained_rows'])}; memory beyond start-up is "
        f"{shown(numbers['memory_over_data'][str(ROWS[-1])])} times the signals"
    )
    return [Table(title, ["job", "seconds", "that grow", "peak MiB"], rows)]
