"""A blend on new data: nets of runs beside files of imported base models."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from commands import few_trials, run_hbcomp
from finished_experiments import K, M, write_files

from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.experiment.predictions import Predictions, write_probs_csv
from hbcomp.submissions.files import read_submission

TINY = ["net.widths=[4]", "net.strides=[2]", "net.hidden=8", "train.n_epochs=1", "folds.n_folds=2"]
SETTINGS = [*TINY, "compute.device=cpu", "compute.n_threads=1", "data.train=train.csv"]
OWN = "data.competition=."  # names the ids beat_id


def call(folder, *words):
    return run_hbcomp([str(word) for word in words], folder, prepare=few_trials)


def numbers_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def call_the_ids_beat_id(path):
    path.write_text(f"beat_{path.read_text()}")


@pytest.fixture(scope="module")
def blended(tmp_path_factory):
    """A folder with a run of two nets, an imported base model, and the blend of both."""
    folder = tmp_path_factory.mktemp("blended")
    write_files(folder)
    write_competition_csv(folder / "testB.csv", make_rows(n=7, t=16, k=K, seed=9))
    for name in ("train.csv", "test.csv", "testB.csv"):
        call_the_ids_beat_id(folder / name)
    like = ["--train", "train.csv", "--test", "test.csv", "--like", "heartbeat"]
    numbers_of(call(folder, "init", *like))
    of = [word for each in [*SETTINGS, OWN] for word in ("--set", each)]
    numbers_of(call(folder, "cv", "quickstart", *of, "--name", "nets"))
    place = folder / "experiments/nets"
    numbers_of(
        call(
            folder,
            *("import-oof", "mine", "--like", "nets"),
            *("--oof", place / "oof.csv", "--test", place / "test.csv"),
        )
    )
    fixed = ["--method", "mean", "--calibration", "none", "--rule", "argmax"]
    numbers_of(call(folder, "blend", "nets", "mine", *fixed))
    return folder


def answers_of(folder, *words):
    numbers = numbers_of(call(folder, "predict", "blend", *words))
    return read_submission(folder / numbers["submission"])


def test_on_its_own_test_rows_it_gives_the_very_bytes_it_wrote(blended):
    before = (blended / "submissions/blend.csv").read_bytes()
    assert len(answers_of(blended).ids) == M
    assert (blended / "submissions/blend.csv").read_bytes() == before


@pytest.mark.parametrize("label", range(K))
def test_new_rows_are_answered_by_nets_and_files_together(blended, label):
    ids = np.array([str(i) for i in range(7)])[::-1]
    write_probs_csv(blended / "mineB.csv", ids, np.eye(K)[np.full(7, label)])
    got = answers_of(blended, "--data", "testB.csv", "--base-model", "mine=mineB.csv")
    assert got.ids.tolist() == ids[::-1].tolist(), "the order is that of the data"
    # Half the weight on one class is more than nets of one epoch can set against it.
    assert np.array_equal(got.answers, np.eye(K)[np.full(7, label)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "testB.csv"], "base models: mine was imported and has no nets; give its"),
        (["--base-model", "nets=x.csv"], "base models: nets is no imported base model"),
        (
            ["--base-model", "mine=x.csv"],
            "base models: mine needs no file for the test rows it came with",
        ),
        (["--base-model", "mine"], "--base-model must look like NAME=FILE, but got mine"),
        (["--fold", "all"], "--fold all is for a run, but blend is a blend"),
    ],
)
def test_what_cannot_be_answered_is_one_line(blended, words, message):
    done = call(blended, "predict", "blend", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")


def test_a_base_model_has_one_file(blended):
    words = [word for file in "ab" for word in ("--base-model", f"mine={file}")]
    done = call(blended, "predict", "blend", "--data", "testB.csv", *words)
    assert done.stderr == "error: --base-model takes one file for each name, but mine has two\n"


def test_base_models_made_anew_and_test_rows_that_changed_are_refused(blended, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(blended, copied)
    write_competition_csv(copied / "test.csv", make_rows(n=M, t=16, k=K, seed=77))
    call_the_ids_beat_id(copied / "test.csv")
    changed = call(copied, "predict", "blend")
    assert changed.stderr.splitlines()[-1] == (
        "error: test rows: test.csv holds other rows than nets was made on; name it with --data"
    )
    path = copied / "experiments/mine/predictions.npz"
    stored = Predictions.load(path)
    replace(stored, oof_probs=stored.oof_probs[:, ::-1]).save(path)
    anew = call(copied, "predict", "blend", "--data", "testB.csv", "--base-model", "mine=x.csv")
    assert anew.stderr == (
        "error: experiments/blend/recipe.json: mine was trained or imported again since; "
        "blend again\n"
    )


@pytest.mark.parametrize("name", ["blend", "mine"])
def test_nothing_is_trained_in_the_folder_of_a_blend_or_an_import(blended, name):
    kind = {"blend": "blend", "mine": "imported"}[name]
    before = (blended / f"experiments/{name}/report.json").read_bytes()
    of = [word for each in [*SETTINGS, OWN] for word in ("--set", each)]
    done = call(blended, "cv", "quickstart", *of, "--name", name, "--force")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        f"error: experiments/{name} holds a {kind} experiment; choose another --name"
    )
    assert (blended / f"experiments/{name}/report.json").read_bytes() == before


def test_without_test_rows_a_run_and_a_blend_of_it_are_whole_and_answer_new_rows(tmp_path):
    write_files(tmp_path)
    of = [word for each in SETTINGS for word in ("--set", each)]
    made = numbers_of(call(tmp_path, "cv", "quickstart", *of, "--name", "nets"))
    numbers_of(call(tmp_path, "cv", "quickstart", *of, "--set", "net.hidden=4", "--name", "others"))
    blend = numbers_of(call(tmp_path, "blend", "nets", "others"))
    assert (made["submission"], blend["submission"]) == (None, None)
    assert (tmp_path / "experiments/blend/report.html").exists()
    refused = call(tmp_path, "predict", "blend")
    assert refused.stderr.splitlines()[-1].startswith("error: the run had no test file; name one")
    answered = numbers_of(call(tmp_path, "predict", "blend", "--data", "test.csv"))
    assert answered["n_rows"] == M


def test_every_submission_calls_the_ids_as_the_competition_does(blended):
    numbers_of(call(blended, "predict", "nets", "--data", "testB.csv"))
    files = ["blend.csv", "mine.csv", "nets.csv", "nets-testB.csv"]
    for name in files:
        header = (blended / "submissions" / name).read_text().splitlines()[0]
        assert header == "beat_id,label_0,label_1,label_2", name
        assert numbers_of(call(blended, "check", f"submissions/{name}"))["accepted"] is True
    words = ("check", "submissions/blend.csv", "--test", "test.csv", "--competition", "heartbeat")
    refused = call(blended, *words).stderr
    assert "no column 'id'" in refused
    assert "`hbcomp init` writes the competition.toml" in refused
    numbers_of(call(blended, "verify", "nets", "mine", "blend"))


def test_a_run_takes_no_base_model(blended):
    done = call(blended, "predict", "nets", "--base-model", "a=b")
    assert done.stderr == "error: --base-model is for a blend, but nets is none\n"


def test_an_imported_base_model_alone_has_nothing_to_predict_with(blended):
    done = call(blended, "predict", "mine")
    assert (done.returncode, done.stdout) == (2, "")
    assert "mine" in done.stderr
