"""Kills and faults at the write points of a command, found by recording an undisturbed run.

Python reports every opening, renaming and deleting to its audit hooks, so a write point is such
an event under the command's folder: no list of them can go stale. SQLite writes silently; kills
after a delay and a limit on the size of files reach it.
"""

import csv
import json
import os
import re
import signal
import sqlite3
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from commands import Done, run_hbcomp
from safetensors.numpy import load_file

RANDOM_NAME = re.compile(r"[a-z0-9_]{8}\.partial")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
THERE = "SELECT 1 FROM sqlite_master WHERE name = 'trial_values'"
FINISHED = """SELECT number, state, value FROM trials LEFT JOIN trial_values USING (trial_id)
WHERE state IN ('COMPLETE', 'PRUNED')"""
DELETIONS = ("remove", "rmdir", "shutil.rmtree")
POINTS = ".points"  # where a recording run writes what it passed


@dataclass(frozen=True)
class Blow:
    """What happens at a write point: a signal to the process, or an error of this number.

    The point is named by what is done to which file, and by the how manieth time that is: how many
    points come before it is for the versions of other packages to decide. With `lasts` later
    writes fail, too, as on a full disk; deleting does not.
    """

    point: str
    nth: int = 1
    signal: int | None = None
    errno: int | None = None
    lasts: bool = False


def point_of(event: str, args: Sequence[object], root: str) -> str | None:
    """Return the name of a write point under `root`; None where an event is none."""
    if event == "open":
        path, _, flags = args
        if not isinstance(path, str | os.PathLike) or not int(flags) & WRITES:
            return None
        folder = -1
    elif event in CHANGES:
        path = args[1] if event == "os.rename" else args[0]
        folder = args[-1]  # a descriptor that the path is relative to, as within rmtree
    else:
        return None
    whole = str(_folder_of(folder) / os.fsdecode(path))
    name = whole.removeprefix(root + os.sep)
    if name in (whole, POINTS):
        return None
    return f"{event.removeprefix('os.')} {RANDOM_NAME.sub('*.partial', name)}"


def _folder_of(descriptor: object) -> Path:
    if descriptor in (-1, None):
        return Path.cwd()
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def listen(root: str, at_point: Callable[[int, str], None]) -> None:
    """Call `at_point(nth, name)` before every write point of this process.

    `nth` says how often a point of that name has come, this time included.
    """
    n_passed: Counter[str] = Counter()

    def hook(event: str, args: tuple[object, ...]) -> None:
        if name := point_of(event, args, root):
            n_passed[name] += 1
            at_point(n_passed[name], name)

    sys.addaudithook(hook)


def record(root: str) -> None:
    """Write down the write points that this process passes, each with the seconds until then."""
    points, start = os.open(Path(root) / POINTS, os.O_WRONLY | os.O_CREAT), time.perf_counter()

    def at_point(_: int, name: str) -> None:
        os.write(points, f"{time.perf_counter() - start} {name}\n".encode())

    listen(root, at_point)


def strike(root: str, blow: Blow) -> None:
    """Let the blow fall in this process."""
    has_fallen = False

    def at_point(nth: int, name: str) -> None:
        nonlocal has_fallen
        is_here = (name, nth) == (blow.point, blow.nth)
        is_later = has_fallen and blow.lasts and not name.startswith(DELETIONS)
        has_fallen = has_fallen or is_here
        if is_here and blow.signal:
            os.kill(os.getpid(), blow.signal)
        elif (is_here or is_later) and blow.errno:
            path = name.partition(" ")[2]
            raise OSError(blow.errno, os.strerror(blow.errno), path)

    listen(root, at_point)


def kill_after(seconds: float) -> None:
    """Kill this process after a delay, wherever it is then, be it in native code."""
    signal.setitimer(signal.ITIMER_REAL, seconds)  # nobody handles SIGALRM, so it kills


@dataclass(frozen=True)
class Job:
    """A command on tiny data, and how to prepare the process that runs it.

    `refusal` is how it refuses to do again what was done, if it does.
    """

    name: str
    words: Sequence[str]
    prepare: Callable[[], None]
    refusal: str | None = None


def call(job: Job, folder: Path, weather: Callable[[], None] | None = None) -> Done:
    """Run a job in its folder, in this weather."""
    return run_hbcomp(job.words, folder, prepare=partial(_prepared, job.prepare, weather))


def _prepared(prepare: Callable[[], None], weather: Callable[[], None] | None) -> None:
    prepare()
    if weather:
        weather()


def points(job: Job, folder: Path) -> list[tuple[float, str]]:
    """Return the write points of an undisturbed run, which must succeed, and their seconds."""
    done = call(job, folder, partial(record, str(folder)))
    assert done.returncode == 0, done.stderr
    lines = (folder / POINTS).read_text().splitlines()
    (folder / POINTS).unlink()
    return [(float(seconds), name) for seconds, _, name in (line.partition(" ") for line in lines)]


def assert_whole(folder: Path, before: Path | None = None) -> None:
    """Read every file that stands under its own name: each must be complete or as before."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and not (before and _are_equal(path, before / name)):
            _read(path)
    for fold in folder.glob("experiments/*/folds/[!.]*"):
        assert (fold / "result.npz").exists(), fold
        assert (fold / "model.safetensors").exists(), fold
        assert (fold / "history.csv").exists(), fold


def _are_equal(path: Path, other: Path) -> bool:
    return other.is_file() and path.read_bytes() == other.read_bytes()


def _read(path: Path) -> None:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name] is not None for name in arrays), path
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".toml":
        tomllib.loads(path.read_text())
    elif path.suffix == ".safetensors":
        load_file(path)
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>"), path
    elif path.suffix == ".csv":
        rows = path.read_bytes()
        assert rows.endswith(b"\n"), path


def outcome(folder: Path) -> dict[str, object]:
    """Return what two runs must agree in.

    That is the arrays of every prediction, the submissions, their rows in the ledger with how
    often each was sent, and how many trials every study finished.
    """
    found: dict[str, object] = {}
    for path in folder.glob("submissions/*.csv"):
        found[path.name] = _ledger(path) if path.name == "ledger.csv" else path.read_bytes()
    for path in folder.glob("experiments/*/predictions.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            found |= {f"{path.parent.name} {name}": arrays[name].tobytes() for name in arrays}
    return found | {"trials": len(trials(folder))}


def _ledger(path: Path) -> list[tuple[str, str, int]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sorted((row["sha256"], row["file"], len(row["sent"].split())) for row in rows)


def stored(folder: Path) -> dict[str, object]:
    """Return what is never to be done again: which folder every fold is, and finished trials."""
    folds = {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.glob("experiments/*/folds/[!.]*")
    }
    return folds | trials(folder)


def trials(folder: Path) -> dict[str, object]:
    """Return how every finished trial of the studies ended, from sound databases only."""
    found: dict[str, object] = {}
    for path in folder.glob("experiments/*/studies.db"):
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if database.execute(THERE).fetchone():
                found |= {f"trial {n}": ended for n, *ended in database.execute(FINISHED)}
    return found
