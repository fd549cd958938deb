"""Early stopping through the commands: continued, on everything, and marked if too good."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import run_hbcomp
from test_cv import write_data

SETTINGS = [
    "net.widths=[4]",
    "net.strides=[4]",
    "net.hidden=8",
    "train.n_epochs=6",
    "train.batch_size=16",
    "folds.n_folds=2",
    "refit.seeds=[0]",
    "compute.device=cpu",
    "compute.n_threads=1",
    "data.train=train.csv",
    "data.test=test.csv",
    "train.early_stopping.patience=2",
    "decision.rule=raw",  # other probabilities are other submissions
]
MARK = "epochs chosen on the scored rows"


def call(folder, *words, settings=()):
    return run_hbcomp([*words, *[word for each in settings for word in ("--set", each)]], folder)


def done(folder, *words, settings=()):
    answer = call(folder, *words, settings=settings)
    assert answer.returncode == 0, answer.stderr
    return answer


def report_of(folder, name):
    return json.loads((folder / "experiments" / name / "report.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run that watches inner rows and one that watches the scored fold."""
    folder = tmp_path_factory.mktemp("stopped")
    write_data(folder)
    done(folder, "cv", "quickstart", "--name", "inner", settings=SETTINGS)
    watching = [*SETTINGS, "train.early_stopping.watch=scored-fold"]
    said = done(folder, "cv", "quickstart", "--name", "biased", settings=watching)
    (folder / "stderr").write_text(said.stderr)
    (folder / "stdout").write_text(said.stdout)
    return folder


def test_the_report_counts_the_epochs_of_every_net(folder):
    report = report_of(folder, "inner")
    for each in report["folds"]:
        history = pd.read_csv(folder / f"experiments/inner/folds/0-{each['fold']}/history.csv")
        assert each["n_epochs"] == len(history) <= 6
        assert each["best_epoch"] == history["watched_loss"].argmin() + 1
    assert "selected" not in report
    page = (folder / "experiments/inner/report.html").read_text()
    assert "best epoch" in page
    assert "optimistic" not in page


def test_a_run_that_continues_after_a_fold_has_the_same_bits(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copy / "experiments/inner/folds/0-1")
    (copy / "experiments/inner/report.json").unlink()
    done(copy, "cv", "inner")
    for name in ("folds/0-1/model.safetensors", "oof.csv"):
        file = f"experiments/inner/{name}"
        assert (copy / file).read_bytes() == (folder / file).read_bytes()


def test_another_patience_is_another_run(folder):
    said = call(folder, "cv", "inner", settings=["train.early_stopping.patience=3"])
    assert said.returncode == 2
    assert "train.early_stopping was" in said.stderr


def test_a_score_of_watched_rows_is_marked_wherever_it_is_shown(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    said = " ".join((copy / "stderr").read_text().split())
    assert "warning: epochs chosen on the scored rows make the score too good" in said
    assert f"; too good: {MARK}" in said
    assert json.loads((copy / "stdout").read_text().splitlines()[-1])["selected"] == ["epochs"]
    assert report_of(copy, "biased")["selected"] == ["epochs"]
    page = (copy / "experiments/biased/report.html").read_text()
    assert "(optimistic)" in page
    assert f"optimistic: {MARK}" in page
    ledger = pd.read_csv(copy / "submissions/ledger.csv").set_index("source")["recipe"]
    assert ledger["biased"].endswith(f"; {MARK}")
    assert MARK not in ledger["inner"]
    assert "(optimistic)" in " ".join(done(copy, "ledger").stderr.split())
    done(copy, "report")
    ranking = (copy / "experiments/report.html").read_text()
    assert "(optimistic)" in ranking
    compared = " ".join(done(copy, "compare", "inner", "biased").stderr.split())
    assert "The epochs were chosen for biased on these very rows" in compared
    assert "chosen for inner" not in compared


def test_a_blend_with_a_marked_base_model_is_marked(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    said = " ".join(
        done(copy, "blend", "inner", "biased", "--name", "both", "--rule", "raw").stderr.split()
    )
    assert "and epochs were chosen for the blend on these very rows" in said
    assert f"too good: {MARK}" in said
    assert report_of(copy, "both")["selected"][-1] == "epochs"
    ledger = pd.read_csv(copy / "submissions/ledger.csv").set_index("source")["recipe"]
    assert ledger["both"].endswith(f"; {MARK}")
    done(copy, "predict", "both", "--out", "submissions/again.csv")


def test_nets_on_everything_watch_rows_of_their_own(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    done(copy, "cv", "inner", "--fold", "all")
    refit = json.loads((copy / "experiments/inner/refit.json").read_text())
    assert refit["n_rows"] == 54  # of 60
    with np.load(copy / "experiments/inner/folds/0-all/result.npz") as result:
        assert len(result["valid_probs"]) == 0
    done(copy, "verify", "inner", "biased")
    assert "watched_loss" in (copy / "experiments/inner/folds/0-all/history.csv").read_text()


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (
            ["cv", "biased", "--fold", "all"],
            [],
            "a net on everything holds no fold out that",
        ),
        (["tune", "biased", "--trials", "1"], [], "so no net may watch its own"),
        (
            ["cv", "quickstart", "--name", "pupil"],
            [*SETTINGS, "pseudo.runs=['biased']", "pseudo.min_prob=0.51"],
            "biased watched the labels of the folds it is scored on",
        ),
        (
            ["cv", "quickstart", "--name", "new"],
            [*SETTINGS, "train.early_stopping.watch=test"],
            "train.early_stopping.watch",
        ),
        (
            ["cv", "quickstart", "--name", "new"],
            [*SETTINGS, "train.early_stopping.share=0.9"],
            "train.early_stopping.share",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(folder, words, settings, message):
    before = sorted(folder.rglob("*"))
    said = call(folder, *words, settings=settings)
    assert said.returncode == 2
    assert message in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1
    assert [path for path in sorted(folder.rglob("*")) if path.suffix != ".lock"] == [
        path for path in before if path.suffix != ".lock"
    ]
