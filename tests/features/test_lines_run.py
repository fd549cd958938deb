"""A run on distances to lines, from the command's words to predictions of new rows."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from commands import run_hbcomp

from hbcomp.data.synthetic import make_rows, write_competition_csv

SETTINGS = [
    "train.n_epochs=4",
    "train.batch_size=8",
    "folds.n_folds=3",
    "refit.seeds=[1]",
    "compute.device=cpu",
    "compute.n_threads=1",
    "data.train=train.csv",
    "data.test=test.csv",
    "features.n_neighbours=3",
    "features.views=[{}, {length=8, normalise=true}]",
]
WORDS = ["cv", "lines", *[word for each in SETTINGS for word in ("--set", each)]]


def last_json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    write_competition_csv(folder / "train.csv", make_rows(n=60, t=16, k=3))
    test = replace(make_rows(n=20, t=16, k=3, seed=1), ids=np.arange(100, 120).astype(str))
    write_competition_csv(folder / "test.csv", replace(test, labels=None))
    last_json(run_hbcomp(WORDS, folder))
    return folder


def test_a_run_on_lines_is_verified_to_the_bit(finished):
    numbers = last_json(run_hbcomp(["verify", "lines", "--all-folds"], finished))
    assert numbers["n_failed"] == numbers["n_not_checked"] == 0


def test_predict_answers_its_own_test_rows_with_the_bytes_of_the_run(finished):
    last_json(run_hbcomp(["predict", "lines", "--out", "again.csv"], finished))
    again = (finished / "again.csv").read_bytes()
    assert again == (finished / "submissions/lines.csv").read_bytes()


def test_predict_answers_new_rows_without_the_old_test_file(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "new")
    (folder / "test.csv").rename(folder / "new.csv")
    last_json(run_hbcomp(["predict", "lines", "--data", "new.csv", "--out", "again.csv"], folder))
    again = (folder / "again.csv").read_bytes()
    assert again == (finished / "submissions/lines.csv").read_bytes()


def test_predict_refuses_when_the_training_file_is_another(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "other")
    write_competition_csv(folder / "train.csv", make_rows(n=60, t=16, k=3, seed=5))
    done = run_hbcomp(["predict", "lines", "--out", "again.csv"], folder)
    assert done.returncode == 2
    assert "lines: its nets were trained with other train data, folds of seed 0" in done.stderr


def test_nets_whose_split_was_changed_are_not_asked(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "resplit")
    rows = [f"{row},{row % 3}" for row in range(60)]
    (folder / "folds.csv").write_text("\n".join(["id,fold", *rows, ""]))
    last_json(run_hbcomp([*WORDS, "--set", "folds.file=folds.csv", "--name", "own"], folder))
    (folder / "folds.csv").write_text("\n".join(["id,fold", *rows[:-2], "58,2", "59,1", ""]))
    done = run_hbcomp(["predict", "own", "--data", "test.csv", "--out", "none.csv"], folder)
    assert done.returncode == 2
    assert "own: its nets were trained with other folds of seed 0" in done.stderr
    assert not (folder / "none.csv").exists()
    done = run_hbcomp(["verify", "own"], folder)
    assert "trained with other folds of seed 0" in done.stderr
    assert "its net gives other probabilities" not in done.stderr


def test_nets_on_everything_see_every_row(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "refit")
    last_json(run_hbcomp([*WORDS, "--fold", "all"], folder))
    numbers = last_json(run_hbcomp(["verify", "lines", "--all-folds"], folder))
    assert numbers["n_failed"] == numbers["n_not_checked"] == 0


def test_missing_folds_come_back_with_their_bits_from_two_workers(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "again")
    for fold in (0, 2):
        shutil.rmtree(folder / f"experiments/lines/folds/0-{fold}")
    (folder / "submissions/lines.csv").unlink()
    assert last_json(run_hbcomp([*WORDS, "--jobs", "2"], folder))["n_folds_trained"] == 2
    for name in ("experiments/lines/predictions.npz", "submissions/lines.csv"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes()
