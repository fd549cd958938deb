"""Which rows a submission must answer, where the user names no file: those of its experiment."""

import json

import numpy as np
import pytest
from commands import run_hbcomp
from finished_experiments import K, M, write_experiment, write_files

from hbcomp.competitions.load import load_sample
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance, write_submission
from hbcomp.submissions.ledger import read_ledger


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the experiment `one` and its submission for test.csv."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    predictions, _ = write_experiment(tmp_path, "one")
    write("one", predictions.test_ids)
    return tmp_path


def write(name, ids, source="one", recipe="cv of 2 nets, on test.csv", k=K):
    provenance = Provenance(source, recipe, "half", "abs-sum", "lower", None, None, None)
    write_submission(FOLDER / f"{name}.csv", ids, np.eye(k)[np.arange(len(ids)) % k], provenance)


def swap_rows(name="one"):
    path = FOLDER / f"{name}.csv"
    header, first, second, *rest = path.read_text().splitlines()
    path.write_text("\n".join([header, second, first, *rest, ""]))


def numbers_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def refusal(done):
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    return done.stderr.splitlines()[-1]


def test_check_and_submit_take_the_test_file_of_the_run(here):
    done = run_hbcomp(["check", "submissions/one.csv"], here)
    assert numbers_of(done)["test"] == "test.csv"
    assert "every check passed against test.csv" in done.stderr
    done = run_hbcomp(["submit", "submissions/one.csv"], here)
    assert numbers_of(done)["n_rows"] == M
    assert "the ids of test.csv in their order" in done.stderr


def test_an_edited_file_must_have_the_ids_that_its_run_answered(here):
    swap_rows()
    for words in (["check"], ["submit", "--by-hand"]):
        line = refusal(run_hbcomp([words[0], "submissions/one.csv", *words[1:]], here))
        assert "the ids must be in the test file's order" in line
    assert not read_ledger(FOLDER)[0].times_sent


def test_a_file_that_predict_wrote_answers_the_file_it_was_given(here):
    header, *rows = (here / "test.csv").read_text().splitlines()
    (here / "b.csv").write_text("\n".join([header, *(f"b{row}" for row in rows), ""]))
    ids = np.array([f"b{row.partition(',')[0]}" for row in rows])
    write("one-b", ids, recipe="predict of 2 nets, on b.csv")
    assert numbers_of(run_hbcomp(["check", "submissions/one-b.csv"], here))["test"] == "b.csv"
    assert numbers_of(run_hbcomp(["submit", "submissions/one-b.csv"], here))["n_rows"] == M


def test_a_blend_answers_the_test_file_of_its_base_models(here):
    predictions, _ = write_experiment(
        here, "blend", kind="blend", base_models={"one": 1.0}, config={}
    )
    write("blend", predictions.test_ids, source="blend", recipe="blend by mean of one, two")
    done = run_hbcomp(["check", "submissions/blend.csv"], here)
    assert numbers_of(done)["test"] == "test.csv"


def test_a_test_file_that_is_gone_is_asked_for(here):
    (here / "test.csv").rename(here / "moved.csv")
    line = refusal(run_hbcomp(["submit", "submissions/one.csv"], here))
    assert "test.csv: no such file, but submissions/one.csv was written for it" in line
    numbers_of(run_hbcomp(["submit", "submissions/one.csv", "--test", "moved.csv"], here))


def test_a_file_of_nobody_is_checked_only_against_a_named_file(here):
    (FOLDER / "mine.csv").write_text((FOLDER / "one.csv").read_text().replace(",1,0,0", ",0,1,0"))
    assert "name the test file with --test" in refusal(
        run_hbcomp(["check", "submissions/mine.csv"], here)
    )
    words = ["submit", "submissions/mine.csv", "--by-hand"]
    assert "name the test file with --test" in refusal(run_hbcomp(words, here))
    assert len(read_ledger(FOLDER)) == 1
    numbers_of(run_hbcomp(["check", "submissions/mine.csv", "--test", "test.csv"], here))
    numbers_of(run_hbcomp([*words, "--test", "test.csv"], here))


def test_score_knows_the_labels_of_the_bundled_rows_alone_and_says_so(here):
    line = refusal(run_hbcomp(["score", "submissions/one.csv"], here))
    assert "name the file of the labels with --truth" in line
    ids = load_sample()[1].ids
    write("sample", ids, source="sample", k=4)
    done = run_hbcomp(["score", "submissions/sample.csv"], here)
    assert numbers_of(done)["n_rows"] == len(ids)
    assert "The labels are those of the bundled test rows" in done.stderr
