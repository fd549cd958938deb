"""The guide's list of commands works in its order, from its own text, on 600 rows and tiny nets."""

import csv
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
from commands import few_trials, few_trials_and_a_tracker, run_hbcomp

from hbcomp.data.synthetic import make_rows, write_competition_csv

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs/guide.md"
N, M, T, K = 600, 200, 16, 4
TINY = [
    *("net.widths=[4]", "net.hidden=8", "train.n_epochs=2", "train.batch_size=64"),
    *("folds.n_folds=2", "folds.seeds=[0]", "compute.n_threads=1"),
]
# What is added to a line so that it takes a blink: options that come later win.
MADE_SMALL = {
    "cv resnet": [*TINY, "net.strides=[4]", "refit.seeds=[0]"],
    "cv reference": [*TINY, "net.name=wide", "net.kernels=[3]"],
}
FEWER = {
    "thresholds mine": ["--trials", "5"],
    "tune mine": ["--trials", "2", "--jobs", "1", "--best", "0"],
    # Nets as tiny as these are sure of nothing: under `half` every answer would be zero, and the
    # leaderboard's score could only be one.
    "blend mine": ["--rule", "argmax"],
}
CONFIG_OF_RUN = """
[folds]
n_folds = 2
[features]
name = "{features}"
[net]
name = "linear"
[train]
n_epochs = 1
[compute]
n_threads = 1
"""


def commands():
    """Return the words of every line of the list."""
    block = re.search(r"<!-- all commands -->\n```sh\n(.*?)```", GUIDE.read_text(), re.S)
    assert block
    return [shlex.split(line, comments=True)[1:] for line in block[1].splitlines()]


def small(words):
    """Return a line's words with what makes it quick."""
    start = " ".join(words[:2])
    sets = [word for each in MADE_SMALL.get(start, []) for word in ("--set", each)]
    return [*words, *sets, *FEWER.get(start, [])]


def write_probs(path, ids):
    """Write probabilities as a notebook would."""
    probs = np.random.default_rng(0).dirichlet(np.ones(K), len(ids))
    rows = [",".join([name, *map(str, row)]) for name, row in zip(ids, probs, strict=True)]
    path.write_text("\n".join(["id,prob_0,prob_1,prob_2,prob_3", *rows]) + "\n")


def write_files(folder):
    """Write every file that the list does not make itself."""
    train = make_rows(n=N, t=T, k=K)
    write_competition_csv(folder / "train.csv", train)
    write_probs(folder / "oof.csv", train.ids)
    for seed, (file, probs) in enumerate(
        [("testA.csv", "test.csv"), ("testB.csv", "lgbm-testB.csv")], start=1
    ):
        beats = make_rows(n=M, t=T, k=K, seed=seed)
        named = replace(beats, ids=np.char.add(file[4], beats.ids))
        write_competition_csv(folder / file, replace(named, labels=None))
        write_probs(folder / probs, named.ids)
        if file == "testA.csv":
            with (folder / "labels.csv").open("w", newline="") as out:
                csv.writer(out).writerows(
                    [("id", "label"), *zip(named.ids, named.known_labels, strict=True)]
                )
    for name, features in (("lines", "lines"), ("resnet", "samples")):
        run = folder / f"experiments/best-cpu-{name}"
        run.mkdir(parents=True)
        (run / "config.toml").write_text(CONFIG_OF_RUN.format(features=features))


def test_the_list_of_the_guide_works_in_its_order(tmp_path, monkeypatch):
    monkeypatch.delenv("HBCOMP_SUBMISSIONS_PER_DAY", raising=False)
    write_files(tmp_path)
    preset = ROOT / "experiments/resnet/space.toml"
    listed = commands()
    assert len(listed) > 20
    for words in listed:
        if words[0] == "tune":
            # The space came along from the preset; a trial of it would take half a minute.
            space = tmp_path / "experiments/mine/space.toml"
            assert space.read_text() == preset.read_text()
            space.write_text('"train.lr" = { low = 1e-3, high = 1e-1, log = true }\n')
        done = run_hbcomp(small(words), tmp_path, prepare=few_trials_and_a_tracker)
        assert done.returncode == 0, f"hbcomp {shlex.join(words)}\n{done.stderr}"
        numbers = json.loads(done.stdout.splitlines()[-1])
        for what in ("page", "report", "submission"):
            if path := numbers.get(what):
                assert f"{what}: {path}" in done.stderr
                assert (tmp_path / path).exists()
    # A plan and its runs keep their files.
    done = run_hbcomp(["compete", "best-cpu"], tmp_path, prepare=few_trials)
    assert done.returncode == 0, done.stderr
    assert "best-cpu-lines: on train.csv, testA.csv, as this run began" in done.stderr
