"""The command `overlaps`, and what `eda`, `cv` and `groups` say of overlapping windows."""

import csv
import json

import numpy as np
import pytest
from commands import run_hbcomp

from hbcomp.data.dataset import Dataset
from hbcomp.data.synthetic import write_competition_csv

N, N_TRAIN, T, HOP = 90, 60, 40, 25
FILES = ["--train", "train.csv", "--test", "test.csv"]
TINY = ["--set", "net.widths=[4]", "--set", "net.strides=[2]", "--set", "train.n_epochs=1"]
SPLIT = ["--set", "folds.n_folds=3", "--set", "folds.seeds=[0]"]


def write_files(folder, signals):
    rows = signals.astype(np.float32)
    ids = np.arange(N).astype(str)
    labels = np.arange(N_TRAIN) % 2
    write_competition_csv(folder / "train.csv", Dataset(ids[:N_TRAIN], rows[:N_TRAIN], labels))
    write_competition_csv(folder / "test.csv", Dataset(ids[N_TRAIN:], rows[N_TRAIN:]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Windows of one walk in their order: each goes on in the next, the last 30 are the test."""
    here = tmp_path_factory.mktemp("overlaps")
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=N * HOP + T))
    signals = np.stack([walk[start : start + T] for start in HOP * np.arange(N)])
    signals -= signals.min(axis=1, keepdims=True) - 0.01
    write_files(here, signals / np.ptp(signals, axis=1, keepdims=True))
    return here


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Rows of noise."""
    here = tmp_path_factory.mktemp("noise")
    write_files(here, np.random.default_rng(0).uniform(0.1, 1, (N, T)))
    return here


def last_json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def said(done):
    return " ".join(done.stderr.split())


def test_every_pair_is_written_with_its_files_and_lag(folder):
    done = run_hbcomp(["overlaps", *FILES], folder)
    numbers = last_json(done)
    assert (numbers["n_pairs"], numbers["n_reversed"], numbers["n_ambiguous"]) == (N - 1, 0, 0)
    assert numbers["share"] == pytest.approx((N - 1) / N)
    assert numbers["next"] == "hbcomp groups --train train.csv --overlaps"
    with (folder / "overlaps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["id"]), int(row["next_id"])) for row in rows] == [
        (i, i + 1) for i in range(N - 1)
    ]
    assert {(row["lag"], row["n_steps"]) for row in rows} == {(str(HOP), str(T - HOP))}
    across = [row["id"] for row in rows if (row["file"], row["next_file"]) == ("train", "test")]
    assert across == [str(N_TRAIN - 1)]
    again = run_hbcomp(["overlaps", *FILES, "--rows", "70"], folder)
    assert again.returncode == 2
    assert "overlaps.csv: exists and holds something else; choose another --out" in again.stderr
    sampled = last_json(run_hbcomp(["overlaps", *FILES, "--rows", "70", "--out", "s.csv"], folder))
    assert sampled["n_looked_up"] == 70


def test_of_rows_without_overlaps_nothing_is_written(other):
    done = run_hbcomp(["overlaps", *FILES], other)
    assert last_json(done)["is_believed"] is False
    assert "No row of 90 rows goes on in another row." in said(done)
    assert not (other / "overlaps.csv").exists()


def test_eda_says_it_in_one_sentence(folder, other):
    done = run_hbcomp(["eda", "train.csv", "--test", "test.csv"], folder)
    sentence = "98.9 % of 90 rows go on in another row, as overlapping windows of one recording do."
    assert last_json(done)["overlaps"]["is_believed"] is True
    assert sentence in said(done)
    assert sentence in (folder / "experiments/eda/train/index.html").read_text()
    noise = run_hbcomp(["eda", "train.csv", "--test", "test.csv"], other)
    assert "No row of 90 rows goes on in another row." in said(noise)


def test_cv_warns_unless_groups_keep_overlapping_windows_together(folder, other):
    run = ["cv", "quickstart", "--train", "train.csv", *SPLIT, *TINY]
    warning = "of the training rows go on in a row of another fold"
    assert warning in said(run_hbcomp([*run, "--name", "plain"], folder))
    groups = ["groups", "--train", "train.csv", "--neighbours", "5", "--overlaps"]
    done = run_hbcomp([*groups, "--max-share", "0.2"], folder)
    assert last_json(done)["n_overlapping"] == N_TRAIN - 1
    assert f"{N_TRAIN - 1} pairs are overlapping windows" in said(done)
    with (folder / "groups.csv").open(newline="") as file:
        group = [int(row["group"]) for row in csv.DictReader(file)]
    assert group == sorted(group)  # neighbours in the recording, cut where a group is full
    assert max(np.bincount(group)) == 12
    grouped = [*run, "--set", "folds.groups=groups.csv", "--name", "grouped"]
    share = said(run_hbcomp(grouped, folder)).partition(warning)[0].split("warning: ")[-1]
    assert float(share.split()[0]) < 10  # of 98 %: where groups were cut
    noise = run_hbcomp([*run, "--name", "plain"], other)
    assert noise.returncode == 0
    assert "another fold" not in said(noise)
