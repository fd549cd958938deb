"""Pseudo-labels and training on everything, end to end, on tiny data."""

import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from commands import Strike, run_hbcomp

from hbcomp.data.synthetic import make_rows, write_competition_csv

TINY = [
    "net.widths=[4,8]",
    "net.strides=[2,2]",
    "net.hidden=8",
    "train.n_epochs=5",
    "train.batch_size=4",
    "train.lr=0.02",
    "folds.n_folds=3",
    "refit.seeds=[3,4]",
    "compute.device=cpu",
    "compute.n_threads=1",
    "data.train=train.csv",
    "data.test=test.csv",
]
LOCKS = ("run.lock", "run.holder")  # a killed run leaves them
MIN_PROB = 0.7  # tiny nets are seldom sure
PSEUDO = ["pseudo.runs=['source']", f"pseudo.min_prob={MIN_PROB}"]


def call(*words, cwd, strike=None):
    return run_hbcomp(["cv", *words], cwd, strike)


def train_only(*words, cwd):
    """Stop before the pictures, which take longer than everything else; the folds are stored."""
    assert (
        call(*words, cwd=cwd, strike=Strike("crossval.cross_validate", "draw")).returncode
        == -signal.SIGKILL
    )


def settings(*assignments):
    return [word for assignment in assignments for word in ("--set", assignment)]


def last_json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def write_data(folder, labels=None):
    train = make_rows(n=60, t=16, k=3)
    write_competition_csv(folder / "train.csv", train if labels is None else _with(train, labels))
    test = make_rows(n=20, t=16, k=3, seed=1)
    ids = np.array([f"t{row}" for row in range(20)])
    write_competition_csv(folder / "test.csv", replace(test, ids=ids, labels=None))


def _with(dataset, labels):
    return replace(dataset, labels=labels)


def probs_of(folder, run, net, name="test_probs"):
    with np.load(folder / "experiments" / run / "folds" / net / "result.npz") as result:
        return result[name]


def report_of(folder, run, name="report.json"):
    return json.loads((folder / "experiments" / run / name).read_text())


def copied(folder, target):
    shutil.copytree(folder, target)
    return target


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a source and a run that learned from its pseudo-labels."""
    folder = tmp_path_factory.mktemp("finished")
    write_data(folder)
    train_only("quickstart", "--name", "source", *settings(*TINY), cwd=folder)
    done = call("source", "--name", "pupil", *settings(*PSEUDO), cwd=folder)
    assert last_json(done)["n_folds_trained"] == 3
    (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def refitted(finished, tmp_path_factory):
    """The same folder after the run has trained on everything."""
    folder = copied(finished, tmp_path_factory.mktemp("refitted") / "copy")
    done = call("pupil", "--fold", "all", cwd=folder)
    (folder / "stdout").write_text(json.dumps(last_json(done)))
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_the_report_counts_the_rows_each_net_was_given(finished):
    report = report_of(finished, "pupil")
    rows = pd.read_csv(finished / "experiments/pupil/pseudo.csv")
    assert len(report["pseudo"]) == 3
    for net in report["pseudo"]:
        own = rows[rows.fold == net["fold"]]
        source = probs_of(finished, "source", f"0-{net['fold']}").astype(float)
        is_sure = source.max(axis=1) >= MIN_PROB
        assert net["n_rows"] == len(own) == is_sure.sum() > 0
        assert own.id.tolist() == [f"t{row}" for row in np.flatnonzero(is_sure)]
        assert own.label.tolist() == source.argmax(axis=1)[is_sure].tolist()
        assert net["by_class"] == np.bincount(own.label, minlength=3).tolist()
    assert "Pseudo-labelled rows" in (finished / "experiments/pupil/report.html").read_text()
    assert "test rows for each net" in (finished / "stderr").read_text()


def test_the_pupil_is_scored_on_labelled_rows_only_and_answers_every_test_row(finished):
    report = report_of(finished, "pupil")
    assert sum(fold["n_rows"] for fold in report["folds"]) == 60
    assert (finished / "submissions/pupil.csv").read_text().count("\n") == 21
    assert not np.array_equal(
        probs_of(finished, "pupil", "0-0"), probs_of(finished, "source", "0-0")
    )


def test_a_run_without_pseudo_labels_keeps_no_record_of_them(finished):
    assert not (finished / "experiments/source/pseudo.csv").exists()
    assert "pseudo" not in (finished / "experiments/source/run.toml").read_text()


def test_no_label_of_a_fold_reaches_the_net_that_answers_it(tmp_path):
    beats = make_rows(n=60, t=16, k=3)
    fold_of_row = np.arange(60) // 3 % 3
    changed = beats.labels.copy()
    changed[fold_of_row == 0] = np.roll(changed[fold_of_row == 0], 1)
    nets = []
    for name, labels in (("true", beats.labels), ("changed", changed)):
        folder = tmp_path / name
        folder.mkdir()
        write_data(folder, labels)
        lines = [f"{row},{fold}\n" for row, fold in enumerate(fold_of_row)]
        (folder / "folds.csv").write_text("id,fold\n" + "".join(lines))
        words = settings(*TINY, "folds.file=folds.csv")
        train_only("quickstart", "--name", "source", *words, cwd=folder)
        train_only("source", "--name", "pupil", *settings(*PSEUDO), cwd=folder)
        given = pd.read_csv(folder / "experiments/pupil/pseudo.csv")
        assert 0 in set(given.fold)
        nets.append([probs_of(folder, "pupil", f"0-{fold}") for fold in range(3)])
    assert [np.array_equal(*pair) for pair in zip(*nets, strict=True)] == [True, False, False]


def test_a_changed_source_is_refused_as_changed_data_is(finished, tmp_path):
    folder = copied(finished, tmp_path / "copy")
    train_only("source", *settings("train.lr=0.01"), "--force", cwd=folder)
    done = call("pupil", cwd=folder)
    assert done.returncode == 2
    assert "pseudo-labels of seed 0 was" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cv", "pupil", *settings("folds.seeds=[0,1]")], "over other folds than those of seed 1"),
        (["cv", "source", *settings(*PSEUDO), "--force"], "source cannot learn from itself"),
        (["cv", "pupil", *settings("pseudo.min_prob=1")], "no net gets a row"),
        (["tune", "pupil", "--trials", "1"], "a study draws folds that no source"),
    ],
)
def test_what_pseudo_labels_cannot_do_is_refused(finished, words, message):
    (finished / "experiments/pupil/space.toml").write_text('"train.lr" = { low = 0.1, high = 1.0 }')
    before = sorted(finished.rglob("folds/*"))
    done = run_hbcomp(words, finished)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert sorted(finished.rglob("folds/*")) == before


def test_training_on_everything_writes_nets_a_record_and_a_submission(refitted):
    record = report_of(refitted, "pupil", "refit.json")
    report = report_of(refitted, "pupil")
    assert (record["seeds"], record["n_epochs"], record["n_rows"]) == ([3, 4], 5, 60)
    assert record["chosen"] == report["chosen"]
    assert record["expected"] == report["score"]
    assert record["expectation"] == "as the cross-validation, not measured"
    assert json.loads((refitted / "stdout").read_text())["submission"] == record["submission"]
    assert (refitted / "submissions/pupil-all.csv").read_text().count("\n") == 21
    for seed in (3, 4):
        assert len(probs_of(refitted, "pupil", f"{seed}-all", "valid_probs")) == 0
    lines = (refitted / "stderr").read_text().splitlines()
    assert any(line.startswith("seed 4 fold all epoch 5/5 loss") for line in lines)
    assert not any("score" in line for line in lines if line.startswith("seed "))


def test_a_net_trained_on_everything_learns_from_all_nets_of_its_sources(refitted):
    record = report_of(refitted, "pupil", "refit.json")
    mean = np.mean([probs_of(refitted, "source", f"0-{fold}") for fold in range(3)], axis=0)
    rows = pd.read_csv(refitted / "experiments/pupil/pseudo-all.csv")
    expected = [f"t{row}" for row in np.flatnonzero(mean.max(axis=1) >= MIN_PROB)]
    assert record["pseudo"]["n_rows"] == len(expected) > 0
    assert rows[rows.seed == 3].id.tolist() == expected
    assert set(rows.fold) == {"all"}


def test_training_on_everything_leaves_what_the_cross_validation_wrote(refitted, finished):
    there = finished.glob("experiments/pupil/*.*")  # the manifest gains the new nets
    of_run = [path.relative_to(finished) for path in there if path.name != "manifest.json"]
    assert len(of_run) >= 8
    for name in (*of_run, "submissions/pupil.csv"):
        assert (refitted / name).read_bytes() == (finished / name).read_bytes(), name


def test_killed_between_two_nets_on_everything_the_same_command_gives_the_same_bits(
    finished, refitted, tmp_path
):
    folder = copied(finished, tmp_path / "copy")
    words = ("pupil", "--fold", "all")
    strike = Strike("experiment.stored_folds", "save_fold", is_after=True)
    assert call(*words, cwd=folder, strike=strike).returncode == -signal.SIGKILL
    assert (folder / "experiments/pupil/folds/3-all").is_dir()
    assert not (folder / "experiments/pupil/folds/4-all").exists()
    assert not (folder / "submissions/pupil-all.csv").exists()
    last_json(call(*words, cwd=folder))
    name = "submissions/pupil-all.csv"
    assert (folder / name).read_bytes() == (refitted / name).read_bytes()
    for net in ("3-all", "4-all"):
        assert np.array_equal(probs_of(folder, "pupil", net), probs_of(refitted, "pupil", net))


def test_ctrl_c_while_training_on_everything_says_how_to_continue(finished, tmp_path):
    folder = copied(finished, tmp_path / "copy")
    strike = Strike("experiment.stored_folds", "save_fold", is_after=True, signal=signal.SIGINT)
    done = call("pupil", "--fold", "all", cwd=folder, strike=strike)
    assert done.returncode == 130, done.stderr
    message = "continue with: hbcomp cv pupil --fold all"
    assert done.stderr.splitlines()[-1].endswith(message)


def test_predict_with_the_nets_on_everything_gives_the_very_bytes_of_the_run(refitted, tmp_path):
    folder = copied(refitted, tmp_path / "copy")
    words = ["predict", "pupil", "--fold", "all", "--out", "again.csv"]
    assert last_json(run_hbcomp(words, folder))["n_nets"] == 2
    written = (refitted / "submissions/pupil-all.csv").read_bytes()
    assert (folder / "again.csv").read_bytes() == written


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cv", "quickstart", "--fold", "all"], "first: hbcomp cv quickstart"),
        (["cv", "source", "--fold", "all", "--force"], "--force replaces folds only"),
        (
            ["cv", "source", "--fold", "all", *settings("train.lr=0.5")],
            "train.lr was 0.02, now 0.5",
        ),
        (
            ["cv", "source", "--fold", "all", *settings("folds.seeds=[0,1]")],
            "1-0, 1-1, 1-2 (seed-fold) have still to train; first: hbcomp cv source",
        ),
        (
            ["cv", "pupil", "--fold", "all", *settings("refit.n_epochs=7")],
            "3-all/result.npz: trained with another configuration or on other data",
        ),
        (
            ["predict", "none", "--fold", "all"],
            "report.json: no such file; has the experiment finished?",
        ),
    ],
)
def test_training_on_everything_is_refused_in_one_line(refitted, words, message):
    before = sorted(refitted.rglob("*"))
    done = run_hbcomp(words, refitted)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
    after = [path for path in sorted(refitted.rglob("*")) if path.name not in LOCKS]
    assert after == [path for path in before if path.name not in LOCKS]


def test_predict_without_nets_on_everything_says_what_to_run(finished):
    done = run_hbcomp(["predict", "pupil", "--fold", "all"], finished)
    assert done.returncode == 2
    assert "refit.json: no such file; is `cv pupil --fold all` done?" in done.stderr
