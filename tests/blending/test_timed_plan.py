"""A plan that keeps to a time."""

import json
from dataclasses import replace

import pytest
from finished_experiments import write_files, write_into

from hbcomp.blending import timed_plan
from hbcomp.blending.plan import prepare_all, read_plan
from hbcomp.blending.timed_plan import Clock, OutOfTime, carry_out_within
from hbcomp.crossval.estimate import Estimate
from hbcomp.crossval.loop import FoldDone
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import read_report
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch

CONFIG = """
[folds]
n_folds = 3
[net]
name = "linear"
[train]
n_epochs = {n_epochs}
batch_size = 8
lr = 0.02
[compute]
device = "cpu"
n_threads = 1
"""
SECONDS = {"slow": 600.0, "quick": 60.0, "middle": 120.0}  # of a net


@pytest.fixture
def planned(here, monkeypatch):
    """A folder with a plan of three experiments, whose estimated times are SECONDS."""
    write_files(here)
    for n_epochs, name in enumerate(SECONDS, start=1):
        write_into(here, name, "config.toml", CONFIG.format(n_epochs=n_epochs))
    write_plan(here, list(SECONDS))

    def told(config, data, run, n_jobs):
        return Estimate(SECONDS[run.name], 1, data.n_folds)

    monkeypatch.setattr(timed_plan, "estimate", told)
    monkeypatch.setattr(timed_plan, "MAX_SEEDS", 1)
    return here


def write_plan(folder, names):
    plan = f"runs = {json.dumps(names)}\n[blend]\nbase_models = {json.dumps(names)}\n"
    write_into(folder, "all", "plan.toml", plan)


def carry_out(hours):
    plan = read_plan("all")
    requests = prepare_all(plan, ["data.train=train.csv", "data.test=test.csv"])
    return carry_out_within(hours, "all", plan, requests, Stopwatch(), n_jobs=1, force=False)


def test_the_cheapest_come_first_and_one_that_would_end_too_late_is_left_out(planned, capsys):
    numbers = carry_out(hours=0.3)  # 18 minutes: quick takes 3, middle 6, slow 30
    assert list(numbers["runs"]) == ["quick", "middle"]
    assert numbers["left_out"].keys() == {"slow"}
    assert "it would take about 30 min" in numbers["left_out"]["slow"]
    assert numbers["submission"] == "submissions/all.csv"
    assert numbers["base_models"].keys() == {"quick", "middle"}
    assert "slow is left out" in capsys.readouterr().err


def test_a_later_call_goes_on_with_what_was_left_out_and_trains_nothing_twice(planned):
    first = carry_out(hours=0.1)  # for quick alone, which is the submission then
    assert list(first["runs"]) == ["quick"]
    assert first["submission"] == "submissions/quick.csv"
    again = carry_out(hours=3.0)
    assert {name: each["n_folds_trained"] for name, each in again["runs"].items()} == {
        "quick": 0,
        "middle": 3,
        "slow": 3,
    }
    assert not again["left_out"]


def test_too_few_hours_for_the_cheapest_are_refused_with_what_each_would_take(planned):
    with pytest.raises(InputError, match=r"--hours 0.01 is too little: quick: .* about 3 min"):
        carry_out(hours=0.01)
    assert not list(planned.glob("experiments/*/folds"))


def test_the_time_that_remains_goes_to_further_seeds_which_a_later_call_keeps(planned, monkeypatch):
    monkeypatch.setattr(timed_plan, "MAX_SEEDS", 2)
    monkeypatch.setitem(SECONDS, "slow", 1e6)
    numbers = carry_out(hours=1.0)
    stored = {path.parent.parent.name: path for path in planned.glob("experiments/*/folds/1-2")}
    weights = numbers["base_models"]
    assert stored.keys() == {name for name, weight in weights.items() if weight != 0}
    before = Predictions.load(planned / "experiments/quick/predictions.npz").fingerprint
    monkeypatch.setattr(timed_plan, "MAX_SEEDS", 1)
    carry_out(hours=1.0)
    after = Predictions.load(planned / "experiments/quick/predictions.npz").fingerprint
    assert after == before


def test_folds_that_take_longer_than_told_end_an_experiment_and_are_kept(planned, monkeypatch):
    class Late(Clock):
        def stops_late_folds(self, n_jobs):
            def check(done):
                if done.n_trained == 2 and n_jobs == 1 and len(list_of_folds(planned)) > 3:
                    raise OutOfTime("2 of 3 folds are trained")

            return check

    monkeypatch.setattr(timed_plan, "Clock", Late)
    numbers = carry_out(hours=3.0)
    assert list(numbers["runs"]) == ["quick"]
    assert numbers["left_out"].keys() == {"middle", "slow"}
    assert len(list_of_folds(planned)) == 3 + 2 + 2
    assert numbers["submission"] == "submissions/quick.csv"


def test_a_further_seed_that_would_end_too_late_leaves_a_preset_finished_as_it_was(
    planned, monkeypatch
):
    class Late(Clock):
        def stops_late_folds(self, n_jobs):
            def check(done):
                if done.seed > 0:
                    raise OutOfTime("1 of 3 folds is trained")

            return check

    monkeypatch.setattr(timed_plan, "Clock", Late)
    monkeypatch.setattr(timed_plan, "MAX_SEEDS", 2)
    plan = read_plan("all")
    requests = prepare_all(plan, ["data.train=train.csv", "data.test=test.csv"])
    for n_epochs, each in enumerate(requests, start=1):  # as presets, which have no folder yet
        each.run.config_file.unlink()
        requests[n_epochs - 1] = replace(each, config_text=CONFIG.format(n_epochs=n_epochs))
    numbers = carry_out_within(3.0, "all", plan, requests, Stopwatch(), n_jobs=1, force=False)
    assert len(numbers["runs"]) == 3
    for each in requests:
        assert each.run.manifest_file.exists()
        assert {net.seed for net in read_report(each.run.report_file).folds} == {0}


def list_of_folds(folder):
    return list(folder.glob("experiments/*/folds/*"))


def test_a_clock_stops_the_folds_that_would_end_after_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timed_plan.time, "monotonic", lambda: now[0])
    clock = Clock(1.0)
    clock.seconds_to_blend = 0.0
    stops = clock.stops_late_folds(2)

    def check(n_trained, n_pending):
        stops(FoldDone(0, 0, 1, 0.0, n_trained, n_pending))

    now[0] = 700.0
    check(1, 6)  # one of the two processes is still at its first fold
    check(2, 6)  # 350 seconds each, 1,400 for the other four, 2,900 left
    now[0] = 2_500.0
    with pytest.raises(OutOfTime, match=r"4 of 6 folds .* would take 21 min of the 18 min left"):
        check(4, 6)
    check(6, 6)  # nothing is left to do


def test_one_that_learns_from_another_is_trained_after_it_though_it_is_cheaper(
    planned, monkeypatch
):
    pseudo = '[pseudo]\nruns = ["middle"]\nmin_prob = 0.51\n'
    write_into(planned, "quick", "config.toml", CONFIG.format(n_epochs=1) + pseudo)
    write_plan(planned, ["middle", "quick", "slow"])
    numbers = carry_out(hours=3.0)
    assert list(numbers["runs"]) == ["middle", "slow", "quick"]
    monkeypatch.setitem(SECONDS, "middle", 1e6)
    for name in ("middle", "quick"):
        for path in sorted((planned / f"experiments/{name}/folds").iterdir()):
            path.rename(planned / f"{name}-{path.name}")
    numbers = carry_out(hours=3.0)
    assert numbers["left_out"]["quick"] == "it learns from middle"


def test_a_blend_of_other_experiments_is_replaced_only_when_asked_for(planned):
    carry_out(hours=3.0)
    write_plan(planned, ["quick", "middle"])
    with pytest.raises(InputError, match=r"holds a blend of others \(slow\); --force replaces it"):
        carry_out(hours=3.0)
