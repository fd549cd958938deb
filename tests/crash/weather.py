"""Kills and faults at the write points of a command, found by recording an undisturbed run.

Python reports every opening, renaming and deleting to its audit hooks, so a write point is such
an event under the command's folder: no list of them can go stale. Native writers (safetensors,
SQLite) are silent; kills after a delay reach those.
"""

import json
import os
import re
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from commands import Done, run_hbcomp
from safetensors.numpy import load_file

RANDOM_NAME = re.compile(r"[a-z0-9_]{8}\.partial")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
POINTS = ".points"  # where a recording run writes what it passed


@dataclass(frozen=True)
class Blow:
    """What happens at the n-th write point: a signal to the process, or an error of this number.

    With `lasts` later writes fail, too, as on a full disk; deleting does not.
    """

    n: int
    signal: int | None = None
    errno: int | None = None
    lasts: bool = False


def point_of(event: str, args: Sequence[object], root: str) -> str | None:
    """Return the name of a write point under `root`; None where an event is none."""
    if event == "open":
        path, _, flags = args
        if not isinstance(path, str | os.PathLike) or not int(flags) & WRITES:
            return None
    elif event in CHANGES:
        path = args[1] if event == "os.rename" else args[0]
    else:
        return None
    whole = str(Path.cwd() / os.fsdecode(path))
    name = whole.removeprefix(root + os.sep)
    if name in (whole, POINTS):
        return None
    return f"{event.removeprefix('os.')} {RANDOM_NAME.sub('*.partial', name)}"


def listen(root: str, at_point: Callable[[int, str], None]) -> None:
    """Call `at_point(number, name)` before every write point of this process, counted from 1."""
    n_passed = 0

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal n_passed
        if name := point_of(event, args, root):
            n_passed += 1
            at_point(n_passed, name)

    sys.addaudithook(hook)


def record(root: str) -> None:
    """Write down the write points that this process passes."""
    points = os.open(Path(root) / POINTS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    listen(root, lambda _, name: os.write(points, f"{name}\n".encode()))


def strike(root: str, blow: Blow) -> None:
    """Let the blow fall in this process."""

    def at_point(number: int, name: str) -> None:
        is_due = number == blow.n or (blow.lasts and number > blow.n)
        if is_due and blow.signal:
            os.kill(os.getpid(), blow.signal)
        elif is_due and blow.errno and (number == blow.n or not name.startswith(("rem", "rm"))):
            path = name.partition(" ")[2]
            raise OSError(blow.errno, os.strerror(blow.errno), path)

    listen(root, at_point)


def kill_after(seconds: float) -> None:
    """Kill this process after a delay, wherever it is then."""
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


@dataclass(frozen=True)
class Job:
    """A command on tiny data, and how to prepare the process that runs it."""

    name: str
    words: Sequence[str]
    prepare: Callable[[], None]


def call(job: Job, folder: Path, weather: Callable[[], None] | None = None) -> Done:
    """Run a job in its folder, in this weather."""
    return run_hbcomp(job.words, folder, prepare=partial(_prepared, job.prepare, weather))


def _prepared(prepare: Callable[[], None], weather: Callable[[], None] | None) -> None:
    prepare()
    if weather:
        weather()


def points(job: Job, folder: Path) -> list[str]:
    """Return the write points of an undisturbed run, which must succeed."""
    done = call(job, folder, partial(record, str(folder)))
    assert done.returncode == 0, done.stderr
    passed = (folder / POINTS).read_text().splitlines()
    (folder / POINTS).unlink()
    return passed


def assert_whole(folder: Path) -> None:
    """Read every file that stands under its own name: each must be complete."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            _read(path)
    for fold in folder.glob("experiments/*/folds/[!.]*"):
        assert (fold / "result.npz").exists(), fold
        assert (fold / "model.safetensors").exists(), fold
        assert (fold / "history.csv").exists(), fold


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
    """Return what two runs must agree in: the arrays of every prediction, and the submissions."""
    found: dict[str, object] = {
        path.name: path.read_bytes()
        for path in folder.glob("submissions/*.csv")
        if path.name != "ledger.csv"  # which holds the time
    }
    for path in folder.glob("experiments/*/predictions.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            found |= {f"{path.parent.name} {name}": arrays[name].tobytes() for name in arrays}
    return found


def stored(folder: Path) -> dict[str, tuple[int, int]]:
    """Return which folder every stored fold is: another one was trained again."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.glob("experiments/*/folds/[!.]*")
    }
