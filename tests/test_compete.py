"""A plan carried out: experiments in order, their blend, one submission."""

import json
import shutil
import signal

import pytest
from commands import Strike, few_trials, run_hbcomp
from finished_experiments import write_files, write_into
from presets import presets

from hbcomp.blending.plan import prepare_all, read_plan

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
batch_size = 8
lr = 0.02
[compute]
device = "cpu"
n_threads = 1
"""
PLAN = """
runs = ["teacher", "pupil"]
[blend]
base_models = ["teacher", "pupil"]
method = "mean"
"""
FILES = ["--train", "train.csv", "--test", "test.csv"]
COMPETE = ["compete", "both", *FILES]


def write_plan(folder):
    """Write beats and a plan of two runs, of which the second learns from the first."""
    write_files(folder)
    write_into(folder, "teacher", "config.toml", CONFIG.format(n_epochs=8))
    pupil = CONFIG.format(n_epochs=1) + '[pseudo]\nruns = ["teacher"]\nmin_prob = 0.51\n'
    write_into(folder, "pupil", "config.toml", pupil)
    write_into(folder, "both", "plan.toml", PLAN)
    return folder


@pytest.fixture
def planned(tmp_path):
    return write_plan(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the plan was carried out."""
    folder = write_plan(tmp_path_factory.mktemp("finished"))
    (folder / "numbers.json").write_text(json.dumps(numbers_of(call(COMPETE, folder))))
    return folder


def call(words, folder, strike=None):
    return run_hbcomp(words, folder, strike, prepare=few_trials)


def numbers_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_plan_gives_the_bytes_of_its_commands_one_by_one_and_repeats_none_of_them(finished):
    numbers = json.loads((finished / "numbers.json").read_text())
    assert [each["n_folds_trained"] for each in numbers["runs"].values()] == [3, 3]
    assert numbers["base_models"] == {"teacher": 0.5, "pupil": 0.5}
    submission = (finished / "submissions/both.csv").read_bytes()
    for command in (
        ["cv", "teacher", *FILES, "--name", "teacher2"],
        ["cv", "pupil", *FILES, "--set", 'pseudo.runs=["teacher2"]', "--name", "pupil2"],
        ["blend", "teacher2", "pupil2", "--method", "mean", "--name", "both2"],
    ):
        numbers_of(call(command, finished))
    assert (finished / "submissions/both2.csv").read_bytes() == submission
    again = numbers_of(call(COMPETE, finished))
    assert [each["n_folds_trained"] for each in again["runs"].values()] == [0, 0]
    assert (again["metric"], again["score"]) == ("abs-sum", numbers["score"])
    assert (finished / "submissions/both.csv").read_bytes() == submission


def test_base_models_that_say_something_else_now_are_blended_anew_only_when_asked_for(
    finished, tmp_path
):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    before = (folder / "submissions/both.csv").read_bytes()
    numbers_of(call(["cv", "teacher", *FILES, "--set", "train.lr=0.5", "--force"], folder))
    refused = call(COMPETE, folder)
    assert refused.returncode == 2
    assert "holds another blend (teacher has other probabilities now); --force" in refused.stderr
    strike = Strike("crossval.fold", "train_epochs", n=2, signal=signal.SIGINT)
    stopped = call([*COMPETE, "--force"], folder, strike)
    again = stopped.stderr.splitlines()[-1].rpartition("hbcomp ")[2].split()
    numbers = numbers_of(call(again, folder))
    assert [each["n_folds_trained"] for each in numbers["runs"].values()] == [2, 0]
    assert (folder / "submissions/both.csv").read_bytes() == before


def test_ctrl_c_keeps_finished_folds_and_the_same_command_trains_the_others(planned):
    strike = Strike("crossval.fold", "train_epochs", n=5, signal=signal.SIGINT)
    done = call(COMPETE, planned, strike)
    assert done.returncode == 130
    message = done.stderr.splitlines()[-1]
    assert message == (
        "interrupted: 4 finished folds are kept; continue with: hbcomp compete both "
        "--train train.csv --test test.csv"
    )
    numbers = numbers_of(call(COMPETE, planned))
    assert [each["n_folds_trained"] for each in numbers["runs"].values()] == [0, 2]


def test_a_folder_that_the_blend_could_not_be_written_to_is_refused_before_training(planned):
    write_into(planned, "both", "config.toml", CONFIG.format(n_epochs=1))
    done = call(COMPETE, planned)
    assert done.returncode == 2
    assert "experiments/both is an experiment of another kind" in done.stderr
    assert not (planned / "experiments/teacher/folds").exists()


def test_a_further_seed_of_a_base_model_is_refused_before_training(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    more = CONFIG.format(n_epochs=8).replace("n_folds = 3", "n_folds = 3\nseeds = [0, 1]")
    write_into(folder, "teacher", "config.toml", more)
    refused = call(COMPETE, folder)
    assert refused.returncode == 2
    assert "teacher is asked for the further seeds [1]); --force replaces it" in refused.stderr
    assert len(list((folder / "experiments/teacher/folds").iterdir())) == 3


def test_another_method_is_refused_before_training_and_experiments_may_be_named_by_path(
    finished, tmp_path
):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    by_path = ["compete", "experiments/both/", *FILES]
    assert numbers_of(call(by_path, folder))["experiment"] == "both"
    write_into(folder, "both", "plan.toml", PLAN.replace('"mean"', '"median"'))
    shutil.rmtree(folder / "experiments/pupil/folds")
    refused = call(COMPETE, folder)
    assert refused.returncode == 2
    assert "holds another blend (method mean, now median); --force replaces it" in refused.stderr
    assert not (folder / "experiments/pupil/folds").exists()


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (PLAN.replace('["teacher", "pupil"]', '["teacher"]', 1), "pupil is not one of runs"),
        (PLAN.replace('["teacher", "pupil"]', '["pupil", "teacher"]', 1), "trained after it"),
        (
            PLAN.replace('"teacher", "pupil"]', '"teacher", "both"]', 1),
            "the blend will be called both",
        ),
        (PLAN.replace('"pupil"]', '"pupil", "absent"]', 1), "absent/config.toml: no such"),
        (PLAN.replace("method", "methods"), "blend.methods"),
        (PLAN.replace('"mean"', '"meen"'), "meen"),
        (PLAN.replace('method = "mean"', 'rule = "haff"'), "haff"),
        (PLAN.replace('"teacher", "pupil"]', '"teacher", "teacher"]', 1), "runs must be unique"),
        (PLAN.replace('"teacher"', '"experiments/teacher"'), "must stand alone, without experim"),
        ("runs = []", "runs"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_is_trained(planned, plan, message):
    write_into(planned, "both", "plan.toml", plan)
    before = sorted(planned.rglob("*"))
    done = call(COMPETE, planned)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
    assert sorted(planned.rglob("*")) == before


def test_runs_on_unlike_files_or_in_the_folder_of_a_blend_are_refused(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    own = CONFIG.format(n_epochs=1) + '[data]\ntrain = "train.csv"\ncompetition = "no"\n'
    write_into(folder, "pupil", "config.toml", own)
    write_into(folder, "fresh", "plan.toml", PLAN)
    unlike = call(["compete", "fresh", *FILES], folder)
    assert (unlike.returncode, unlike.stdout) == (2, "")
    assert "pupil and teacher must name the same competition and files" in unlike.stderr
    write_into(folder, "both", "config.toml", CONFIG.format(n_epochs=1))
    write_into(folder, "fresh", "plan.toml", PLAN.replace('"teacher"', '"both"'))
    assert "experiments/both holds a blend" in call(["compete", "fresh"], folder).stderr


def test_an_unknown_plan_is_refused_with_the_name_that_it_is_like(tmp_path):
    done = call(["compete", "bst-cpu"], tmp_path)
    assert done.returncode == 2
    assert "bst-cpu/plan.toml: no such plan, did you mean best-cpu?" in done.stderr
    write_into(tmp_path, "mine", "plan.toml", PLAN)
    done = call(["compete", "nothing-like-it"], tmp_path)
    assert "no such plan (there are: auto, best-cpu, best-gpu, mine, rocket-quant)" in done.stderr


def test_runs_that_name_no_files_take_those_of_a_run_that_began(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    for name in ("pupil", "both"):
        shutil.rmtree(folder / "experiments" / name)
    write_plan(folder)
    numbers = numbers_of(call(["compete", "both"], folder))
    assert [each["n_folds_trained"] for each in numbers["runs"].values()] == [0, 3]
    assert numbers["submission"] == "submissions/both.csv"


@pytest.mark.parametrize("name", presets("plan.toml"))
def test_every_plan_that_comes_with_the_package_is_valid(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = read_plan(name)
    assert [each.run.name for each in prepare_all(plan, [])] == list(plan.runs)
    assert set(plan.runs) <= set(presets("config.toml"))
