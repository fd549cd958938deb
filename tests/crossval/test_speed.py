"""How fast a net trains here, and what follows from it for a run."""

import json
from dataclasses import replace

import pytest
from commands import run_hbcomp

from hbcomp.crossval import speed
from hbcomp.crossval.resources import Resources
from hbcomp.crossval.speed import Probe, measure_speed, speed_table
from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.features.lines import LinesConfig
from hbcomp.nets.quant import QuantConfig
from hbcomp.nets.registry import build_net, count_parameters
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Recipe

CPU = Compute("cpu", "fp32", 1, "tests")
TINY = ResNetConfig(widths=(4,), strides=(4,), hidden=8)
OWN = """
[data]
train = "train.csv"
[folds]
n_folds = 3
[net]
widths = [4]
strides = [4]
hidden = 8
[train]
n_epochs = 2
[compute]
n_threads = 1
"""


@pytest.fixture
def quick(monkeypatch):
    """Steps of a tenth of a second, of which two processes of a CPU do two at once."""
    monkeypatch.setattr(speed, "seconds_per_step", lambda *_: 0.1)
    monkeypatch.setattr(speed, "choose_resources", lambda *_: Resources(CPU, n_jobs=2))


def own_experiment(folder):
    write_competition_csv(folder / "train.csv", make_rows(n=60, t=16, k=3))
    run = folder / "experiments/mine"
    run.mkdir(parents=True)
    (run / "config.toml").write_text(OWN)


def test_the_time_of_an_epoch_and_of_a_run_follow_from_the_rates(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "_rate_at_once", lambda *_: 1600.0)
    train = TrainConfig(n_epochs=3, batch_size=100)
    found = measure_speed(Config(net=TINY, train=train), RunFolder(tmp_path))
    assert found["rows_per_second"] == {"alone": 1000.0, "at_once": 1600.0}
    assert found["seconds_per_epoch"] == 100_000 / 1000
    # Five nets, two at once: three rounds of 3 epochs of 800 steps; two nets take 200 rows a step.
    assert (found["n_nets"], found["n_at_once"]) == (5, 2)
    assert found["seconds_of_run"] == 3 * 3 * 800 * 200 / 1600
    assert not list(tmp_path.iterdir())


@pytest.mark.long("fresh workers import for seconds")
def test_the_rate_at_once_is_that_of_all_processes_together():
    probe = Probe(Recipe(TINY, TrainConfig(batch_size=8), AugmentConfig()), (1, 16), 3, 64)
    assert speed._rate_at_once(probe, CPU, 2) > 0


def test_a_net_on_features_is_measured_at_their_width(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "_rate_at_once", lambda *_: 1.0)
    config = Config(features=LinesConfig(), net=TINY)
    shape = config.features.shape((1, 205), 4)
    found = measure_speed(config, RunFolder(tmp_path))
    assert found["n_parameters"] == count_parameters(build_net(TINY, shape, 4, 0, None))


def test_a_net_that_is_fitted_has_no_steps_to_time(tmp_path):
    config = Config(net=QuantConfig(), train=TrainConfig(n_epochs=1))
    with pytest.raises(InputError, match="net 'quant' is fitted, not trained in steps"):
        measure_speed(config, RunFolder(tmp_path))


def test_bench_measures_an_experiment_of_ones_own_and_writes_nothing(tmp_path):
    own_experiment(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = run_hbcomp(["bench", "mine"], tmp_path, prepare=be_quick)
    assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.rglob("*")) == before
    numbers = json.loads(done.stdout.splitlines()[-1])
    mine = numbers["experiments"]["mine"]
    assert (mine["net"], mine["n_nets"], mine["n_epochs"]) == ("resnet", 3, 2)
    assert mine["rows_per_second"]["alone"] > 0
    assert mine["compute"]["n_threads"] == 1
    assert "3 x 2" in done.stderr
    assert {"cpu", "n_cores", "gpu"} <= set(numbers["machine"])


def be_quick():
    speed.SECONDS = 0.01


def test_bench_takes_no_plan_and_no_unknown_name(tmp_path):
    for name, message in [("restnet", "no such experiment"), ("best-cpu", "is a plan")]:
        done = run_hbcomp(["bench", name], tmp_path)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert message in line


def test_a_busy_machine_is_a_warning(quick, monkeypatch, capsys):
    monkeypatch.setattr(speed, "machine", lambda: replace(machine(), load_at_start=3.2))
    monkeypatch.setattr(speed, "_rate_at_once", lambda *_: 1.0)
    speed.measure_speeds(["quickstart", "quickstart"])
    assert "other programs are running (load 3.2)" in capsys.readouterr().err


def test_a_gpu_is_named_above_the_table(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "_rate_at_once", lambda *_: 1.0)
    found = measure_speed(Config(net=TINY), RunFolder(tmp_path))
    found["compute"]["device"] = "cuda"
    table = speed_table({"a": found}, {"gpu": "a GPU", "n_cores": 2})
    assert table.title == "training 100,000 rows on cuda (a GPU)"
