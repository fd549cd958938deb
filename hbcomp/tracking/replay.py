"""A run as a tracker needs it: its configuration, the epochs of its folds in order, its score."""

import sys
from collections import defaultdict
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from hbcomp.experiment import stored_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.report import read_report
from hbcomp.experiment.resume import read_run
from hbcomp.system.config import Values, read_toml, validate
from hbcomp.system.errors import InputError
from hbcomp.tracking.trackers import TRACKERS

TRACKED: Final = ("loss", "score", "lr", "watched_loss")  # columns of a fold's history


def replay_run(run: RunFolder, to: str, folder: Path | None, console: Console) -> dict[str, Any]:
    """Give a run's stored folds, and its score if it is finished, to a tracker."""
    epochs = epochs_of(run)
    config, summary = configuration(run), summary_of(run)
    with redirect_stdout(sys.stderr):  # what trackers say is for people
        tracker = TRACKERS[to](run.name, config, folder)
        for step, values in epochs.items():
            tracker.log(step, values)
        tracker.close(summary)
    n_folds = len(run.stored_folds())
    state = "its score" if summary else "no score yet"
    console.print(f"{run.name}: {n_folds} folds, {len(epochs)} epochs and {state} to {to}")
    return {"experiment": run.name, "to": to, "n_folds": n_folds, "summary": summary}


def epochs_of(run: RunFolder) -> dict[int, dict[str, float]]:
    """Return what was measured after each epoch, by `fold SEED-FOLD/NAME`, in order."""
    found: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for place in run.stored_folds():
        seed, _, fold = place.name.partition("-")
        history = stored_folds.load_history(run, int(seed), int(fold) if fold.isdigit() else "all")
        for row in history.to_dict("records"):
            for name in TRACKED:
                if np.isfinite(row.get(name, np.nan)):
                    found[int(row["epoch"])][f"fold {place.name}/{name}"] = float(row[name])
    if not found:
        raise InputError(f"{run.path}: no fold is stored yet, so there is nothing to track")
    return dict(sorted(found.items()))


def configuration(run: RunFolder) -> dict[str, str]:
    """Return every key of the configuration with its value, and what the run was begun with."""
    path = run.config_file
    config = validate(Config, read_toml(path), path).model_dump(mode="json")
    record = read_run(run)
    begun = {"hbcomp": record.hbcomp, "torch": record.torch} if record else {}
    return {**_flat(config), **begun}


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
