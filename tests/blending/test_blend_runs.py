"""The command `hbcomp blend`, end to end, on experiments made by construction."""

import csv
import json

import numpy as np
import pytest
from commands import Strike, few_trials, run_hbcomp
from finished_experiments import N, write_experiment, write_files

from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.recipe import read_recipe
from hbcomp.scoring.metrics import MetricConfig
from hbcomp.submissions.files import read_submission


def call(words, cwd, strike=None, *, draws=False):
    return run_hbcomp(words, cwd, strike, prepare=few_trials, draws=draws)


def last_json(done):
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


@pytest.fixture
def three(tmp_path):
    """A folder with three runs that err in other rows, one a little better."""
    write_files(tmp_path)
    for name, n_wrong, start in [("a", 6, 0), ("b", 6, 10), ("c", 4, 20)]:
        write_experiment(tmp_path, name, n_wrong, start)
    return tmp_path


def test_a_blend_is_an_experiment_with_predictions_recipe_report_and_submission(three):
    numbers = last_json(call(["blend", "a", "b", "c"], three, draws=True))
    folder = RunFolder(three / "experiments/blend")
    stored = Predictions.load(folder.predictions_file)
    recipe = read_recipe(folder.recipe_file)
    files = [three / f"experiments/{name}/predictions.npz" for name in "abc"]
    test = np.stack([Predictions.load(file).test_probs for file in files])
    submitted = read_submission(three / numbers["submission"])
    assert np.array_equal(submitted.answers, recipe.answers(test))
    assert np.array_equal(submitted.ids, stored.test_ids)
    np.testing.assert_allclose(stored.test_probs, recipe.probs(test))
    report = json.loads(folder.report_file.read_text())
    assert (report["kind"], report["data"]["train"], report["data"]["n_train"]) == (
        "blend",
        "train.csv",
        N,
    )
    assert list(report["base_models"]) == ["a", "b", "c"]
    assert report["score"] == pytest.approx(numbers["score"], abs=1e-6)
    assert numbers["metric"] == "abs-sum"
    assert report["metric"] == recipe.metric.model_dump(mode="json", exclude_unset=True)
    assert report["metric"]["config"] == {"name": "abs-sum", "scale_rows": 20_000}
    assert numbers["against_best_base_model"]["base_model"] == "c"
    assert numbers["against_best_base_model"]["difference"] < 0
    page = (folder.path / "report.html").read_text()
    assert "Errors of one base model that another one gets right" in page
    assert page.count("<img") == 3
    with (folder.path / "oof.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == N


@pytest.mark.parametrize(
    ("metric", "method", "rule"),
    [("macro-f1", "hill-climb", "argmax"), ("macro-roc-auc", "ranks", "raw")],
)
def test_where_greater_is_better_recipe_page_and_last_line_say_so(tmp_path, metric, method, rule):
    write_files(tmp_path)
    spec = {"config": {"name": metric}, "classes": ["0", "1", "2"]}
    for name, n_wrong, start in [("a", 12, 0), ("b", 12, 20), ("c", 8, 40)]:
        write_experiment(tmp_path, name, n_wrong, start, metric=MetricConfig(name=metric))
    done = call(["blend", "a", "b", "c", "--method", method, "--rule", rule], tmp_path)
    numbers = last_json(done)
    assert (numbers["metric"], numbers["rule"]) == (metric, rule)
    assert f"by {metric} (higher is better) against the best base model, c (" in " ".join(
        done.stderr.split()
    )
    assert numbers["against_best_base_model"]["difference"] > 0
    folder = RunFolder(tmp_path / "experiments/blend")
    recipe = read_recipe(folder.recipe_file)
    assert json.loads(folder.recipe_file.read_text())["metric"] == spec
    files = [tmp_path / f"experiments/{name}/predictions.npz" for name in "abc"]
    stack = np.stack([Predictions.load(file).test_probs for file in files])
    submitted = read_submission(tmp_path / numbers["submission"])
    assert np.array_equal(submitted.answers, recipe.answers(stack))
    page = (folder.path / "report.html").read_text()
    assert "below zero the model helps" in page
    assert f"rule {rule}" in page
    assert "threshold 0.5" not in page


def test_the_same_command_again_writes_the_same_bytes(three):
    first = last_json(call(["blend", "a", "b", "c", "--method", "optuna"], three))
    of_blend = [f"experiments/blend/{name}" for name in ("recipe.json", "predictions.npz")]
    kept = [*of_blend, "submissions/blend.csv"]
    before = [(three / path).read_bytes() for path in kept]
    again = last_json(call(["blend", "a", "b", "c", "--method", "optuna"], three))
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert [(three / path).read_bytes() for path in kept] == before
    assert not list((three / "submissions").glob("blend.*.csv")), "nothing was set aside"


def test_another_blend_of_the_name_is_refused_and_replaced_only_by_force(three):
    last_json(call(["blend", "a", "b"], three))
    refused = call(["blend", "a", "c"], three)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "error: experiments/blend holds another blend; --name NEW keeps both, --force replaces it\n"
    )
    assert last_json(call(["blend", "a", "c", "--force"], three))
    assert last_json(call(["blend", "a", "b", "--name", "ab"], three))["experiment"] == "ab"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "a blend combines two experiments or more, but got a alone"),
        (["a", "a"], "base models: a is named 2 times"),
        (["a", "blend"], "base models: blend is a blend; name its base models instead"),
        (["a", "nowhere"], "experiments/nowhere/predictions.npz: no such file"),
        (["a", "../b"], "an experiment's name must be letters, digits"),
        (["a", "b", "--name", "a"], "experiments/a is an experiment of another kind"),
        (["a", "b", "--method", "magic"], "method must be one of auto, mean, geometric"),
        (["a", "b", "--calibration", "x"], "calibration must be one of auto, none, temperature"),
        (["a", "b", "--rule", "x"], "rule must be one of auto, half"),
        (
            ["a", "b", "accurate"],
            "all must be scored as a was, by abs-sum (scale_rows = 20000) of the classes 0, 1, 2: "
            "accurate was scored by accuracy of the classes 0, 1, 2",
        ),
        (
            ["a", "other"],
            "all experiments must have the same rows in the same order: other was made on",
        ),
    ],
)
def test_what_cannot_be_blended_is_one_line(three, words, message):
    (three / "experiments/blend").mkdir()
    (three / "experiments/blend/recipe.json").write_text("{}")
    write_experiment(three, "accurate", metric=MetricConfig(name="accuracy"))
    write_files(three, seed=1)
    write_experiment(three, "other")
    before = sorted(three.rglob("*"))
    done = call(["blend", *words], three)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert [path for path in sorted(three.rglob("*")) if path not in before and path.suffix] in (
        [],
        [three / "experiments/a/run.lock"],
    )


def test_killed_before_its_report_the_same_command_completes_it(three):
    strike = Strike("experiment.finish", "write_part")
    assert call(["blend", "a", "b"], three, strike=strike).returncode == -9
    assert not (three / "experiments/blend/report.json").exists()
    last_json(call(["blend", "a", "b"], three))
    assert (three / "experiments/blend/report.json").exists()
