"""A run in a tracker, live or later: every epoch of its folds once, and its score."""

import sys
import threading
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from unittest.mock import MagicMock

import pandas as pd
import pytest
from commands import run_hbcomp
from notebook_rows import TINY, make_arrays

import hbcomp
from hbcomp.experiment import stored_folds
from hbcomp.experiment.folder import find_run
from hbcomp.system.command import console
from hbcomp.system.errors import InputError
from hbcomp.tracking import live, trackers
from hbcomp.tracking.replay import replay_run

X, Y, T, _ = make_arrays()


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """The runs of a tracker in memory, in the order in which they were begun."""
    runs = []

    def opened(name, config, folder, known):
        ids = [run.id for run in runs]
        if known in ids:
            return runs[ids.index(known)]
        runs.append(InMemory(f"{name}-{len(runs)}", config))
        return runs[-1]

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", opened)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    return runs


class InMemory:
    def __init__(self, name, config):
        self.id, self.config, self.points, self.summary = name, config, [], None

    def log(self, fold, epoch, values):
        self.points.append((fold, epoch, values))

    def close(self, summary):
        self.summary = summary


def cross_validate(**options):
    return hbcomp.cross_validate(X, Y, T, run="mine", n_folds=2, overrides=TINY, jobs=1, **options)


def stored_points():
    """Return what the histories of the folds say, as a tracker should have it."""
    return [
        (f"seed 0 fold {fold}", row["epoch"], {name: row[name] for name in ("loss", "score", "lr")})
        for fold in (0, 1)
        for row in pd.read_csv(f"experiments/mine/folds/0-{fold}/history.csv").to_dict("records")
    ]


def test_a_tracker_gets_every_epoch_of_a_finished_run_once_then_the_score(here, memory):
    result = cross_validate()
    numbers = replay_run(find_run("mine"), "mlflow", None, console)
    (found,) = memory
    wanted = {"net.widths": "[4]", "train.n_epochs": "2", "metric": "accuracy"}
    assert wanted.items() <= found.config.items()
    assert found.points == stored_points()
    assert (numbers["n_folds"], numbers["n_epochs"]) == (2, 4)
    assert found.summary == numbers["summary"]
    assert found.summary["score"] == result.score
    assert "expected.low" in found.summary
    again = replay_run(find_run("mine"), "mlflow", None, console)
    assert (again["n_epochs"], len(memory), len(found.points)) == (0, 1, 4)
    replay_run(find_run("mine"), "mlflow", Path("elsewhere"), console)
    assert [len(run.points) for run in memory] == [4, 4]


def test_a_run_that_is_not_finished_is_tracked_as_far_as_it_is(here):
    cross_validate()
    for name in ("report.json", "manifest.json"):
        Path("experiments/mine", name).unlink()
    assert replay_run(find_run("mine"), "mlflow", None, console)["summary"] == {}
    with pytest.raises(InputError, match="no fold is stored yet, so there is nothing to track"):
        replay_run(find_run("absent"), "mlflow", None, console)
    done = run_hbcomp(["track", "mine", "--to", "aim"], here)
    assert (done.returncode, "'aim' is not one of" in done.stderr) == (2, True)


def test_a_tracker_gets_an_epoch_while_the_run_trains(here, memory, monkeypatch):
    came, log = Event(), InMemory.log
    monkeypatch.setattr(InMemory, "log", lambda *values: (log(*values), came.set()))
    came_in_time = []
    result = cross_validate(callback=lambda _: came_in_time.append(came.wait(60)), track="mlflow")
    assert came_in_time == [True, True]
    (found,) = memory
    assert found.points == stored_points()
    assert found.summary["score"] == result.score
    assert replay_run(find_run("mine"), "mlflow", None, console)["n_epochs"] == 0


def test_a_run_that_goes_on_repeats_no_epoch(here, memory, monkeypatch):
    save = stored_folds.save_fold

    def stop(run, identity, result, net, history):
        if result.fold == 1:  # all epochs of the fold have ended
            raise KeyboardInterrupt
        save(run, identity, result, net, history)

    with monkeypatch.context() as patched:
        patched.setattr(stored_folds, "save_fold", stop)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(track="mlflow")
    (found,) = memory
    assert (len(found.points), found.summary) == (4, {})
    cross_validate(track="mlflow")
    assert [run.points for run in memory] == [stored_points()]
    assert found.summary["accuracy"] > 0
    options = {**TINY, "train.n_epochs": 1}
    others = {"n_folds": 2, "overrides": options, "jobs": 1, "track": "mlflow", "force": True}
    hbcomp.cross_validate(X, Y, T, run="mine", **others)
    assert [len(run.points) for run in memory] == [4, 2]  # other folds, another run


def test_folds_that_were_stored_before_come_first(here, memory, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_validate(callback=stop)
    assert not memory
    cross_validate(track="mlflow")
    assert [run.points for run in memory] == [stored_points()]


def test_a_tracker_that_fails_stops_no_training_and_lacks_nothing_in_the_end(
    here, memory, monkeypatch, caplog
):
    log = InMemory.log

    def fail(self, fold, epoch, values):
        if fold == "seed 0 fold 1":
            raise ConnectionError("the server\nis gone")
        log(self, fold, epoch, values)

    with monkeypatch.context() as patched:
        patched.setattr(InMemory, "log", fail)
        result = cross_validate(track="mlflow")
        with pytest.raises(InputError, match=r"^mlflow: the server is gone$"):
            replay_run(find_run("mine"), "mlflow", None, console)
    assert result.score > 0
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warning == (
        "mlflow: the server is gone; tracking has ended, training has not: "
        "`hbcomp track mine --to mlflow` sends what is missing"
    )
    assert replay_run(find_run("mine"), "mlflow", None, console)["n_epochs"] == 2
    assert [run.points for run in memory] == [stored_points()]


def test_a_tracker_that_hangs_stops_no_training(here, memory, monkeypatch, caplog):
    go_on = Event()
    monkeypatch.setattr(live, "SECONDS_TO_END", 0.01)
    monkeypatch.setattr(InMemory, "log", lambda *_: go_on.wait(60))
    cross_validate(track="mlflow")
    assert "mlflow: no answer for 0 s; tracking has ended" in caplog.text
    go_on.set()
    for thread in threading.enumerate():
        if isinstance(thread, live._Follower):
            thread.join()


def test_a_state_that_names_another_folder_is_refused(here):
    cross_validate(track="mlflow")
    state = Path("experiments/mine/tracking.json")
    state.write_text(state.read_text().replace("mine-0", "../mine"))
    with pytest.raises(InputError, match=r"tracking.json: sent.mlflow.id: must be the id of a run"):
        replay_run(find_run("mine"), "mlflow", None, console)


def test_wrong_uses_are_refused_before_training(here, monkeypatch):
    with pytest.raises(InputError, match=r"the tracker must be one of tensorboard, mlflow"):
        cross_validate(track="aim")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'not installed: pip install "hbcomp\[wandb\]"'):
        cross_validate(track="wandb")
    assert not Path("experiments").exists()
    done = run_hbcomp(["cv", "--part", "1/2", "--track", "wandb"], here)
    assert (done.returncode, "--track shows whole runs" in done.stderr) == (2, True)


def fakes():
    """Return what each tracker imports, as mocks that take any call, and its last call."""
    board, flow = MagicMock(), MagicMock()
    return {
        "tensorboard": (
            {"tensorboard": MagicMock(), "torch.utils.tensorboard": board},
            board.SummaryWriter.return_value.close,
        ),
        "mlflow": ({"mlflow": flow}, flow.MlflowClient.return_value.set_terminated),
        "wandb": ({"wandb": (bias := MagicMock())}, bias.init.return_value.finish),
        "trackio": ({"trackio": (track := MagicMock())}, track.finish),
    }


CLASSES = [trackers.TensorBoard, trackers.MLflow, trackers.WandB, trackers.Trackio]


@pytest.mark.parametrize("begin", CLASSES)
def test_every_tracker_begins_logs_and_ends(here, monkeypatch, begin):
    name = begin.__name__.lower()
    modules, end = fakes()[name]
    for module, fake in modules.items():
        monkeypatch.setitem(sys.modules, module, fake)
    for known in (None, "before"):
        tracker = begin("mine", {"train.lr": "0.1"}, None, known)
        tracker.log("seed 0 fold 0", 1, {"loss": 0.5})
        end.assert_not_called()
        tracker.close({"score": 0.75})
        end.assert_called()
        end.reset_mock()


@pytest.mark.parametrize("begin", CLASSES)
def test_a_tracker_that_is_not_installed_is_named(here, monkeypatch, begin):
    name = begin.__name__.lower()
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf'not installed: pip install "hbcomp\[{name}\]"'):
        begin("mine", {}, None, None)


def test_trackio_has_no_folder_of_its_own(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace())
    with pytest.raises(InputError, match="trackio keeps its files where TRACKIO_DIR says"):
        trackers.Trackio("mine", {}, Path("there"), None)


def test_tensorboard_goes_on_in_a_folder_that_is_there_and_leaves_others_alone(here, monkeypatch):
    for module, fake in fakes()["tensorboard"][0].items():
        monkeypatch.setitem(sys.modules, module, fake)
    ids = [trackers.TensorBoard("mine", {}, None, known).id for known in (None, None, "mine-2")]
    assert ids == ["mine", "mine-2", "mine-2"]


@pytest.mark.parametrize(("stage", "goes_on"), [("active", True), ("deleted", False)])
def test_mlflow_goes_on_with_a_run_unless_it_was_deleted(monkeypatch, stage, goes_on):
    flow = MagicMock()
    monkeypatch.setitem(sys.modules, "mlflow", flow)
    client = flow.MlflowClient.return_value
    client.get_run.return_value.info.lifecycle_stage = stage
    client.create_run.return_value.info.run_id = "new"
    fold = SimpleNamespace(run_name="seed 0 fold 0", run_id="of fold 0")
    client.search_runs.return_value = [SimpleNamespace(info=fold)]
    tracker = trackers.MLflow("mine", {}, None, "old")
    assert tracker.id == ("old" if goes_on else "new")
    tracker.log("seed 0 fold 0", 3, {"loss": 0.5})
    assert client.log_batch.call_args.args == ("of fold 0" if goes_on else "new",)


def test_no_tracker_is_imported_with_the_command():
    import hbcomp.track  # noqa: F401

    assert not {"tensorboard", "mlflow", "wandb", "trackio"} & {*sys.modules}
