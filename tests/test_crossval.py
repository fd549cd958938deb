"""The parts of the fold loop that an end-to-end run does not reach."""

import os
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from hbcomp import crossval
from hbcomp.crossval import FoldTask, Resident, on_device, spread, train_fold
from hbcomp.data.synthetic import make_beats
from hbcomp.errors import InputError
from hbcomp.experiment import folder
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.progress import FoldProgress, Relay, relayed
from hbcomp.training.device import Compute, ComputeConfig
from hbcomp.training.loader import put_beats

CPU = Compute("cpu", "fp32", 1, "tests")


@pytest.fixture
def task():
    rows = np.arange(40)
    scored = frozenset({Config().train.n_epochs})
    return FoldTask(0, 3, rows[8:], rows[:8], Config().recipe, CPU, scored, "identity")


@pytest.fixture
def resident():
    beats = make_beats(n=40, t=16)
    return Resident(put_beats(beats.signals, beats.known_labels, "cpu"), None)


@pytest.mark.parametrize(
    ("n_epochs", "n_scored", "expected"),
    [
        (1, 5, {1}),
        (3, 5, {1, 2, 3}),
        (10, 5, {2, 4, 6, 8, 10}),
        (10, 1, {10}),
        (500, 5, {100, 200, 300, 400, 500}),
    ],
)
def test_scored_epochs_are_evenly_spread_and_end_with_the_last(n_epochs, n_scored, expected):
    assert spread(n_epochs, n_scored) == expected


@pytest.mark.parametrize("n_epochs", range(1, 40))
def test_no_epoch_before_the_first_is_scored(n_epochs):
    for n_scored in range(1, 12):
        epochs = spread(n_epochs, n_scored)
        assert min(epochs) >= 1
        assert max(epochs) == n_epochs
        assert len(epochs) <= n_scored


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_out_of_memory_names_the_fold_and_the_remedy(monkeypatch, tmp_path, task, resident, error):
    def fail(*_args):
        raise error

    monkeypatch.setattr(crossval, "train_epochs", fail)
    with pytest.raises(InputError, match=r"seed 0 fold 3: out of memory on cpu; finished folds"):
        train_fold(task, resident, RunFolder(tmp_path), lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch, tmp_path, task, resident):
    def fail(*_args):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(crossval, "train_epochs", fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train_fold(task, resident, RunFolder(tmp_path), lambda _: None)


def test_a_diverging_fold_is_named_and_not_stored(tmp_path, task, resident):
    resident.beats.signals[:] = float("nan")
    with pytest.raises(InputError, match="seed 0 fold 3: epoch 1: the loss must be finite"):
        train_fold(task, resident, RunFolder(tmp_path), lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_several_gpus_are_dealt_out_in_turn(monkeypatch, task):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    on_cuda = replace(task, compute=replace(CPU, device="cuda"))
    devices = [on_device(on_cuda, position).compute.device for position in range(5)]
    assert devices == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert on_device(task, 1).compute.device == "cpu"


def test_a_net_whose_last_step_broke_it_is_not_stored(monkeypatch, tmp_path, task, resident):
    def nan_probs(_net, signals, _compute):
        return np.full((len(signals), 4), np.nan, dtype=np.float32)

    monkeypatch.setattr(crossval, "predict_probs", nan_probs)
    with pytest.raises(InputError, match="seed 0 fold 3: the net's probabilities must be finite"):
        train_fold(task, resident, RunFolder(tmp_path), lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_stops_when_its_owner_is_gone(tmp_path):
    relay = Relay(tmp_path / "events", owner=os.getppid())
    relay.check_owner()
    with pytest.raises(RuntimeError, match="the process that asked for this fold is gone"):
        replace(relay, owner=-1).emit(FoldProgress(0, 0, 1, 2, 0.5, None))
    assert not relay.path.exists()


def test_events_of_workers_arrive_once_and_in_order(monkeypatch):
    monkeypatch.setattr(os, "getppid", os.getpid)  # here the owner emits by itself
    events = [FoldProgress(0, 1, epoch, 9, 0.5, epoch / 3) for epoch in range(1, 10)]
    seen = []
    with relayed(seen.append) as relay:
        for event in events:
            relay.emit(event)
    assert seen == events


@pytest.fixture
def begun(tmp_path):
    """A run that began on a GPU this machine lacks, with three threads."""
    run = RunFolder(tmp_path)
    first = Compute("cuda:63", "fp32", 3, "tests")
    folder.begin(run, {"train.lr": 0.1}, {"compute": asdict(first)})
    return run


def continued(run, **keys):
    config = Config(compute=ComputeConfig(**keys))
    return crossval._compute(config, run, n_jobs=1)


def test_a_continued_run_keeps_its_threads_and_leaves_a_device_that_is_gone(begun, capsys):
    assert continued(begun).n_threads == 3
    assert continued(begun).device in {"cpu", "cuda", "mps"}
    assert "device cuda:63 before" in capsys.readouterr().err


def test_a_run_that_continues_as_it_began_says_so(tmp_path, capsys):
    run = RunFolder(tmp_path)
    folder.begin(run, {"train.lr": 0.1}, {"compute": asdict(CPU)})
    assert continued(run) == replace(CPU, reason="as this run began")
    assert capsys.readouterr().err == ""


def test_a_continued_run_does_what_it_is_told(begun):
    compute = continued(begun, device="cpu", n_threads=1, precision="bf16")
    assert (compute.device, compute.n_threads, compute.precision) == ("cpu", 1, "bf16")


def test_a_fresh_run_divides_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("hbcomp.training.device.n_cores", lambda: 8)
    compute = crossval._compute(Config(), RunFolder(tmp_path), n_jobs=4)
    assert compute.n_threads == 2
