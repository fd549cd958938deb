"""How the folds of a run share the machine, without a run."""

import re
from dataclasses import replace

import pytest
import torch

from hbcomp.crossval import resources
from hbcomp.crossval.resources import (
    MAX_GROUP_SIZE,
    MEMORY_SHARE,
    WORKER_SECONDS,
    Resources,
    Slot,
    choose_resources,
    fastest,
    fastest_n_jobs,
    largest_group,
    seconds_per_step,
    slots_for,
)
from hbcomp.data.synthetic import make_rows
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.resume import RunRecord, write_run
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.system.errors import InputError
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute, ComputeConfig
from hbcomp.training.loader import put_on_device
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Recipe, Replica

CPU = Compute("cpu", "fp32", 1, "tests")


@pytest.fixture
def beats():
    dataset = make_rows(n=40, t=16)
    return put_on_device(dataset.signals, dataset.known_labels, "cpu")


@pytest.fixture
def begun(tmp_path):
    """A run that began on a GPU this machine lacks, with three threads."""
    run = RunFolder(tmp_path)
    first = Compute("cuda:63", "fp32", 3, "tests")
    write_run(run, RunRecord(identity={"train.lr": 0.1}, compute=first))
    return run


def chosen_resources(run, beats, n_nets=5, n_jobs=None, **keys):
    members = [Replica(torch.arange(32), (0, fold)) for fold in range(n_nets)]
    return choose_resources(Config(compute=ComputeConfig(**keys)), run, beats, members, 5, n_jobs)


def have_cores(monkeypatch, n):
    """Let this machine have `n` cores."""
    for module in ("hbcomp.crossval.resources", "hbcomp.training.device"):
        monkeypatch.setattr(f"{module}.n_cores", lambda: n)


def take_seconds(monkeypatch, seconds):
    """Let every step that is measured take so long."""
    monkeypatch.setattr("hbcomp.crossval.resources.seconds_per_step", lambda *_: seconds)


def test_a_continued_run_keeps_its_threads_and_leaves_a_device_that_is_gone(begun, beats, capsys):
    compute = chosen_resources(begun, beats).compute
    assert compute.n_threads == 3
    assert compute.device in {"cpu", "cuda", "mps"}
    assert "device cuda:63 before" in capsys.readouterr().err


def test_a_run_that_continues_as_it_began_says_so(tmp_path, beats, capsys, monkeypatch):
    have_cores(monkeypatch, 4)
    take_seconds(monkeypatch, 10.0)
    run = RunFolder(tmp_path)
    write_run(run, RunRecord(identity={"train.lr": 0.1}, compute=CPU))
    how = chosen_resources(run, beats, device="cpu")
    assert how.seconds_of_net is not None
    as_it_began = Resources(replace(CPU, reason="as this run began"), n_jobs=4)
    assert replace(how, seconds_of_net=None) == as_it_began
    assert capsys.readouterr().err == ""


def test_a_continued_run_does_what_it_is_told(begun, beats):
    how = chosen_resources(begun, beats, n_jobs=3, device="cpu", n_threads=1, precision="bf16")
    compute = how.compute
    assert (compute.device, compute.n_threads, compute.precision) == ("cpu", 1, "bf16")
    assert how.n_jobs == 3


@pytest.mark.parametrize(
    ("n_jobs", "n_threads", "expected"),
    [(None, 3, (1, 3)), (2, None, (2, 1)), (2, 3, (2, 3))],
)
def test_jobs_and_threads_that_are_named_are_taken(
    tmp_path, beats, monkeypatch, n_jobs, n_threads, expected
):
    have_cores(monkeypatch, 8)
    how = chosen_resources(
        RunFolder(tmp_path), beats, n_jobs=n_jobs, device="cpu", n_threads=n_threads
    )
    assert (how.n_jobs, how.compute.n_threads) == expected


@pytest.mark.parametrize(("n_cores", "n_threads"), [(2, 1), (6, 1), (16, 3)])
def test_no_measurement_and_no_number_of_jobs_decides_the_threads(
    tmp_path, beats, monkeypatch, n_cores, n_threads
):
    have_cores(monkeypatch, n_cores)
    found = {}
    for seconds in (1e-9, 10.0):
        take_seconds(monkeypatch, seconds)
        for n_jobs in (None, 1, 2):
            how = chosen_resources(RunFolder(tmp_path), beats, n_jobs=n_jobs, device="cpu")
            assert how.compute.n_threads == n_threads
            found[seconds, n_jobs] = how.n_jobs
    # Measured is how many train at once; what is asked for is taken.
    assert [found[seconds, None] for seconds in (1e-9, 10.0)] == [1, min(n_cores, 5)]
    assert [found[1e-9, n_jobs] for n_jobs in (1, 2)] == [1, 2]


def test_a_further_seed_does_not_change_the_threads(tmp_path, beats, monkeypatch):
    have_cores(monkeypatch, 16)
    take_seconds(monkeypatch, 10.0)
    of_seeds = [
        chosen_resources(RunFolder(tmp_path), beats, n_nets=n, device="cpu") for n in (5, 10)
    ]
    assert [(how.n_jobs, how.compute.n_threads) for how in of_seeds] == [(5, 3), (5, 3)]


def test_a_net_that_is_left_of_several_gets_the_threads_of_the_others(tmp_path, beats, monkeypatch):
    have_cores(monkeypatch, 4)
    run = RunFolder(tmp_path)
    first = chosen_resources(run, beats, device="cpu", n_jobs=1).compute
    write_run(run, RunRecord(identity={"train.lr": 0.1}, compute=first))
    left = chosen_resources(run, beats, n_nets=1, device="cpu")
    assert (left.n_jobs, left.compute.n_threads) == (1, first.n_threads)


def test_a_gpu_gets_as_many_nets_at_once_as_was_measured_to_be_fastest(
    tmp_path, beats, monkeypatch
):
    on_gpu = replace(CPU, device="cuda", engine="graph")
    monkeypatch.setattr(resources, "choose_compute", lambda *_, **__: on_gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    asked = []

    def fake(_recipe, _beats, members, compute):
        asked.append(len(members))
        return replace(compute, models_per_process=5)

    monkeypatch.setattr(resources, "choose_group_size", fake)
    how = chosen_resources(RunFolder(tmp_path), beats)
    assert (how.n_jobs, how.compute.models_per_process) == (1, 5)
    assert asked == [5]
    # Named by the user, or several processes on the GPU: nothing is measured.
    chosen_resources(RunFolder(tmp_path), beats, models_per_process=2)
    chosen_resources(RunFolder(tmp_path), beats, n_jobs=3)
    assert len(asked) == 1


def test_a_continued_run_keeps_its_engine_unless_told_otherwise(
    tmp_path, beats, capsys, monkeypatch
):
    have_cores(monkeypatch, 1)
    run = RunFolder(tmp_path)
    first = replace(CPU, engine="compile")
    write_run(run, RunRecord(identity={"train.lr": 0.1}, compute=first))
    assert chosen_resources(run, beats, device="cpu").compute.engine == "compile"
    assert capsys.readouterr().err == ""
    assert chosen_resources(run, beats, device="cpu", engine="eager").compute.engine == "eager"
    assert "engine compile before, eager now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('precision = "fp12"', "compute.precision: Input should be 'fp32', 'tf32' or 'bf16'"),
        ('n_threads = "two"', "compute.n_threads: Input should be a valid integer"),
        ("device = 'cpu'\nlayout = 2", "compute.layout: Unexpected keyword argument"),
    ],
)
def test_a_damaged_run_toml_is_refused_by_its_key(begun, beats, line, message):
    key = line.split(" ")[0]
    text = begun.run_file.read_text()
    begun.run_file.write_text(re.sub(rf"(?m)^{key} = .*$", line, text))
    with pytest.raises(InputError, match=re.escape(message)) as error:
        chosen_resources(begun, beats)
    assert str(error.value).startswith(f"{begun.run_file}: ")


@pytest.mark.parametrize(
    ("seconds_of_one", "expected"),
    # 8 nets one by one, or 4 at once in 2 rounds that a shared machine makes a tenth longer.
    [(WORKER_SECONDS / 10, 1), (WORKER_SECONDS / 5, 4), (WORKER_SECONDS * 10, 4)],
)
def test_nets_train_at_once_where_that_saves_more_than_workers_take_to_start(
    seconds_of_one, expected
):
    assert fastest_n_jobs(8, seconds_of_one, 4) == expected


def test_nets_at_once_stay_within_their_share_of_memory():
    for free in (0, 10, 999, 10_000):
        n = largest_group(10, bytes_of_one=100, bytes_free=free)
        assert 1 <= n <= 10
        assert n == 1 or n * 100 <= free * MEMORY_SHARE
    assert largest_group(99, bytes_of_one=0, bytes_free=1) == 1
    assert largest_group(99, bytes_of_one=1, bytes_free=10**9) == MAX_GROUP_SIZE


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 5: 2.5}, 5),
        ({1: 1.0, 5: 4.9}, 1),  # 2 % are no gain
    ],
)
def test_the_number_of_nets_with_the_most_steps_per_second_is_taken(seconds, expected):
    chosen, gain = fastest(seconds)
    assert chosen == expected
    assert gain == pytest.approx(chosen * seconds[1] / seconds[chosen])


def test_a_timing_probe_leaves_no_trace_in_the_training_to_come(monkeypatch):
    monkeypatch.setattr("hbcomp.crossval.resources.MIN_SECONDS", 0.01)
    dataset = make_rows(n=32, t=16)
    beats = put_on_device(dataset.signals, dataset.known_labels, "cpu")
    recipe = Recipe(
        ResNetConfig(widths=(4,), strides=(2,)), TrainConfig(batch_size=8), AugmentConfig()
    )
    members = [Replica(torch.arange(32), (0, fold)) for fold in (0, 1)]
    before, rng = beats.signals.clone(), torch.get_rng_state()
    compute = Compute("cpu", "fp32", 1, "tests", models_per_process=2)
    assert seconds_per_step(recipe, beats, members, compute) > 0
    assert torch.equal(before, beats.signals)
    assert torch.equal(rng, torch.get_rng_state())


def test_several_gpus_are_dealt_out_in_turn(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    cuda = replace(CPU, device="cuda")
    assert [slot.compute.device for slot in slots_for(cuda, 3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert slots_for(CPU, 2) == [Slot(0, CPU), Slot(1, CPU)]
