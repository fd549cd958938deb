"""What a run has for a tracker, and what the tracker has already.

experiments/<name>/tracking.json    of each tracker: its run, and the epochs of folds that it has
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from hbcomp.competitions.competition import load_competition
from hbcomp.experiment import NAME, stored_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.report import read_report
from hbcomp.experiment.resume import read_run
from hbcomp.system.config import Values, read_json, read_toml, validate, written_as
from hbcomp.system.errors import InputError
from hbcomp.system.files import write_text
from hbcomp.system.progress import FoldProgress
from hbcomp.tracking.trackers import TRACKERS

TRACKED: Final = ("loss", "score", "lr", "watched_loss")  # columns of a fold's history


class Sent(BaseModel):
    """A run of a tracker, and the last epoch of each fold that it has."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # TensorBoard makes a folder of it, and the file may be somebody else's.
    id: Annotated[str, written_as(NAME.pattern, "the id of a run")]
    epochs: dict[str, int] = {}


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sent: dict[str, Sent] = {}  # by tracker and folder


class Sender:
    """Sends a run to a tracker: every epoch once, however often the training was stopped.

    What a tracker raises becomes an InputError. The run of the tracker is continued while it is
    there, and otherwise begun anew.
    """

    def __init__(self, run: RunFolder, to: str, folder: Path | None) -> None:
        self._run, self._to = run, to
        self._key = f"{to} in {folder}" if folder else to
        self._state = _read_state(run)
        known = self._state.sent.get(self._key)
        config = configuration(run)
        with self._speaking():
            self._tracker = TRACKERS[to](run.name, config, folder, known.id if known else None)
        if known is None or known.id != self._tracker.id:
            self._state.sent[self._key] = Sent(id=self._tracker.id)

    @property
    def _sent(self) -> Sent:
        return self._state.sent[self._key]

    def send_epoch(self, done: FoldProgress) -> None:
        """Send an epoch that has ended, if the tracker does not have it."""
        values = {name: getattr(done, name) for name in TRACKED}
        self._send(f"{done.seed}-{done.fold}", done.epoch, values)

    def send_stored(self) -> int:
        """Send the epochs of stored folds that the tracker does not have; return how many."""
        return sum(
            self._send(place.name, epoch, values)
            for place in self._run.stored_folds()
            for epoch, values in _history(self._run, place.name)
        )

    def _send(self, key: str, epoch: int, values: Values) -> bool:
        if epoch <= self._sent.epochs.get(key, 0):
            return False
        seed, _, fold = key.partition("-")
        found = {name: float(values[name]) for name in TRACKED if values.get(name) is not None}
        numbers = {name: value for name, value in found.items() if np.isfinite(value)}
        with self._speaking():
            self._tracker.log(f"seed {seed} fold {fold}", epoch, numbers)
        self._sent.epochs[key] = epoch
        self._remember()
        return True

    def close(self, *, is_finished: bool) -> dict[str, float]:
        """End, with the scores of a finished run; return those."""
        summary = summary_of(self._run) if is_finished else {}
        with self._speaking():
            self._tracker.close(summary)
        return summary

    def _remember(self) -> None:
        write_text(self._run.tracking_file, self._state.model_dump_json(indent=2) + "\n")

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # of any library, or of its server
            what = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{self._to}: {what}") from error


def _read_state(run: RunFolder) -> _State:
    path = run.tracking_file
    return validate(_State, read_json(path, "state", ""), path) if path.exists() else _State()


def _history(run: RunFolder, key: str) -> Iterator[tuple[int, Values]]:
    seed, _, fold = key.partition("-")
    history = stored_folds.load_history(run, int(seed), int(fold) if fold.isdigit() else "all")
    for row in history.to_dict("records"):
        yield int(row["epoch"]), {str(name): value for name, value in row.items()}


def configuration(run: RunFolder) -> dict[str, str]:
    """Return every key of the configuration with its value, and what the run was begun with."""
    path = run.config_file
    config = validate(Config, read_toml(path), path)
    record = read_run(run)
    begun = {"hbcomp": record.hbcomp, "torch": record.torch} if record else {}
    with suppress(InputError):  # the folder of the competition may be gone since
        begun["metric"] = load_competition(config.data.competition).file.metric.name
    return {**_flat(config.model_dump(mode="json")), **begun}


def _flat(values: Values, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: str(value)}
    return found


def summary_of(run: RunFolder) -> dict[str, float]:
    """Return the scores of a finished run, and nothing of another."""
    if not run.report_file.exists():
        return {}
    report = read_report(run.report_file)
    expected = report.expected_numbers or {}
    return {
        "score": report.score,
        "standard_error": report.standard_error,
        "accuracy": report.accuracy,
        **{f"expected.{name}": value for name, value in expected.items()},
    }
