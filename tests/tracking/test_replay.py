"""A run in a tracker: every epoch of its folds in order, its configuration, its score."""

import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pandas as pd
import pytest
from commands import run_hbcomp
from notebook_rows import TINY, make_arrays

import hbcomp
from hbcomp.experiment.folder import find_run
from hbcomp.system.command import console
from hbcomp.system.errors import InputError
from hbcomp.tracking import trackers
from hbcomp.tracking.replay import epochs_of, replay_run

X, Y, T, _ = make_arrays()


@pytest.fixture
def result(here):
    return hbcomp.cross_validate(X, Y, T, run="mine", n_folds=2, overrides=TINY)


class Recorded:
    def __init__(self, name, config, folder):
        self.name, self.config, self.steps, self.summary = name, config, [], None
        Recorded.last = self

    def log(self, step, values):
        self.steps.append((step, values))

    def close(self, summary):
        self.summary = summary


def test_a_tracker_gets_every_epoch_in_order_then_the_score(result, monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Recorded)
    numbers = replay_run(find_run("mine"), "mlflow", None, console)
    found = Recorded.last
    assert (found.name, found.config["net.widths"], found.config["train.n_epochs"]) == (
        *("mine", "[4]", "2"),
    )
    assert [step for step, _ in found.steps] == [1, 2]
    for fold in ("0-0", "0-1"):
        history = pd.read_csv(f"experiments/mine/folds/{fold}/history.csv")
        for place, (_, values) in enumerate(found.steps):
            assert values[f"fold {fold}/loss"] == history["loss"][place]
            assert values[f"fold {fold}/score"] == history["score"][place]
    assert found.summary == numbers["summary"]
    assert found.summary["score"] == result.score
    assert "expected.low" in found.summary


def test_a_run_that_still_trains_is_tracked_as_far_as_it_is(result, here, monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Recorded)
    for name in ("report.json", "manifest.json"):
        Path("experiments/mine", name).unlink()
    assert replay_run(find_run("mine"), "mlflow", None, console)["summary"] == {}
    with pytest.raises(InputError, match="no fold is stored yet, so there is nothing to track"):
        epochs_of(find_run("absent"))
    done = run_hbcomp(["track", "mine", "--to", "aim"], here)
    assert (done.returncode, "'aim' is not one of" in done.stderr) == (2, True)


def fakes():
    """Return what each tracker imports, as mocks that take any call, and its last call."""
    board = MagicMock()
    return {
        "tensorboard": (
            {"tensorboard": MagicMock(), "torch.utils.tensorboard": board},
            board.SummaryWriter.return_value.close,
        ),
        "mlflow": ({"mlflow": (flow := MagicMock())}, flow.end_run),
        "wandb": ({"wandb": (bias := MagicMock())}, bias.init.return_value.finish),
        "trackio": ({"trackio": (track := MagicMock())}, track.finish),
    }


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_every_tracker_begins_logs_and_ends(here, monkeypatch, name):
    modules, end = fakes()[name]
    for module, fake in modules.items():
        monkeypatch.setitem(sys.modules, module, fake)
    tracker = trackers.TRACKERS[name]("mine", {"train.lr": "0.1"}, None)
    tracker.log(1, {"fold 0-0/loss": 0.5})
    end.assert_not_called()
    tracker.close({"score": 0.75})
    end.assert_called_once_with()


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_a_tracker_that_is_not_installed_is_named(here, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf'not installed: pip install "hbcomp\[{name}\]"'):
        trackers.TRACKERS[name]("mine", {}, None)


def test_trackio_has_no_folder_of_its_own(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace())
    with pytest.raises(InputError, match="trackio keeps its files where TRACKIO_DIR says"):
        trackers.Trackio("mine", {}, Path("there"))


def test_no_tracker_is_imported_with_the_command():
    import hbcomp.track  # noqa: F401

    assert not {"tensorboard", "mlflow", "wandb", "trackio"} & {*sys.modules}
