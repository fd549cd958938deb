"""A run that is finished, or was tracked in part, given to a tracker."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rich.console import Console

from hbcomp.experiment.folder import RunFolder
from hbcomp.system.errors import InputError
from hbcomp.tracking.sender import Sender
from hbcomp.tracking.trackers import check_installed


def replay_run(run: RunFolder, to: str, folder: Path | None, console: Console) -> dict[str, Any]:
    """Give a tracker what it lacks of a run's stored folds, and the score of a finished run."""
    check_installed(to)
    n_folds = len(run.stored_folds())
    if not n_folds:
        raise InputError(f"{run.path}: no fold is stored yet, so there is nothing to track")
    with redirect_stdout(sys.stderr):  # what trackers say is for people
        sender = Sender(run, to, folder)
        n_epochs = sender.send_stored()
        summary = sender.close(is_finished=True)
    state = "its score" if summary else "no score yet"
    console.print(f"{run.name}: {n_folds} folds, {n_epochs:,} new epochs and {state} to {to}")
    return {
        "experiment": run.name,
        "to": to,
        "n_folds": n_folds,
        "n_epochs": n_epochs,
        "summary": summary,
    }
