"""The folder of an experiment: its files, its name, and the lock of who writes to it.

experiments/<name>/config.toml         the configuration of a run
experiments/<name>/run.toml            what its folds were trained with (`resume`)
experiments/<name>/folds/<seed>-<fold> one folder for each finished fold (`stored_folds`);
                                       <seed>-all is a net trained on everything
experiments/<name>/predictions.npz     and oof.csv, test.csv, report.json, report.html, pictures/
experiments/<name>/pseudo.csv          the pseudo-labelled rows of every fold's net
experiments/<name>/refit.json          and pseudo-all.csv: of the nets trained on everything
experiments/<name>/manifest.json       the sha256 of all these, written last; each fold has one
experiments/<name>/tracking.json       what trackers have of the run, which is not among these

A file or folder that exists under its own name is complete.
"""

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from hbcomp.experiment import ROOT, check_name, manifest
from hbcomp.experiment.predictions import Fold
from hbcomp.system.command import console
from hbcomp.system.errors import InputError
from hbcomp.system.files import sweep, take_lock, write_text

# How a config.toml begins that `hbcomp tune` wrote.
TUNED = "# Trial"
# What a run's manifest covers, if it is there. The files of a fold are covered by a manifest of
# its own, which is in the run's. Not run.lock, studies.db, tuning/, space.toml, and what a person
# or a later command adds.
COVERED = (
    *("config.toml", "run.toml", "predictions.npz", "oof.csv", "test.csv", "report.json"),
    *("report.html", "pseudo.csv", "pseudo-all.csv", "refit.json", "recipe.json"),
    *("pictures/[!.]*.png", f"folds/[!.]*/{manifest.NAME}"),
)
LATER = "pictures/threshold-study.png"  # written by `hbcomp thresholds`, again and again


class _File:
    """A file or a folder of an experiment, by its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: "RunFolder", _: object) -> Path:
        return run.path / self._name


@dataclass(frozen=True)
class RunFolder:
    """The folder of one experiment and the files in it."""

    path: Path

    config_file = _File("config.toml")  # the configuration
    run_file = _File("run.toml")  # what the stored folds were trained with
    folds_folder = _File("folds")  # the parent of the stored folds
    predictions_file = _File("predictions.npz")  # the assembled probabilities
    report_file = _File("report.json")
    pictures_folder = _File("pictures")  # the pictures of the report, beside its page
    mistakes_file = _File("mistakes.html")  # the page of `hbcomp mistakes`
    label_issues_file = _File("label_issues.csv")  # the label issues that it lists
    recipe_file = _File("recipe.json")  # how a blend combines its base models
    refit_file = _File("refit.json")  # the report of nets that were trained on everything
    tracking_file = _File("tracking.json")  # what trackers have of it
    manifest_file = _File(manifest.NAME)  # the hashes of all these, written last

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.path.name

    def fold_folder(self, seed: int, fold: Fold) -> Path:
        """Return the folder of a finished fold, or of a net that was trained on everything."""
        return self.folds_folder / f"{seed}-{fold}"

    def is_done(self, seed: int, fold: Fold) -> bool:
        """Return whether that fold is stored."""
        return self.fold_folder(seed, fold).is_dir()

    def discard_outputs(self) -> None:
        """Delete the manifest and all outputs, and what `hbcomp mistakes` found in them.

        The report is deleted first: without it nothing counts as finished.
        """
        self.discard_manifest()
        for name in ("report.json", "report.html", "predictions.npz", "oof.csv", "test.csv"):
            (self.path / name).unlink(missing_ok=True)
        self.mistakes_file.unlink(missing_ok=True)
        self.label_issues_file.unlink(missing_ok=True)

    def covered_files(self) -> list[str]:
        """Return the files that the manifest covers, relative to the folder."""
        found = {path for pattern in COVERED for path in self.path.glob(pattern)}
        return sorted({path.relative_to(self.path).as_posix() for path in found} - {LATER})

    def write_manifest(self) -> None:
        """Write the hashes of all outputs, after the last of them."""
        manifest.write_manifest(self.path, self.covered_files())

    @property
    def is_tuned(self) -> bool:
        """Whether `hbcomp tune` wrote its configuration, chosen by the rows it was given."""
        return self.config_file.exists() and self.config_file.read_text(
            encoding="utf-8", errors="replace"
        ).startswith(TUNED)

    def discard_manifest(self) -> None:
        """Delete the manifest before files change: without one a run is unfinished, not damaged."""
        self.manifest_file.unlink(missing_ok=True)

    def stored_folds(self) -> list[Path]:
        """Return the folders of the finished folds."""
        return sorted(self.folds_folder.glob("[!.]*"))


def find_run(name: str) -> RunFolder:
    """Return the folder of the experiment of that name, `NAME` or `experiments/NAME`.

    A name under which nothing could be kept or submitted is refused here, before any work.
    """
    short = name.removeprefix(f"{ROOT}/").rstrip("/")
    check_name(short)
    run = RunFolder(ROOT / short)
    if run.path.is_file():
        raise InputError(f"{run.path} is a file; an experiment needs a folder, choose another name")
    return run


def known_runs() -> list[str]:
    """Return the names of the experiments under the working directory."""
    return sorted(path.parent.name for path in ROOT.glob("*/config.toml"))


def finished_runs() -> list[str]:
    """Return the names of the finished experiments under the working directory."""
    return sorted(path.parent.name for path in ROOT.glob("*/report.json"))


@contextmanager
def locked(run: RunFolder, *, seconds: float = 0.0, is_shared: bool = False) -> Iterator[None]:
    """Hold the run for this process alone; one that another process holds is an InputError.

    So is one of which other processes train folds (`locked_folds`), unless `is_shared` says that
    this one leaves those alone. The error names the holder; one that holds the run is waited for
    so many seconds. Files that a killed process left half-written are swept away.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    lock = take_lock(run.path / "run.lock", 0.0)
    if lock is None and seconds:
        console.print(f"{run.name}: waiting{_holder(run.path / 'run')}")
        lock = take_lock(run.path / "run.lock", seconds)
    if lock is None:
        holder = _holder(run.path / "run")
        raise InputError(f"{run.path}: another process is working on this run{holder}")
    try:
        if trained := _folds_in_training(run):
            if not is_shared:
                raise InputError(f"{run.path}: folds are being trained: {'; '.join(trained)}")
        else:
            sweep(run.path)
            for partial in run.folds_folder.glob(".*.partial"):
                shutil.rmtree(partial)
        with _named(run.path / "run"):
            yield
    finally:
        lock.release()


@contextmanager
def locked_folds(
    run: RunFolder, keys: Sequence[tuple[int, Fold]]
) -> Iterator[list[tuple[int, Fold]]]:
    """Hold those of these folds that no other process trains, and yield which they are."""
    run.folds_folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        held = []
        for key in keys:
            file = _fold_lock(run, *key)
            if lock := take_lock(file, 0.0):
                stack.callback(lock.release)
                stack.enter_context(_named(file.with_suffix("")))
                held.append(key)
        yield held


def _fold_lock(run: RunFolder, seed: int, fold: Fold) -> Path:
    return run.folds_folder / f".{seed}-{fold}.lock"


def _folds_in_training(run: RunFolder) -> list[str]:
    """Return the folds that other processes train, and which processes those are."""
    found = []
    for path in sorted(run.folds_folder.glob(".*.lock")):
        if lock := take_lock(path, 0.0):
            lock.release()
        else:
            found.append(f"{path.stem[1:]}{_holder(path.with_suffix(''))}")
    return found


@contextmanager
def _named(lock: Path) -> Iterator[None]:
    """Say in a file beside a lock who holds it.

    Not in the lock's own file: whoever asks for the lock empties it, and on Windows nobody else
    could read it.
    """
    file = lock.with_suffix(".holder")
    write_text(file, _own_name())
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()


def _own_name() -> str:
    # The words before the first option only: a database's address may hold a password.
    words = takewhile(lambda word: not word.startswith("-"), sys.argv[1:])
    command = shlex.join([Path(sys.argv[0]).stem, *words])
    since = datetime.now(UTC).isoformat(" ", "seconds")
    return f"{command}, process {os.getpid()} on {socket.gethostname()} since {since}"


def _holder(lock: Path) -> str:
    with suppress(OSError):  # it has the lock and not yet a name, or is just going
        return f": {lock.with_suffix('.holder').read_text(encoding='utf-8')}"
    return ""
