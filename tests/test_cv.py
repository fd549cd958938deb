"""The main job, end to end, on tiny data."""

import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
from commands import Strike, run_hbcomp

from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.submissions.ledger import read_ledger

TINY = [
    "net.widths=[4,8]",
    "net.strides=[2,2]",
    "net.hidden=8",
    "train.n_epochs=2",
    "train.batch_size=16",
    "folds.n_folds=3",
    "folds.seeds=[0,1]",
    "compute.device=cpu",
    "compute.n_threads=1",
    "data.train=train.csv",
    "data.test=test.csv",
]
N_FOLDS = 6


def words_of(*words, settings=TINY):
    return ["cv", *words, *[word for setting in settings for word in ("--set", setting)]]


def call(*words, cwd, settings=TINY, strike=None, draws=False):
    return run_hbcomp(words_of(*words, settings=settings), cwd, strike, draws=draws)


def last_json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def write_data(folder):
    write_competition_csv(folder / "train.csv", make_rows(n=60, t=16, k=3))
    test = make_rows(n=20, t=16, k=3, seed=1)
    write_competition_csv(folder / "test.csv", _with_ids(test, [f"t{i}" for i in range(20)]))


def _with_ids(dataset, ids):
    return replace(dataset, ids=np.array(ids), labels=None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with an uninterrupted run in one process."""
    folder = tmp_path_factory.mktemp("finished")
    write_data(folder)
    done = call(cwd=folder, draws=True)
    last_json(done)
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def predictions(folder):
    with np.load(folder / "experiments/quickstart/predictions.npz") as arrays:
        return {name: arrays[name] for name in arrays}


def assert_same_bits(folder, other):
    ours, theirs = predictions(folder), predictions(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert np.array_equal(ours[name], theirs[name]), name
    submission = "submissions/quickstart.csv"
    assert (folder / submission).read_bytes() == (other / submission).read_bytes()


def test_one_command_leaves_submission_report_pictures_and_weights(finished):
    run = finished / "experiments/quickstart"
    assert (finished / "submissions/quickstart.csv").read_text().count("\n") == 21
    assert {"report.json", "report.html", "predictions.npz", "oof.csv", "test.csv"} <= {
        path.name for path in run.iterdir()
    }
    assert len(list((run / "pictures").glob("*.png"))) == 5
    folds = sorted(path.name for path in (run / "folds").iterdir())
    assert folds == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]
    for fold in folds:
        assert {path.name for path in (run / "folds" / fold).iterdir()} == {
            "result.npz",
            "model.safetensors",
            "history.csv",
            "manifest.json",
        }
    assert not list(finished.rglob("*.partial"))


def test_the_last_line_holds_the_scores_of_every_rule(finished):
    numbers = json.loads((finished / "stdout").read_text().splitlines()[-1])
    assert numbers["n_folds_trained"] == N_FOLDS
    assert set(numbers["oof_scores"]) == {
        *["raw", "clip 0.1/0.9", "half", "argmax", "tuned", "tuned per class"]
    }
    assert len((finished / "stdout").read_text().splitlines()) == 1


def test_the_reported_scores_are_those_of_the_stored_probabilities(finished):
    report = json.loads((finished / "experiments/quickstart/report.json").read_text())
    arrays = predictions(finished)
    truth = np.eye(3)[arrays["labels"]]
    raw = np.abs(arrays["oof_probs"] - truth).sum() / 60 * 20_000
    half = np.abs((arrays["oof_probs"] > 0.5) - truth).sum() / 60 * 20_000
    of_rule = {rule["name"]: rule["cross_fitted"] for rule in report["rules"]}
    assert of_rule["raw"] == pytest.approx(raw)
    assert of_rule["half"] == pytest.approx(half)


def test_the_report_names_the_threads_that_each_net_was_trained_with(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "experiments/quickstart/folds/1-2")
    last_json(call(cwd=folder, settings=[*TINY, "compute.n_threads=2"]))
    report = json.loads((folder / "experiments/quickstart/report.json").read_text())
    assert [fold["n_threads"] for fold in report["folds"]] == [1, 1, 1, 1, 1, 2]
    assert "threads</th>" in (folder / "experiments/quickstart/report.html").read_text()


def test_the_report_tells_progress_in_plain_lines_without_a_terminal(finished):
    lines = (finished / "stderr").read_text().splitlines()
    assert any(line.startswith("seed 1 fold 2 epoch 2/2 loss") for line in lines)
    assert any(
        line.startswith("quickstart: 6 folds; on cpu in fp32, 1 thread per net") for line in lines
    )


def test_the_second_call_trains_nothing_and_changes_nothing(finished, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    assert last_json(call(cwd=folder))["n_folds_trained"] == 0
    assert_same_bits(folder, finished)


def test_profile_says_where_the_time_of_this_call_went(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    trained = json.loads((folder / "stdout").read_text())["seconds_by_phase"]
    assert min(trained[name] for name in ("compile", "train", "draw")) > 0
    assert "Seconds by phase" not in (folder / "stderr").read_text()
    done = call("--profile", cwd=folder)
    numbers = last_json(done)
    assert numbers["seconds_by_phase"]["train"] == 0  # all folds were stored
    assert sum(numbers["seconds_by_phase"].values()) <= numbers["seconds"] + 0.1
    assert "Seconds by phase" in done.stderr
    assert "Seconds by phase" in (folder / "experiments/quickstart/report.html").read_text()


def test_folds_in_two_processes_give_the_bits_of_one(finished, tmp_path):
    write_data(tmp_path)
    assert last_json(call("--jobs", "2", cwd=tmp_path))["n_folds_trained"] == N_FOLDS
    assert_same_bits(tmp_path, finished)


def test_a_run_killed_at_five_moments_ends_with_the_bits_of_an_uninterrupted_one(
    finished, tmp_path
):
    write_data(tmp_path)
    moments = [
        Strike("crossval.fold", "predict_probs", is_after=True),  # in the middle of the first fold
        Strike("experiment.stored_folds", "sync", n=2),  # while the first fold's files are written
        Strike("experiment.stored_folds", "save_fold", n=2, is_after=True),  # between two folds
        Strike("crossval.loop", "assemble"),  # after the last fold
        Strike("experiment.finish", "write_submission"),  # before the submission
    ]
    n_done = []
    for moment in moments:
        assert call(cwd=tmp_path, strike=moment).returncode == -signal.SIGKILL
        assert not (tmp_path / "submissions/quickstart.csv").exists()
        n_done.append(len(list((tmp_path / "experiments/quickstart/folds").glob("[!.]*"))))
    assert n_done == [0, 0, 2, 6, 6]
    assert last_json(call(cwd=tmp_path))["n_folds_trained"] == 0
    assert_same_bits(tmp_path, finished)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.long("fresh workers import for seconds")
def test_killed_with_two_workers_the_same_command_continues_beside_what_is_left_of_them(
    finished, tmp_path
):
    write_data(tmp_path)
    # The parent dies at the second event; its workers find out at their next one.
    strike = Strike("system.progress", "FoldProgress", n=2)
    assert call("--jobs", "2", cwd=tmp_path, strike=strike).returncode == -signal.SIGKILL
    last_json(call("--jobs", "2", cwd=tmp_path))
    assert_same_bits(tmp_path, finished)


STORED_FOLD = ("experiment.stored_folds", "save_fold", 2)
TWO_JOBS = pytest.param("2", marks=pytest.mark.long("fresh workers import for seconds"))


@pytest.mark.parametrize("jobs", ["1", TWO_JOBS])
def test_ctrl_c_keeps_finished_folds_and_says_how_to_continue(tmp_path, jobs):
    write_data(tmp_path)
    # Two jobs train in other processes; the parent is interrupted as it sends them another fold.
    where = ("crossval.loop", "_Job", 6) if jobs == "2" else STORED_FOLD
    strike = Strike(*where, is_after=True, signal=signal.SIGINT)
    done = call("--jobs", jobs, cwd=tmp_path, strike=strike)
    assert done.returncode == 130, done.stderr
    message = done.stderr.splitlines()[-1]
    n_kept = int(message.removeprefix("interrupted: ").split()[0])
    assert n_kept == len(list((tmp_path / "experiments/quickstart/folds").glob("[!.]*")))
    assert " kept; continue with: hbcomp cv" in message
    assert "--set 'net.widths=[4,8]'" in message
    assert "Traceback" not in done.stderr
    assert last_json(call(cwd=tmp_path))["n_folds_trained"] == N_FOLDS - n_kept


def test_predict_gives_the_very_bytes_of_the_run(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    words = ["predict", "quickstart", "--data", "test.csv", "--out", "again.csv"]
    assert last_json(run_hbcomp(words, folder))["n_nets"] == N_FOLDS
    written = (finished / "submissions/quickstart.csv").read_bytes()
    assert (folder / "again.csv").read_bytes() == written


def test_the_ledger_tells_what_a_run_and_a_prediction_expect_of_their_files(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    write_competition_csv(folder / "more.csv", _with_ids(make_rows(n=6, t=16), list("abcdef")))
    last_json(run_hbcomp(["predict", "quickstart", "--data", "more.csv"], folder))
    report = json.loads((folder / "experiments/quickstart/report.json").read_text())
    of_run, of_predict = read_ledger(folder / "submissions")
    for entry in (of_run, of_predict):
        assert (entry.source, entry.rule) == ("quickstart", report["chosen"]["name"])
        assert entry.out_of_fold == report["score"]
        assert entry.standard_error == report["standard_error"]
        assert entry.n_scored == report["data"]["n_train"] == 60
    page = (folder / "experiments/quickstart/report.html").read_text()
    assert "the submission is expected to score" in page
    assert (of_run.expected, of_run.low, of_run.high) == tuple(
        report["expected"][name] for name in ("value", "low", "high")
    )
    assert of_run.expected == of_predict.expected, "the nets gain as much by their mean"
    assert of_predict.low <= of_run.low <= of_run.high <= of_predict.high, "of fewer rows"
    assert (of_run.file, of_run.n_rows) == ("quickstart.csv", 20)
    assert of_run.recipe == f"cv of {N_FOLDS} nets, on test.csv"
    assert (of_predict.file, of_predict.n_rows) == ("quickstart-more.csv", 6)
    assert of_predict.recipe == f"predict of {N_FOLDS} nets, on more.csv"


def test_predict_refuses_rows_of_another_length(finished, tmp_path):
    short = _with_ids(make_rows(n=6, t=9), list("abcdef"))
    write_competition_csv(tmp_path / "short.csv", short)
    done = run_hbcomp(["predict", "quickstart", "--data", str(tmp_path / "short.csv")], finished)
    assert done.returncode == 2
    assert "trained on 16 time steps per row, but got 9" in done.stderr


def test_a_changed_configuration_is_refused_in_one_line_with_exit_code_2(finished):
    done = call("--set", "train.lr=0.5", cwd=finished)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "train.lr was 0.004, now 0.5" in line


def test_labels_of_the_held_out_fold_do_not_influence_its_net(tmp_path, finished):
    # Fold 0 of seed 0 is held out: other labels there must leave its net's test rows as they are.
    # The fold file keeps the split itself from following the labels.
    arrays = predictions(finished)
    in_fold_0 = arrays["fold_of_row"] == 0
    (tmp_path / "folds.csv").write_text(
        "id,fold\n" + "".join(f"{i},{f}\n" for i, f in enumerate(arrays["fold_of_row"]))
    )
    beats = make_rows(n=60, t=16, k=3)
    swapped = beats.labels.copy()
    swapped[in_fold_0] = np.roll(swapped[in_fold_0], 1)
    results = []
    for name, labels in (("true", beats.labels), ("swapped", swapped)):
        folder = tmp_path / name
        folder.mkdir()
        write_data(folder)
        write_competition_csv(folder / "train.csv", replace(beats, labels=labels))
        settings = [*TINY, "folds.file=../folds.csv"]
        last_json(call(settings=[s for s in settings if "n_folds" not in s], cwd=folder))
        with np.load(folder / "experiments/quickstart/folds/0-0/result.npz") as result:
            results.append(result["test_probs"])
    assert np.array_equal(*results)


def test_an_error_leaves_no_files(tmp_path):
    write_data(tmp_path)
    text = (tmp_path / "train.csv").read_text().replace("0.", "x.", 1)
    (tmp_path / "train.csv").write_text(text)
    done = call(cwd=tmp_path)
    assert done.returncode == 2
    assert {path.name for path in tmp_path.iterdir()} == {"train.csv", "test.csv"}


@pytest.mark.parametrize(
    "jobs",
    [1, pytest.param(2, marks=pytest.mark.long("fresh workers import for seconds"))],
)
def test_rows_that_are_streamed_give_the_bits_of_rows_in_memory(finished, tmp_path, jobs):
    write_data(tmp_path)
    call("--set", "compute.rows=streamed", "--jobs", str(jobs), cwd=tmp_path)
    assert_same_bits(finished, tmp_path)


MASKED = """
title = "gaps"
[data]
train = "train.npz"
test = "test.npz"
layout = "array"
missing = "mask"
padding_value = 0.0
[metric]
name = "accuracy"
[submission]
kind = "label"
"""


@pytest.fixture(scope="module")
def with_gaps(tmp_path_factory):
    """A finished run on two channels in recorder counts, with missing values and padded ends."""
    folder = tmp_path_factory.mktemp("gaps")
    rng = np.random.default_rng(0)
    for name, n, seed in (("train", 60, 0), ("test", 20, 1)):
        rows = make_rows(n=n, t=16, k=3, seed=seed)
        signals = np.stack([rows.flat * 200 + 1024, rows.flat * 1e-3], axis=1)
        signals[rng.random(signals.shape) < 0.1] = np.nan
        signals[np.arange(n) % 4 == 0, :, 13:] = 0  # padding
        np.savez(folder / f"{name}.npz", X=signals, y=rows.known_labels)
    (folder / "competition.toml").write_text(MASKED)
    settings = [each for each in TINY if not each.startswith("data.")]
    last_json(call("--competition", ".", cwd=folder, settings=settings, draws=True))
    return folder


def test_rows_with_missing_values_are_trained_on_and_answered(with_gaps):
    found = predictions(with_gaps)
    for name in ("oof_probs", "test_probs"):
        assert np.isfinite(found[name]).all()
    words = ["predict", "quickstart", "--out", "again.csv"]
    done = run_hbcomp(words, with_gaps)
    assert last_json(done)["n_rows"] == 20
    written = (with_gaps / "submissions/quickstart.csv").read_bytes()
    assert (with_gaps / "again.csv").read_bytes() == written
    assert "warning" not in done.stderr


def test_pages_of_rows_with_missing_values_are_drawn(with_gaps):
    last_json(run_hbcomp(["mistakes", "quickstart"], with_gaps, draws=True))


def test_rows_in_another_unit_than_the_nets_were_trained_on_are_said(finished, tmp_path):
    counts = _with_ids(make_rows(n=6, t=16), list("abcdef"))
    counts = replace(counts, signals=counts.signals * np.float32(200) + np.float32(1024))
    write_competition_csv(tmp_path / "counts.csv", counts)
    words = ["predict", "quickstart", "--data", str(tmp_path / "counts.csv"), "--out", "x.csv"]
    said = " ".join(run_hbcomp(words, finished).stderr.split())
    assert "those of the training rows of quickstart from" in said
