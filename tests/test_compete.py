"""A plan carried out: experiments in order, their blend, one submission."""

import json
import signal
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Strike, run_hbcomp

from hbcomp.data.synthetic import make_beats, write_competition_csv
from hbcomp.plan import prepare_all, read_plan

CONFIG = """
[folds]
n_folds = 3
[net]
name = "resnet"
widths = [4]
strides = [2]
hidden = 8
[train]
n_epochs = {n_epochs}
batch_size = 16
[compute]
device = "cpu"
n_threads = 1
"""
PLAN = """
runs = ["teacher", "pupil"]
[blend]
members = ["teacher", "pupil"]
method = "mean"
"""
COMPETE = ["compete", "both", "--train", "train.csv", "--test", "test.csv"]
ROOT = Path(__file__).parents[1]


def write_experiment(folder, name, file, text):
    (folder / "experiments" / name).mkdir(parents=True, exist_ok=True)
    (folder / "experiments" / name / file).write_text(text)


@pytest.fixture
def planned(tmp_path):
    """A folder with beats and a plan of two runs, of which the second learns from the first."""
    write_competition_csv(tmp_path / "train.csv", make_beats(n=60, t=16, k=3))
    test = make_beats(n=20, t=16, k=3, seed=1)
    ids = np.array([f"t{number}" for number in range(20)])
    write_competition_csv(tmp_path / "test.csv", replace(test, ids=ids, labels=None))
    write_experiment(tmp_path, "teacher", "config.toml", CONFIG.format(n_epochs=2))
    pupil = CONFIG.format(n_epochs=1) + '[pseudo]\nruns = ["teacher"]\nmin_prob = 0.51\n'
    write_experiment(tmp_path, "pupil", "config.toml", pupil)
    write_experiment(tmp_path, "both", "plan.toml", PLAN)
    return tmp_path


def numbers_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_plan_gives_the_bytes_of_its_commands_one_by_one_and_repeats_none_of_them(planned):
    numbers = numbers_of(run_hbcomp(COMPETE, planned))
    assert [each["n_folds_trained"] for each in numbers["runs"].values()] == [3, 3]
    assert numbers["members"] == {"teacher": 0.5, "pupil": 0.5}
    submission = (planned / "submissions/both.csv").read_bytes()
    files = ["--set", "data.train=train.csv", "--set", "data.test=test.csv"]
    for command in (
        ["cv", "teacher", *files, "--name", "teacher2"],
        ["cv", "pupil", *files, "--set", 'pseudo.runs=["teacher2"]', "--name", "pupil2"],
        ["blend", "teacher2", "pupil2", "--method", "mean", "--name", "both2"],
    ):
        numbers_of(run_hbcomp(command, planned))
    assert (planned / "submissions/both2.csv").read_bytes() == submission
    again = numbers_of(run_hbcomp(COMPETE, planned))
    assert [each["n_folds_trained"] for each in again["runs"].values()] == [0, 0]
    assert again["expected_per_20k"] == numbers["expected_per_20k"]
    assert (planned / "submissions/both.csv").read_bytes() == submission


def test_ctrl_c_keeps_finished_folds_and_the_same_command_trains_the_others(planned):
    strike = Strike("crossval", "train_epochs", n=5, signal=signal.SIGINT)
    done = run_hbcomp(COMPETE, planned, strike)
    assert done.returncode == 130
    message = done.stderr.splitlines()[-1]
    assert message == (
        "interrupted: 4 finished folds are kept; continue with: python -m hbcomp.compete both "
        "--train train.csv --test test.csv"
    )
    numbers = numbers_of(run_hbcomp(COMPETE, planned))
    assert [each["n_folds_trained"] for each in numbers["runs"].values()] == [0, 2]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (PLAN.replace('["teacher", "pupil"]', '["teacher"]', 1), "pupil is not one of runs"),
        (PLAN.replace('["teacher", "pupil"]', '["pupil", "teacher"]', 1), "trained after it"),
        (PLAN.replace('"teacher", "pupil"]', '"teacher", "both"]', 1), "both is to be the blend"),
        (PLAN.replace('"pupil"]', '"pupil", "absent"]', 1), "absent/config.toml: no such"),
        (PLAN.replace("method", "methods"), "blend.methods"),
        (PLAN.replace('"mean"', '"meen"'), "meen"),
        (PLAN.replace('method = "mean"', 'rule = "haff"'), "haff"),
        (PLAN.replace('"teacher", "pupil"]', '"teacher", "teacher"]', 1), "runs must be unique"),
        ("runs = []", "runs"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_is_trained(planned, plan, message):
    write_experiment(planned, "both", "plan.toml", plan)
    before = sorted(planned.rglob("*"))
    done = run_hbcomp(COMPETE, planned)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
    assert sorted(planned.rglob("*")) == before


def test_an_unknown_plan_is_refused_with_the_names_of_those_there_are(tmp_path):
    done = run_hbcomp(["compete", "bst-cpu"], tmp_path)
    assert done.returncode == 2
    assert "bst-cpu/plan.toml: no such plan (there are: best-cpu" in done.stderr


PRESETS = sorted(path.parent.name for path in ROOT.glob("experiments/*/plan.toml"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_plan_that_comes_with_the_package_is_valid_and_packed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = read_plan(name)
    assert [each.run.name for each in prepare_all(plan, [])] == list(plan.runs)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert packed[f"experiments/{name}/plan.toml"] == f"hbcomp/presets/plans/{name}.toml"
    for run in plan.runs:
        assert packed[f"experiments/{run}/config.toml"] == f"hbcomp/presets/{run}.toml"
