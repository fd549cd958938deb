"""What all commands share, and the light ones: check, score and thresholds."""

import csv
import json
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from commands import Strike, run_hbcomp
from finished_experiments import write_experiment, write_files

import hbcomp
from hbcomp.__main__ import commands
from hbcomp.data.sample import TRUTH
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Predictions
from hbcomp.scoring.metrics import ABS_SUM
from hbcomp.scoring.thresholds import fit_clip
from hbcomp.system import command as cli
from hbcomp.system.command import interrupted
from hbcomp.tuning.thresholds import clip_of

COMMANDS = [each.name.replace("_", "-") for each in commands()]


def last_json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def truth():
    with TRUTH.open(newline="") as file:
        return [(row["id"], int(row["label"])) for row in csv.DictReader(file)]


@pytest.fixture
def perfect(tmp_path, truth):
    """A submission for the bundled test beats with every answer right."""
    path = tmp_path / "perfect.csv"
    rows = [",".join([beat_id, *("01"[k == label] for k in range(4))]) for beat_id, label in truth]
    path.write_text("\n".join(["id,label_0,label_1,label_2,label_3", *rows, ""]))
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(tmp_path, name):
    done = run_hbcomp([name, "--help"], tmp_path)
    assert done.returncode == 0
    assert f"hbcomp {name}" in done.stdout.partition("Example")[2]
    assert "Example" in done.stdout


@pytest.mark.parametrize(
    ("program", "words", "line"),
    [
        ("/usr/bin/hbcomp", ["cv", "a b"], "hbcomp cv 'a b'"),
        ("hbcomp.exe", ["cv"], "hbcomp cv"),
        ("/there/hbcomp/cv.py", ["mine"], "python -m hbcomp.cv mine"),
        ("/there/hbcomp/__main__.py", ["cv", "mine"], "python -m hbcomp cv mine"),
    ],
)
def test_a_stopped_command_says_what_was_typed(monkeypatch, program, words, line):
    monkeypatch.setattr("sys.argv", [program, *words])
    assert str(interrupted(2, "cv")) == f"2 finished folds are kept; continue with: {line}"
    assert str(interrupted(1, "cv")) == f"1 finished fold is kept; continue with: {line}"


def test_the_program_without_a_command_lists_them_by_what_one_does(tmp_path):
    done = run_hbcomp([], tmp_path)
    assert all(name in done.stdout for name in COMMANDS)
    places = [done.stdout.index(f"─ {panel} ─") for panel in get_args(cli.Panel)]
    assert places == sorted(places)
    assert done.stdout.index("│ cv ") < places[1] < done.stdout.index("│ blend ") < places[2]


@pytest.mark.parametrize("words", [[], ["cv"], ["import-oof"]], ids=str)
def test_h_is_help(tmp_path, words):
    short, long = (run_hbcomp([*words, option], tmp_path) for option in ("-h", "--help"))
    assert (short.returncode, short.stdout) == (0, long.stdout)


def test_the_version_is_that_of_the_package(tmp_path):
    done = run_hbcomp(["--version"], tmp_path)
    assert (done.returncode, done.stdout) == (0, f"hbcomp {hbcomp.__version__}\n")


@pytest.mark.parametrize("name", [each.name for each in commands()])
def test_every_command_is_a_module_that_runs(monkeypatch, capfd, name):
    monkeypatch.setattr(cli, "COMMANDS", {})
    monkeypatch.delitem(sys.modules, f"hbcomp.{name}")  # as in a process that runs it
    monkeypatch.setattr("sys.argv", ["", "-h"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(f"hbcomp.{name}", run_name="__main__", alter_sys=True)
    assert not stopped.value.code
    said = capfd.readouterr()
    assert said.err == ""
    assert f"Usage: python -m hbcomp.{name} " in said.out


@pytest.fixture
def planted(monkeypatch):
    """A command, in this process, that returns what it is given."""
    monkeypatch.setattr(cli, "COMMANDS", {})

    @cli.command("Look", then="hbcomp cv {made[name]} --train {train}")
    def plant(train: Path | None = None) -> dict[str, Any]:
        return {"made": {"name": "a b"}, "page": "page.html"}

    def call(*words):
        monkeypatch.setattr("sys.argv", ["plant", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.run(plant)
        assert not stopped.value.code

    return call


def test_the_last_lines_are_what_was_written_and_what_to_type_next(planted, capsys):
    planted("--train", "x.csv")
    assert capsys.readouterr().err == "page: page.html\nnext: hbcomp cv 'a b' --train x.csv\n"
    planted()  # a line that lacks a value is no help
    assert capsys.readouterr().err == "page: page.html\n"


@pytest.mark.parametrize(
    ("is_terminal", "words", "is_printed"),
    [(False, [], True), (True, [], False), (True, ["--json"], True)],
)
def test_json_is_for_pipes_or_on_demand(
    planted, capsys, monkeypatch, is_terminal, words, is_printed
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    planted(*words)
    out = capsys.readouterr().out
    assert out == ('{"made": {"name": "a b"}, "page": "page.html"}\n' if is_printed else "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "absent.csv"], "absent.csv: No such file or directory"),
        (["score", "absent.csv"], "absent.csv: No such file or directory"),
        (["cv", "absent"], "absent/config.toml: no such experiment"),
        (["cv", "a/b"], "an experiment's name must be letters"),
        (["cv", "--set", "train.lr"], "--set must look like section.key=value"),
        (["cv", "--train", "absent.csv"], "absent.csv: No such file or directory"),
        (["cv", "--test", "absent.csv"], "`test` needs `train`"),
        (["cv", "--set", "compute.device=cuda:7"], "compute.device: torch finds no device"),
        (["cv", "--set", "train.schedule.warmpu=1"], "unknown key train.schedule.warmpu, did you"),
        (["cv", "--set", "data.group_column=x"], "unknown key data.group_column"),
        (["cv", "--competition", "heartbaet"], "heartbaet: neither a folder with a competition.t"),
        (["predict", "absent"], "report.json: no such file; has the experiment finished?"),
        (["thresholds", "absent"], "predictions.npz: no such file; has the run finished?"),
        (["eda", "absent.csv"], "absent.csv: No such file or directory"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path, words, message):
    done = run_hbcomp(words, tmp_path)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith("error: ")
    assert message in line


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    done = run_hbcomp(["eda", "--out", "file/page"], tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_a_command_started_with_closed_streams_works(tmp_path, closed):
    words = [sys.executable, "-m", "hbcomp.ledger"]
    line = f"{shlex.join(words)} {closed}"
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert bool(done.stderr) == ("2>&-" not in closed)


def test_brackets_in_a_file_name_are_only_brackets(tmp_path, perfect):
    path = tmp_path / "sub[b].csv"
    path.write_text(perfect.read_text())
    done = run_hbcomp(["check", path.name], tmp_path)
    assert "sub[b].csv: 1,000 rows" in done.stderr
    assert "sub[b].csv" in run_hbcomp(["score", path.name], tmp_path).stderr


def test_score_refuses_doubled_ids(tmp_path):
    (tmp_path / "s.csv").write_text("id,label_0,label_1\na,1,0\na,1,0\nb,0,1\n")
    (tmp_path / "truth.csv").write_text("id,label\nb,1\na,0\n")
    done = run_hbcomp(["score", "s.csv", "--truth", "truth.csv"], tmp_path)
    assert (
        done.returncode,
        "the answers: ids must be unique, but repeated: id a" in done.stderr,
    ) == (2, True)


def test_check_accepts_a_perfect_file_and_score_gives_it_zero(tmp_path, perfect):
    assert last_json(run_hbcomp(["check", str(perfect)], tmp_path))["accepted"] is True
    numbers = last_json(run_hbcomp(["score", str(perfect)], tmp_path))
    assert (numbers["score"], numbers["n_rows"], numbers["accuracy"]) == (0.0, 1000, 1.0)


def test_score_matches_rows_by_id_where_check_insists_on_their_order(tmp_path, perfect):
    header, *rows = perfect.read_text().splitlines()
    perfect.write_text("\n".join([header, *rows[::-1]]))
    assert last_json(run_hbcomp(["score", str(perfect)], tmp_path))["score"] == 0.0
    done = run_hbcomp(["check", str(perfect)], tmp_path)
    assert done.returncode == 2
    assert "the ids must be in the test file's order" in done.stderr


def test_score_takes_a_truth_of_ones_own(tmp_path):
    (tmp_path / "s.csv").write_text("id,label_0,label_1\na,1,0\nb,0.5,0.5\n")
    (tmp_path / "truth.csv").write_text("id,label\nb,1\na,0\n")
    numbers = last_json(run_hbcomp(["score", "s.csv", "--truth", "truth.csv"], tmp_path))
    assert (numbers["score"], numbers["n_rows"]) == (10_000.0, 2)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("id,label\na,0\n", "no row for id b of the data"),
        ("id,label\na,0\nb,2\n", "labels must be below 2, the number of classes, not in id b"),
        ("id,label\na,0\nb,x\n", "id b: the label must be one of 0, 1, 2, ..., but is 'x'"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused(tmp_path, truth, message):
    (tmp_path / "s.csv").write_text("id,label_0,label_1\na,1,0\nb,0.5,0.5\n")
    (tmp_path / "truth.csv").write_text(truth)
    done = run_hbcomp(["score", "s.csv", "--truth", "truth.csv"], tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.fixture
def run(tmp_path):
    """A finished run's predictions and report, without the nets."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([0.3] * 3, 400)
    labels = (rng.random((400, 1)) > probs.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    write_files(tmp_path)
    write_experiment(tmp_path, "tiny")
    folder = RunFolder(tmp_path / "experiments" / "tiny")
    Predictions(
        train_ids=np.arange(400).astype(str),
        labels=labels,
        fold_of_row=np.arange(400) % 4,
        oof_probs=probs,
        test_ids=np.array([], dtype=np.str_),
        test_probs=np.zeros((0, 3)),
        train_fingerprint="beats",
        test_fingerprint="",
    ).save(folder.predictions_file)
    return folder


def test_the_threshold_study_never_beats_the_exact_optimum(run, tmp_path):
    numbers = last_json(run_hbcomp(["thresholds", "tiny", "--trials", "12"], tmp_path))
    predictions = Predictions.load(run.predictions_file)
    exact = fit_clip(predictions.oof_probs, predictions.labels)
    best = 20_000 * ABS_SUM.score(exact.apply(predictions.oof_probs), predictions.labels)
    assert numbers["exact"]["in_sample"] == pytest.approx(best)
    assert numbers["regret"] >= 0
    assert (run.path / "pictures" / "threshold-study.png").exists()


def test_the_threshold_study_says_where_it_goes_and_how_its_optimum_is_submitted(run, tmp_path):
    def said():
        return run_hbcomp(["thresholds", "tiny", "--trials", "1"], tmp_path).stderr

    assert (
        "studies.db and changes no submission. To use the exact thresholds in one: import" in said()
    )
    run.config_file.write_text("")
    assert "exact thresholds in one: hbcomp cv tiny --set decision.rule=tuned" in said()
    run.recipe_file.write_text("{}")
    assert "exact thresholds in one: blend the base models again with --rule tuned" in said()


def test_thresholds_of_another_metric_are_refused_with_the_rules_that_it_has(run, tmp_path):
    report = json.loads(run.report_file.read_text())
    report["metric"]["config"] = {"name": "macro-f1"}
    run.report_file.write_text(json.dumps(report))
    done = run_hbcomp(["thresholds", "tiny"], tmp_path)
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            "error: tiny: thresholds clip answers for abs-sum, but its metric is macro-f1, whose "
            "rules are argmax, class weights"
        ],
    )
    assert not (run.path / "studies.db").exists()


def test_trials_count_in_total_and_the_study_continues(run, tmp_path):
    def new_trials(n):
        return last_json(run_hbcomp(["thresholds", "tiny", "--trials", n], tmp_path))[
            "n_new_trials"
        ]

    assert [new_trials(n) for n in ("5", "8", "8", "3")] == [5, 3, 0, 0]


def test_the_same_seed_gives_the_same_study(run, tmp_path):
    words = ["thresholds", "tiny", "--trials", "6", "--seed", "3"]
    first = last_json(run_hbcomp(words, tmp_path))["optuna"]
    (run.path / "studies.db").unlink()
    assert last_json(run_hbcomp(words, tmp_path))["optuna"] == first


def test_an_interrupted_study_keeps_its_trials(run, tmp_path):
    import signal

    strike = Strike("tuning.thresholds", "clip_of", n=4, signal=signal.SIGINT)
    done = run_hbcomp(["thresholds", "tiny", "--trials", "9"], tmp_path, strike)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1].startswith("interrupted: 3 trials are kept")
    again = last_json(run_hbcomp(["thresholds", "tiny", "--trials", "9"], tmp_path))
    assert again["n_new_trials"] == 6


@pytest.mark.parametrize(
    ("threshold", "opening", "lo", "hi"),
    [(0.5, 0.0, 0.5, 0.5), (0.5, 0.8, 0.1, 0.9), (0.3, 1.0, 0.0, 1.0), (0.0, 0.2, 0.0, 0.2)],
)
def test_the_study_reaches_every_pair_of_thresholds(threshold, opening, lo, hi):
    rule = clip_of({"threshold": threshold, "opening": opening})
    assert (rule.lo, rule.hi) == (pytest.approx(lo), pytest.approx(hi))
