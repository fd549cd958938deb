"""A blend on new data: nets of runs beside files of imported members."""

import json

import numpy as np
import pytest
from commands import run_hbcomp
from finished_experiments import K, M, write_files

from hbcomp.data.synthetic import make_beats, write_competition_csv
from hbcomp.predictions import write_probs_csv
from hbcomp.submissions.files import read_submission

TINY = ["net.widths=[4]", "net.strides=[2]", "net.hidden=8", "train.n_epochs=1", "folds.n_folds=2"]
SETTINGS = [*TINY, "compute.device=cpu", "compute.n_threads=1", "data.train=train.csv"]


def without_pictures():
    from hbcomp import importing, run_report
    from hbcomp.blending import methods, page

    methods.N_TRIALS = 5
    page.probs_pictures = lambda predictions, rules: []
    run_report.draw = lambda outcome, run: []
    importing.probs_pictures = lambda predictions, rules: []


def call(folder, *words):
    return run_hbcomp([str(word) for word in words], folder, prepare=without_pictures)


def numbers_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def blended(tmp_path_factory):
    """A folder with a run of two nets, an imported member, and the blend of both."""
    folder = tmp_path_factory.mktemp("blended")
    write_files(folder)
    write_competition_csv(folder / "testB.csv", make_beats(n=7, t=16, k=K, seed=9))
    of = [word for each in [*SETTINGS, "data.test=test.csv"] for word in ("--set", each)]
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
    got = answers_of(blended, "--data", "testB.csv", "--member", "mine=mineB.csv")
    assert got.ids.tolist() == ids[::-1].tolist(), "the order is that of the data"
    # Half the weight on one class is more than nets of one epoch can set against it.
    assert np.array_equal(got.answers, np.eye(K)[np.full(7, label)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "testB.csv"], "members: mine was imported and has no nets; give its"),
        (["--member", "nets=x.csv"], "members: nets is no imported member"),
        (["--member", "mine=x.csv"], "members: mine needs no file for the test rows it came with"),
        (["--member", "mine"], "--member must look like NAME=FILE, but got mine"),
        (["--fold", "all"], "--fold all is for a run, but blend is a blend"),
    ],
)
def test_what_cannot_be_answered_is_one_line(blended, words, message):
    done = call(blended, "predict", "blend", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")


def test_a_run_takes_no_member(blended):
    done = call(blended, "predict", "nets", "--member", "a=b")
    assert done.stderr == "error: --member is for a blend, but nets is none\n"


def test_an_imported_member_alone_has_nothing_to_predict_with(blended):
    done = call(blended, "predict", "mine")
    assert (done.returncode, done.stdout) == (2, "")
    assert "mine" in done.stderr
