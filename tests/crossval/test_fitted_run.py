"""Runs of nets that are fitted, from the command's words to predictions of new rows."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from commands import run_hbcomp

from hbcomp.data.synthetic import make_rows, write_competition_csv

SETTINGS = {
    "rocket": ["net.n_features=84"],
    "quant": ["net.n_trees=8"],
}
SHARED = [
    "folds.n_folds=3",
    "refit.seeds=[1]",
    "compute.device=cpu",
    "compute.n_threads=1",
    "data.train=train.csv",
    "data.test=test.csv",
]


def words(name):
    return ["cv", name, *[word for each in SHARED + SETTINGS[name] for word in ("--set", each)]]


def last_json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    write_competition_csv(folder / "train.csv", make_rows(n=60, t=16, k=3))
    test = replace(make_rows(n=20, t=16, k=3, seed=1), ids=np.arange(100, 120).astype(str))
    write_competition_csv(folder / "test.csv", replace(test, labels=None))
    return folder


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def finished(request, data, tmp_path_factory):
    folder = shutil.copytree(data, tmp_path_factory.mktemp(request.param) / "run")
    last_json(run_hbcomp(words(request.param), folder))
    last_json(run_hbcomp([*words(request.param), "--fold", "all"], folder))
    return request.param, folder


def test_its_nets_and_those_on_everything_are_verified_to_the_bit(finished):
    name, folder = finished
    numbers = last_json(run_hbcomp(["verify", name, "--all-folds"], folder))
    assert numbers["n_failed"] == numbers["n_not_checked"] == 0


def test_predict_needs_no_training_rows(finished, tmp_path):
    name, folder = finished
    alone = shutil.copytree(folder, tmp_path / "alone")
    (alone / "train.csv").unlink()
    last_json(run_hbcomp(["predict", name, "--data", "test.csv", "--out", "again.csv"], alone))
    again = (alone / "again.csv").read_bytes()
    assert again == (folder / f"submissions/{name}.csv").read_bytes()


def test_a_fold_that_is_missing_is_fitted_again_with_the_same_bits(finished, tmp_path):
    name, folder = finished
    again = shutil.copytree(folder, tmp_path / "again")
    shutil.rmtree(again / f"experiments/{name}/folds/0-1")
    assert last_json(run_hbcomp(words(name), again))["n_folds_trained"] == 1
    of_net = f"experiments/{name}/folds/0-1/model.safetensors"
    assert (again / of_net).read_bytes() == (folder / of_net).read_bytes()
    of_oof = f"experiments/{name}/oof.csv"
    assert (again / of_oof).read_bytes() == (folder / of_oof).read_bytes()


def test_its_options_are_tuned(finished):
    name, folder = finished
    (folder / "space.toml").write_text(
        {
            "rocket": '"net.n_features" = { choices = [84, 168] }',
            "quant": '"net.n_trees" = { choices = [4, 8] }',
        }[name]
    )
    tune = ["tune", name, "--space", "space.toml", "--trials", "2", "--best", "0"]
    assert last_json(run_hbcomp(tune, folder))["n_trials"] == 2
