"""How many folds an hour a Dask cluster trains: a calculation, and a check of it on this machine.

    python experiments/scale.py           # the table for 1 to 64 workers
    python experiments/scale.py --check   # against cv with 1, 2 and 4 workers here

A run begins on the caller (import, reading, connecting), sends its rows to every worker, trains its
folds on whichever worker is free, stores each as it arrives, one after the other, and ends on the
caller (rules, report, pictures). Dask sends rows through the scheduler to one worker, and in each
round every worker that has them passes them on to two others. A check needs hbcomp[cluster], and
ends with a line of JSON.
"""

import heapq
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

WORKERS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Costs:
    """What a run costs, in seconds, bytes, and bytes a second."""

    begin: float  # on the caller, before the first byte is sent
    rows: float  # bytes that every worker is sent
    bandwidth: float  # of one machine's network, or of all copies together within one machine
    first: float  # more for the first fold of a worker, which imports torch
    fold: float  # on a core of its own
    fold_bytes: float  # that come back
    store: float  # of one fold, on the caller
    end: float  # on the caller, after the last fold
    n_cores: int | None = None  # that all workers share; None if each has its own machine


# 10 folds of best-cpu-resnet on 100,000 rows of CSV, one thread a net, two at once on the two cores
# of an idle AMD EPYC; a network of 1 Gbit/s is assumed, the rest is measured.
MEASURED = Costs(
    begin=10,
    rows=98.4e6,
    bandwidth=1.1e8,
    first=1.6,
    fold=235,
    fold_bytes=2.35e6,
    store=0.14,
    end=5,
)


def copies(n_workers: int, *, is_one_machine: bool) -> int:
    """Return how many times the rows pass a network, one after the other."""
    if is_one_machine:
        return 1 + n_workers
    rounds, having = 0, 1
    while having < n_workers:
        rounds, having = rounds + 1, 3 * having
    return 2 + 2 * rounds


def seconds(costs: Costs, n_folds: int, n_workers: int) -> float:
    """Return the duration of a whole run, whose folds go to the worker that is free first."""
    n_copies = copies(n_workers, is_one_machine=costs.n_cores is not None)
    sent = costs.begin + n_copies * costs.rows / costs.bandwidth
    slower = max(1.0, min(n_workers, n_folds) / (costs.n_cores or math.inf))
    free = [sent + costs.first * slower] * n_workers
    stored = sent
    for _ in range(n_folds):  # all alike, so they end in the order in which they begin
        done = heapq.heappop(free) + costs.fold * slower
        heapq.heappush(free, done)
        stored = max(stored, done + costs.fold_bytes / costs.bandwidth) + costs.store
    return stored + costs.end


def print_table(costs: Costs, numbers_of_folds: tuple[int, ...]) -> None:
    for n_folds in numbers_of_folds:
        alone = seconds(costs, n_folds, 1)
        print(f"{n_folds} folds\nworkers  minutes  folds an hour  efficiency")
        for n in WORKERS:
            took = seconds(costs, n_folds, n)
            share = alone / (n * took)
            print(f"{n:7}  {took / 60:7.1f}  {3600 * n_folds / took:13,.0f}  {share:10.0%}")


def local_cluster(n_workers: int) -> Any:
    from distributed import LocalCluster

    return LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0")


def import_training() -> float:
    start = time.perf_counter()
    import hbcomp.crossval.fold  # noqa: F401

    return time.perf_counter() - start


N_FOLDS = 8
RUN = [sys.executable, "-m", "hbcomp", "cv", "--set", f"folds.n_folds={N_FOLDS}"]
RUN += ["--set", "train.n_epochs=5", "--set", "compute.n_threads=1", "--json"]


def run_here(folder: str, name: str, *options: str) -> tuple[float, dict[str, float], int]:
    """Run eight folds of the bundled rows; return seconds, those by phase, and bytes of a fold."""
    start = time.perf_counter()
    subprocess.run([*RUN, "--name", name, *options], cwd=folder, check=True, capture_output=True)
    took = time.perf_counter() - start
    run = Path(folder, "experiments", name)
    report = json.loads((run / "report.json").read_text())
    n_bytes = sum(each.stat().st_size for each in (run / "folds" / "0-0").iterdir())
    return took, report["seconds_by_phase"], n_bytes


def check() -> dict[str, Any]:
    """Return the calculated and measured seconds of runs with 1, 2 and 4 workers, and with jobs.

    The costs are those of the run with one worker.
    """
    from distributed import Client

    found: dict[str, Any] = {"jobs": {}, "measured": {}, "calculated": {}}
    with tempfile.TemporaryDirectory() as folder:
        for n in (1, 2):
            found["jobs"][n] = run_here(folder, f"jobs-{n}", "--jobs", str(n))[0]
        for n in (1, 2, 4):
            with local_cluster(n) as cluster, Client(cluster) as client:
                address = cluster.scheduler_address
                first = max(client.run(import_training).values()) if n == 1 else 0
                took, phase, n_bytes = run_here(folder, f"on-{n}", "--cluster", address)
            found["measured"][n] = took
            if n == 1:
                in_fold = ("compile", "train", "validate", "predict")
                fold = sum(phase[name] for name in in_fold) / N_FOLDS
                end = phase["decide"] + phase["draw"]
                store = phase["write"] / N_FOLDS
                begin = took - N_FOLDS * (fold + store) - end - phase["transfer"]
                rows = 4000 * 205 * 4.0
                bandwidth = 2 * rows / max(phase["transfer"], 1e-3)
                costs = Costs(begin, rows, bandwidth, first, fold, n_bytes, store, end, n_cores=2)
            found["calculated"][n] = seconds(replace(costs, first=first), N_FOLDS, n)
        found["costs"] = asdict(costs)
        names = [f"jobs-{n}" for n in (1, 2)] + [f"on-{n}" for n in (1, 2, 4)]
        files = [Path(folder, "submissions", f"{name}.csv").read_bytes() for name in names]
        found["same_bytes"] = len(set(files)) == 1
    return found


if __name__ == "__main__":
    if "--check" in sys.argv:
        print(json.dumps(check()))
    else:
        print_table(MEASURED, (10, 320))
