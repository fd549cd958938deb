"""Blends, and runs on lines, as models: their very probabilities, and what is refused."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import few_trials
from notebook_rows import TINY, make_arrays

import hbcomp
from hbcomp.experiment.recipe import read_recipe, write_recipe
from hbcomp.scoring.combinations import (
    Arithmetic,
    Combination,
    Geometric,
    Median,
    RankMean,
    Stacked,
    Vote,
)
from hbcomp.serving.export import export_run
from hbcomp.system.command import console

X, Y, T, _ = make_arrays()
LINES = {"train.n_epochs": 2, "train.min_steps": 0, "compute.n_threads": 1, "net.name": "linear"}
PARTS = (0.25, 0.75)
ROW_BY_ROW = [
    Arithmetic(weights=PARTS),
    Geometric(weights=PARTS),
    Median(),
    Vote(weights=PARTS),
    Stacked(
        coefficients=(((1.0, 0.5, 0.0),) * 3, ((0.0, 0.25, 1.0),) * 3), intercept=(0.5, 0.0, -0.5)
    ),
]
RECIPE, REPORT = Path("experiments/both/recipe.json"), Path("experiments/near/report.json")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run of a net, one on lines and a blend of both; the results of two."""
    folder = tmp_path_factory.mktemp("blended")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patched:
        from hbcomp.blending import methods
        from hbcomp.reporting.figures import style

        patched.setattr(methods, "N_TRIALS", methods.N_TRIALS)
        few_trials()
        patched.setattr(style, "to_png", lambda _: b"")
        options = {"metric": "macro-f1", "n_folds": 2, "jobs": 1}
        net = hbcomp.cross_validate(X, Y, T, run="mine", overrides=TINY, **options)
        near = hbcomp.cross_validate(
            X, Y, T, run="near", preset="lines", overrides=LINES, **options
        )
        return folder, near, hbcomp.blend([net, near], method="geometric", run="both")


@pytest.fixture
def results(here, trained):
    folder, *results = trained
    shutil.copytree(folder, here, dirs_exist_ok=True)
    return results


def export(run, to, **options):
    options = {"as_onnx": False, "fold": None, "force": False, **options}
    return export_run(run, Path(to), console, **options)


def test_runs_on_lines_and_blends_give_their_very_probabilities_also_exported(here, results):
    loaded = [(hbcomp.load(each.run), each) for each in results]
    assert export("near", "near")["n_nets"] == 2
    assert export("both", "both")["n_nets"] == 4
    shutil.rmtree("experiments")
    loaded += [(hbcomp.load(each.run), each) for each in results]
    for model, result in loaded:
        assert np.array_equal(model.predict_proba(T), result.test_probs)
        assert np.array_equal(model.answers(T), result.answers)
        assert np.array_equal(model.predict(T), result.predicted)
        assert (model.card.score, model.card.shape) == (result.score, (1, T.shape[1]))
        alone = np.concatenate([model.predict_proba(row[None]) for row in T])
        assert np.allclose(alone, result.test_probs, atol=1e-5)


@pytest.mark.parametrize("combination", ROW_BY_ROW, ids=lambda each: each.kind)
def test_every_way_to_combine_row_by_row_is_that_of_the_recipe(here, results, combination):
    recipe = read_recipe(RECIPE).model_copy(update={"combination": combination})
    write_recipe(RECIPE, recipe)
    stack = np.stack([hbcomp.load(name).predict_proba(T) for name in recipe.base_models])
    assert np.array_equal(hbcomp.load("both").predict_proba(T), recipe.probs(stack))


def test_there_is_a_test_of_every_way_to_combine_but_ranks():
    assert {type(each) for each in ROW_BY_ROW} == {*Combination.__args__} - {RankMean}


def test_ranks_and_changed_or_missing_base_models_are_refused(here, results):
    with pytest.raises(hbcomp.InputError, match="a blend combines nets of folds"):
        hbcomp.load("both", fold="all")
    recipe = read_recipe(RECIPE)
    write_recipe(RECIPE, recipe.model_copy(update={"fingerprints": ("0", recipe.fingerprints[1])}))
    with pytest.raises(hbcomp.InputError, match="mine was trained or imported again since"):
        export("both", "model")
    assert not Path("model").exists()
    write_recipe(RECIPE, recipe.model_copy(update={"combination": RankMean(weights=PARTS)}))
    with pytest.raises(
        hbcomp.InputError, match=r"it blends ranks, .* no row has an answer by itse"
    ):
        hbcomp.load("both")
    write_recipe(RECIPE, recipe)
    shutil.rmtree("experiments/near")
    with pytest.raises(
        hbcomp.InputError, match="near: neither an exported model nor a finished ru"
    ):
        hbcomp.load("both")


def test_a_base_model_that_was_imported_is_refused(here, results):
    report = json.loads(REPORT.read_text())
    REPORT.write_text(json.dumps({**report, "kind": "imported"}))
    with pytest.raises(hbcomp.InputError, match="near: only nets make a model"):
        hbcomp.load("both")


def test_references_are_those_of_the_run_and_undamaged(here, results, monkeypatch):
    export("near", "model")
    file = Path("model/references.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(hbcomp.InputError, match=r"references.safetensors: damaged: its sha256"):
        hbcomp.load("model")
    monkeypatch.setattr("hbcomp.serving.onnx_graph.find_spec", lambda name: True)
    with pytest.raises(hbcomp.InputError, match="measured from training rows cannot be written as"):
        export("near", "onnx", as_onnx=True)
    report = json.loads(REPORT.read_text())
    report["config"]["pseudo"]["runs"] = ["mine"]
    REPORT.write_text(json.dumps(report))
    with pytest.raises(hbcomp.InputError, match="rows with pseudo-labelled test rows, too"):
        hbcomp.load("near")
    report["config"]["pseudo"]["runs"] = []
    REPORT.write_text(json.dumps(report))
    shutil.rmtree("experiments/near/data")
    with pytest.raises(hbcomp.InputError, match=r"neither a folder with a competition\.toml"):
        hbcomp.load("near")
