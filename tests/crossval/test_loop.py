"""The parts of the fold loop that an end-to-end run does not reach."""

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from hbcomp.competitions.competition import load_competition
from hbcomp.crossval import fold, training_data
from hbcomp.crossval import loop as crossval
from hbcomp.crossval.fold import FoldTask, evenly_spaced, in_groups, train_folds
from hbcomp.crossval.loop import _train_in_workers, announce_schedule, resources_for
from hbcomp.crossval.refit import refit_config
from hbcomp.crossval.resources import Resources
from hbcomp.crossval.training_data import TrainingData, load_training_data
from hbcomp.data.splits import FoldsConfig
from hbcomp.data.synthetic import make_rows
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.nets.signals import SignalsConfig
from hbcomp.system.command import tracker_warnings_off
from hbcomp.system.errors import InputError
from hbcomp.system.progress import FoldProgress, Relay, relayed
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.system.workers import Done
from hbcomp.training.device import Compute
from hbcomp.training.loader import put_on_device
from hbcomp.training.optim import TrainConfig

SPEC = load_competition().metric_spec(["0", "1", "2", "3"])
CPU = Compute("cpu", "fp32", 1, "tests")


@pytest.fixture
def task():
    rows = np.arange(40)
    config = Config()
    return FoldTask(0, 3, rows[8:], rows[:8], config.recipe, SPEC, CPU, 1)


@pytest.fixture
def data():
    dataset = make_rows(n=40, t=16)
    return put_on_device(dataset.signals, dataset.known_labels, "cpu")


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
    assert set(evenly_spaced(n_epochs, n_scored)) == expected


@pytest.mark.parametrize("n_epochs", range(1, 40))
def test_no_epoch_before_the_first_is_scored(n_epochs):
    for n_scored in range(1, 12):
        epochs = set(evenly_spaced(n_epochs, n_scored))
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
def test_out_of_memory_names_the_fold_and_the_remedy(monkeypatch, tmp_path, task, data, error):
    def fail(*_args):
        raise error

    monkeypatch.setattr(fold, "train_epochs", fail)
    with pytest.raises(InputError, match=r"seed 0 fold 3: out of memory on cpu; finished folds"):
        train_folds([task], data, RunFolder(tmp_path), lambda _: None, Stopwatch())
    assert list(tmp_path.iterdir()) == []


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch, tmp_path, task, data):
    def fail(*_args):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(fold, "train_epochs", fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train_folds([task], data, RunFolder(tmp_path), lambda _: None, Stopwatch())


def test_a_diverging_fold_is_named_and_not_stored(tmp_path, task, data):
    data.signals[:] = float("inf")
    recipe = replace(task.recipe, signals=SignalsConfig(scale="none"))
    task = replace(task, recipe=recipe)
    with pytest.raises(InputError, match="seed 0 fold 3: epoch 1: the loss must be finite"):
        train_folds([task], data, RunFolder(tmp_path), lambda _: None, Stopwatch())
    assert list(tmp_path.iterdir()) == []


def test_a_net_whose_last_step_broke_it_is_not_stored(monkeypatch, tmp_path, task, data):
    def nan_probs(_net, _signals, _compute, rows):
        return np.full((len(rows), 4), np.nan, dtype=np.float32)

    monkeypatch.setattr(fold, "predict_probs", nan_probs)
    with pytest.raises(InputError, match="seed 0 fold 3: the net's probabilities must be finite"):
        train_folds([task], data, RunFolder(tmp_path), lambda _: None, Stopwatch())
    assert list(tmp_path.iterdir()) == []


def test_a_killed_worker_ends_the_run_in_one_line_that_says_what_to_lower(
    monkeypatch, task, tmp_path
):
    killed = Mock(done=lambda jobs: iter([Done(job, exit="SIGKILL(-9)") for job in jobs]))
    monkeypatch.setattr(crossval, "worker_pool", lambda *_: nullcontext(killed))
    words = r"a worker process was killed \(SIGKILL\(-9\)\), .* try fewer --jobs \(now 2\)"
    with pytest.raises(InputError, match=words):
        next(
            _train_in_workers(
                [[task]],
                lambda seed, fold: Mock(spec=TrainingData),
                RunFolder(tmp_path),
                Resources(CPU, 2),
                lambda _: None,
                Stopwatch(),
            )
        )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate"
            " memory: you tried to allocate 4000000000000 bytes."
        ),
        RuntimeError("Storage size calculation overflowed with sizes=[4, 4611686018427387904]"),
    ],
)
@pytest.mark.parametrize(
    ("module", "function"), [(training_data, "build_net"), (crossval, "choose_resources")]
)
def test_memory_that_runs_out_before_the_first_fold_is_said_with_what_to_make_smaller(
    monkeypatch, tmp_path, error, module, function
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(module, function, fail)
    monkeypatch.setattr(training_data, "load_data", lambda _: (make_rows(n=40), None))
    config = Config(folds=FoldsConfig(n_folds=2))
    with pytest.raises(InputError, match=r"out of memory on cpu; .*net\.\*"):
        resources_for(config, load_training_data(config), RunFolder(tmp_path), [(0, 0)], 1)


def test_what_few_rows_change_is_printed_once_and_nothing_else_is(monkeypatch, capsys):
    monkeypatch.setattr(training_data, "load_data", lambda _: (make_rows(n=100), None))
    config = Config(folds=FoldsConfig(n_folds=2), train=TrainConfig(min_steps=60))
    rows = load_training_data(config)
    for words in ("batches of 16 rows instead of 256", "20 epochs of 3 steps instead of 10"):
        announce_schedule(config, rows, rows.fold_keys)
        assert words in " ".join(capsys.readouterr().err.split())
    announce_schedule(config, rows, [])
    plain = TrainConfig(batch_size=16)
    announce_schedule(config.model_copy(update={"train": plain}), rows, rows.fold_keys)
    assert capsys.readouterr().err == ""


def test_events_of_workers_arrive_once_and_in_order():
    events = [FoldProgress(0, 1, epoch, 9, 0.5, epoch / 3) for epoch in range(1, 10)]
    seen = []
    with relayed(seen.append) as relay:
        for event in events:
            relay.emit(event)
    assert seen == events


def test_progress_that_a_full_disk_takes_is_lost_and_the_rest_is_shown(tmp_path):
    (tmp_path / "file").touch()
    event = FoldProgress(0, 0, 1, 2, 0.5, None)
    Relay(tmp_path / "file" / "events").emit(event)
    seen = []
    with relayed(seen.append) as relay:
        with relay.path.open("a") as file:
            file.write('{"seed": 0, "fo\n{}\n')
        relay.emit(event)
    assert seen == [event]


@pytest.mark.parametrize(
    ("models_per_process", "expected"),
    [
        (1, [[0], [1], [2], [3], [4]]),
        (2, [[0, 1], [2, 3], [4]]),
        (9, [[0, 1, 2, 3, 4]]),
    ],
)
def test_as_many_folds_train_together_as_the_compute_says(task, models_per_process, expected):
    compute = replace(CPU, models_per_process=models_per_process)
    tasks = [replace(task, fold=number, compute=compute) for number in range(5)]
    assert [[each.fold for each in group] for group in in_groups(tasks)] == expected


def test_folds_trained_together_are_all_stored(tmp_path, task, data):
    compute = replace(CPU, models_per_process=2)
    recipe = replace(task.recipe, train=task.recipe.train.model_copy(update={"n_epochs": 1}))
    tasks = [replace(task, fold=number, compute=compute, recipe=recipe) for number in (0, 1)]
    run, watch, events = RunFolder(tmp_path), Stopwatch(), []
    train_folds(tasks, data, run, events.append, watch)
    assert [run.is_done(0, number) for number in (0, 1, 2)] == [True, True, False]
    assert [(event.fold, event.epoch) for event in events] == [(0, 1), (1, 1)]
    assert all(watch.seconds[phase] > 0 for phase in ("compile", "train", "validate", "write"))


@pytest.mark.parametrize("former", [None, "error"])
def test_a_tracker_that_starts_hushed_warns_of_nothing_and_others_do(monkeypatch, former):
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    if former:
        monkeypatch.setenv("PYTHONWARNINGS", former)
    warn = "import warnings; warnings.warn('resource_tracker: There appear to be leaked objects')"

    def said() -> str:
        return subprocess.run(
            [sys.executable, "-c", warn], stderr=subprocess.PIPE, text=True
        ).stderr

    assert "leaked" in said()
    with tracker_warnings_off():
        assert said() == ""
    assert os.environ.get("PYTHONWARNINGS") == former


@pytest.mark.parametrize(("refit", "n_epochs"), [({}, 300), ({"n_epochs": 7}, 7)])
def test_nets_on_everything_have_the_epochs_of_a_fold_or_their_own(refit, n_epochs):
    config = Config(train=TrainConfig(n_epochs=26, min_steps=300), refit=refit)
    train = refit_config(config, n_rows_of_fold=24).train
    assert train.for_rows(30).n_epochs == train.for_rows(24).n_epochs == n_epochs
