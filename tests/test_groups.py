"""The command `hbcomp groups`: its file is accepted by cv, whole in every fold, and said so."""

import csv
import json

import numpy as np
import pytest
from commands import run_hbcomp

from hbcomp.data.dataset import Dataset
from hbcomp.data.synthetic import make_rows, write_competition_csv

GROUPS = ["groups", "--train", "train.csv", "--neighbours", "59"]
TINY = ["--set", "net.widths=[4]", "--set", "net.strides=[2]", "--set", "train.n_epochs=1"]
SPLIT = ["--set", "folds.n_folds=3", "--set", "folds.seeds=[0, 1]"]


def write_related(path):
    """Write 60 beats of which every third is interpolated between the two before it."""
    beats = make_rows(n=60, t=16, k=2)
    noise = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    signals = beats.signals + noise
    signals[2::3] = 0.6 * signals[0::3] + 0.4 * signals[1::3]
    write_competition_csv(path, Dataset(beats.ids, signals, beats.labels, source="made up"))


def last_json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with beats, their groups, and a plain and a grouped run of two seeds."""
    here = tmp_path_factory.mktemp("groups")
    write_related(here / "train.csv")
    assert run_hbcomp([*GROUPS, "--max-share", "0.1"], here).returncode == 0
    run = ["cv", "quickstart", "--train", "train.csv", *SPLIT, *TINY]
    for name, more in (("plain", []), ("grouped", ["--set", "folds.groups=groups.csv"])):
        assert run_hbcomp([*run, "--name", name, *more], here).returncode == 0
    return here


def column(path, name):
    with path.open(newline="") as file:
        return {row["id"]: row[name] for row in csv.DictReader(file)}


def test_interpolated_rows_and_their_parents_are_written_as_groups(folder):
    done = run_hbcomp([*GROUPS, "--max-share", "0.1"], folder)  # the same content is no conflict
    numbers = last_json(done)
    assert numbers["n_interpolated"] == 20
    assert (numbers["n_rows"], numbers["n_groups"], numbers["largest"]) == (60, 20, 3)
    assert (numbers["n_links"], numbers["n_cut"], numbers["n_split"]) == (40, 0, 0)
    group = column(folder / "groups.csv", "group")
    assert [group[str(row)] for row in range(60)] == [str(row // 3) for row in range(60)]
    said = " ".join(done.stderr.split())
    assert "hbcomp compare NAME NAME-grouped" in said
    assert "cv NAME --train train.csv --set folds.groups=groups.csv --name NAME-grouped" in said


def test_the_next_command_names_other_columns(folder):
    text = (folder / "train.csv").read_text().replace("id,", "beat,", 1)
    (folder / "other.csv").write_text(text)
    init = ["init", "--train", "other.csv", "--like", "heartbeat", "--to", "other"]
    assert run_hbcomp(init, folder).returncode == 0
    words = ["groups", "--competition", "other", "--out", "other-groups.csv"]
    done = run_hbcomp(words, folder)
    assert last_json(done)["n_rows"] == 60
    said = " ".join(done.stderr.split())
    assert "hbcomp cv NAME --competition other --set folds.groups=other-groups.csv" in said


def test_a_cap_cuts_links_and_says_how_many(folder):
    done = run_hbcomp([*GROUPS, "--out", "small.csv", "--max-share", "0.04"], folder)
    numbers = last_json(done)
    assert (numbers["max_size"], numbers["largest"]) == (2, 2)
    assert (numbers["n_cut"], numbers["n_split"]) == (20, 40)
    assert "20 links (50.0%) are cut" in done.stderr


@pytest.mark.parametrize("seed", [0, 1])
def test_cv_keeps_every_group_in_one_fold(folder, seed):
    out = f"folds{seed}.csv"
    words = ["folds", "grouped", "--seed", str(seed), "--out", out]
    assert run_hbcomp(words, folder).returncode == 0
    fold, group = column(folder / out, "fold"), column(folder / "groups.csv", "group")
    assert len(set(fold.values())) == 3
    assert len({(group[row_id], fold[row_id]) for row_id in fold}) == len(set(group.values()))


def test_the_page_of_a_grouped_run_says_so(folder):
    assert "grouped by groups.csv" in (folder / "experiments/grouped/report.html").read_text()
    assert "grouped by" not in (folder / "experiments/plain/report.html").read_text()


@pytest.mark.parametrize("names", [["plain", "grouped"], ["grouped", "plain"]])
def test_compare_sets_the_group_aware_score_beside_the_plain_one(folder, names):
    done = run_hbcomp(["compare", *names], folder)
    assert last_json(done)["is_grouped"] == [name == "grouped" for name in names]
    note = "grouped held out whole groups of related rows; the config"
    assert note in " ".join(done.stderr.split())
    page = folder / f"experiments/comparisons/{'~'.join(names)}.html"
    assert note in " ".join(page.read_text().split())
    assert "kept whole" in done.stderr


def test_a_blend_of_a_grouped_run_is_grouped(folder):
    assert run_hbcomp(["blend", "grouped", "plain", "--name", "both"], folder).returncode == 0
    assert last_json(run_hbcomp(["compare", "both", "plain"], folder))["is_grouped"] == [
        True,
        False,
    ]


def test_the_ranking_marks_grouped_folds(folder):
    assert run_hbcomp(["report"], folder).returncode == 0
    assert "2 x 3 grouped" in (folder / "experiments/report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--neighbours", "1"], "--neighbours must be at least 2, but got 1"),
        (["--distance", "-1"], "--distance must be a number of at least 0, but got -1.0"),
        (["--distance", "nan"], "--distance must be a number of at least 0, but got nan"),
        (["--sine", "0"], "--sine must be above 0 and below 1, but got 0.0"),
        (["--max-share", "0"], "--max-share must be above 0 and at most 1, but got 0.0"),
        (["--train", "absent.csv"], "absent.csv: No such file or directory"),
        (["--competition", "no"], "no: neither a folder with a competition.toml nor"),
        (["--out", "train.csv"], "train.csv: exists and holds something else"),
    ],
)
def test_wrong_input_is_one_line_and_changes_nothing(folder, words, message):
    before = (folder / "train.csv").read_bytes()
    done = run_hbcomp([*GROUPS, *words], folder)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert message in line
    assert (folder / "train.csv").read_bytes() == before
