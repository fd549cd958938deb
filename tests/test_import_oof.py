"""Probabilities made elsewhere: what is taken, what is refused, and what they are then."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from commands import Strike, few_trials, run_hbcomp
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.blending.import_probs import ImportOptions, read_imported
from hbcomp.blending.probs_files import read_probs
from hbcomp.competitions.load import load_data
from hbcomp.data.dataset import DataConfig
from hbcomp.data.splits import FoldsConfig, make_folds
from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import (
    Predictions,
    check_aligned,
    have_same_folds,
    write_probs_csv,
)
from hbcomp.system.errors import InputError

K = 3
TRAIN = make_rows(n=30, t=8, k=K)
CONFIG = FoldsConfig(n_folds=3, seeds=(0, 7))
PROBS = np.random.default_rng(0).dirichlet(np.ones(K), TRAIN.n_rows)


def table(probs=PROBS, **others):
    columns = {"id": TRAIN.ids, **others}
    return columns | {f"prob_{label}": probs[:, label] for label in range(K)}


def write(path, columns):
    names = list(columns)
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n")
    return path


def changed(row, label, value):
    probs = PROBS.astype(object)
    probs[row, label] = value
    return probs


@given(st.permutations(range(TRAIN.n_rows)), st.permutations(["id", "label", *list(table())[1:]]))
def test_rows_and_columns_may_come_in_any_order(tmp_path_factory, rows, names):
    columns = table(label=TRAIN.labels)
    shuffled = {name: columns[name][rows] for name in names}
    path = write(tmp_path_factory.mktemp("any") / "oof.csv", shuffled)
    assert np.array_equal(read_probs(path, TRAIN, TRAIN.classes, normalise=False).probs, PROBS)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": TRAIN.ids, "prob_0": PROBS[:, 0]}, "must have the columns id, prob_0, prob_1"),
        (table() | {"prob_3": PROBS[:, 0]}, "one for each of the 3 classes of the data, but has"),
        (table(extra=PROBS[:, 0]), "(and may have label and fold), one for each"),
        (table(id=TRAIN.ids[[1, *range(1, 30)]]), f"repeated: id {TRAIN.ids[1]}; no row for id"),
        (table(id=["x", *TRAIN.ids[1:]]), "not in the data: id x"),
        (table(changed(4, 1, "nan")), "row 5 (id 4): prob_1 must be a finite number, but is 'nan'"),
        (table(changed(4, 1, "")), "row 5 (id 4): prob_1 must be a finite number, but is ''"),
        (
            table(changed(4, 1, -0.1)),
            "row 5 (id 4): prob_1 must be in [0, 1] within 1e-05, but is -0.1",
        ),
        (
            table(changed(4, 1, 1.5)),
            "row 5 (id 4): prob_1 must be in [0, 1] within 1e-05, but is 1.5",
        ),
        (table(PROBS * 0.99), "must sum to 1 within 0.001, but not 30 ids: 0, 1, 2"),
        (table(label=1 - TRAIN.labels.clip(0, 1)), "label must be that of"),
        (table(label=["x", *TRAIN.labels[1:]]), "but is not for id 0"),
    ],
    ids=str,
)
def test_what_cannot_be_taken_is_refused_with_its_place(tmp_path, columns, message):
    path = write(tmp_path / "oof.csv", columns)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_probs(path, TRAIN, TRAIN.classes, normalise=False)
    assert str(error.value).startswith(str(path))


def test_all_problems_of_the_rows_are_named_at_once(tmp_path):
    probs = changed(4, 1, 2)
    probs[7, 2] = "inf"
    probs[9] = 0.5
    labels = TRAIN.labels.copy()
    labels[10] = (labels[10] + 1) % K
    path = write(tmp_path / "oof.csv", table(probs, id=["x", *TRAIN.ids[1:]], label=labels))
    with pytest.raises(InputError) as error:
        read_probs(path, TRAIN, TRAIN.classes, normalise=False)
    assert str(error.value).split(": ", 1)[1].split("; ") == [
        "row 5 (id 4): prob_1 must be in [0, 1] within 1e-05, but is 2",
        "row 8 (id 7): prob_2 must be a finite number, but is 'inf'",
        "no row for id 0 of the data",
        "not in the data: id x",
        "a row must sum to 1 within 0.001, but not id 9 (id 9 sums to 1.5)",
        "--normalise divides such rows by their sum",
        f"label must be that of {TRAIN.source}, but is not for id 10",
    ]


def test_rows_that_sum_to_1_within_tolerance_keep_their_bits(tmp_path):
    rounded = PROBS.round(4)
    path = write(tmp_path / "oof.csv", table(rounded))
    assert not np.array_equal(rounded.sum(axis=1), np.ones(30))
    for normalise in (False, True):
        read = read_probs(path, TRAIN, TRAIN.classes, normalise=normalise)
        assert np.array_equal(read.probs, rounded)
        assert read.n_normalised == 0


@pytest.mark.parametrize("normalise", [False, True])
def test_what_rounding_puts_outside_of_0_and_1_counts_as_0_or_1_and_is_counted(tmp_path, normalise):
    probs = PROBS.copy()
    probs[2], probs[5] = [1.0000001, 0, 0], [-1e-9, 1.000005, 0]
    path = write(tmp_path / "oof.csv", table(probs))
    read = read_probs(path, TRAIN, TRAIN.classes, normalise=normalise)
    assert read.probs[[2, 5]].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert (read.n_rounded, read.n_normalised) == (2, 0)
    assert np.array_equal(np.delete(read.probs, [2, 5], axis=0), np.delete(PROBS, [2, 5], axis=0))
    for cell in (1.0001, -0.0001):
        with pytest.raises(InputError, match=f"must be in .0, 1. within 1e-05, but is {cell}"):
            read_probs(
                write(tmp_path / "off.csv", table(changed(4, 1, cell))),
                TRAIN,
                TRAIN.classes,
                normalise=normalise,
            )


def test_normalise_divides_only_the_rows_that_are_off_and_counts_them(tmp_path):
    off = PROBS.copy()
    off[[2, 5]] /= 2
    read = read_probs(write(tmp_path / "oof.csv", table(off)), TRAIN, TRAIN.classes, normalise=True)
    np.testing.assert_allclose(read.probs, PROBS, rtol=1e-15)
    assert read.n_normalised == 2
    off[3] = 0
    with pytest.raises(InputError, match="a row of zeros cannot be normalised: id 3"):
        read_probs(write(tmp_path / "oof.csv", table(off)), TRAIN, TRAIN.classes, normalise=True)


def imported(path, test=None, seed=None):
    options = ImportOptions(path, test, "mine", Config(folds=CONFIG), seed)
    return read_imported(options, TRAIN, None)


def test_a_fold_column_is_what_the_model_was_made_over(tmp_path):
    fold = np.arange(30) // 3 % 2
    of_file = imported(write(tmp_path / "oof.csv", table(fold=fold)))
    assert (of_file.has_own_folds, of_file.folds.n_folds) == (True, 2)
    assert np.array_equal(of_file.predictions.fold_of_row, fold)
    with pytest.raises(InputError, match="its fold column decides, so --seed would be ignored"):
        imported(tmp_path / "oof.csv", seed=7)
    with pytest.raises(InputError, match=r"oof.csv: no row is held out in fold"):
        imported(write(tmp_path / "oof.csv", table(fold=fold * 2)))


@pytest.mark.parametrize("seed", [None, 7])
def test_without_a_fold_column_the_folds_are_those_of_the_experiment(tmp_path, seed):
    vouched_for = imported(write(tmp_path / "oof.csv", table()), seed=seed)
    expected = make_folds(CONFIG, TRAIN, 0 if seed is None else seed).fold_of_row
    assert not vouched_for.has_own_folds
    assert np.array_equal(vouched_for.predictions.fold_of_row, expected)


def test_a_seed_that_the_experiment_has_not_is_refused(tmp_path):
    with pytest.raises(InputError, match=re.escape("one of the experiment's (0, 7), but got 1")):
        imported(write(tmp_path / "oof.csv", table()), seed=1)


def test_test_rows_that_the_experiment_has_not_are_refused(tmp_path):
    oof = write(tmp_path / "oof.csv", table())
    with pytest.raises(InputError, match=r"test.csv: the experiment has no test file"):
        imported(oof, test=tmp_path / "test.csv")


# --- the commands -----------------------------------------------------------------------------

SETTINGS = [
    *("net.widths=[4,8]", "net.strides=[2,2]", "net.hidden=8", "train.n_epochs=1"),
    *("train.batch_size=16", "folds.n_folds=3", "compute.device=cpu", "compute.n_threads=1"),
    *("data.train=train.csv", "data.test=test.csv"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a finished run of one epoch, called `run`, and its import, called `copy`."""
    folder = tmp_path_factory.mktemp("place")
    write_competition_csv(folder / "train.csv", make_rows(n=60, t=16, k=K))
    test = make_rows(n=20, t=16, k=K, seed=1)
    ids = np.array([f"t{row}" for row in range(20)])
    write_competition_csv(folder / "test.csv", replace(test, ids=ids, labels=None))
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    last_json(run_hbcomp(["cv", "--name", "run", *words], folder))
    assert last_json(import_run("copy", cwd=folder))["has_own_folds"]
    return folder


def last_json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def import_run(name, *words, cwd, strike=None):
    """Import what the run itself wrote, under another name."""
    files = ["--oof", "experiments/run/oof.csv", "--test", "experiments/run/test.csv"]
    return run_hbcomp(["import-oof", name, *files, "--like", "run", *words], cwd, strike)


def loaded(place, name):
    return Predictions.load(RunFolder(place / "experiments" / name).predictions_file)


def test_the_files_of_a_run_import_as_that_run(place):
    run, copy = loaded(place, "run"), loaded(place, "copy")
    assert copy.test_probs_of_fold is None, "which no file has"
    for name in vars(run).keys() - {"test_probs_of_fold"}:
        assert np.array_equal(getattr(run, name), getattr(copy, name)), name
    check_aligned({"run": run, "copy": copy})
    assert have_same_folds({"run": run, "copy": copy})
    files = [place / "submissions" / f"{name}.csv" for name in ("run", "copy")]
    assert files[0].read_bytes() == files[1].read_bytes()
    reports = [
        json.loads((place / "experiments" / name / "report.json").read_text())
        for name in ("run", "copy")
    ]
    assert [report["kind"] for report in reports] == ["run", "imported"]
    for key in ("rules", "chosen", "score", "metric", "by_class", "confusion", "accuracy"):
        assert reports[0][key] == reports[1][key], key
    assert "the 3 folds of its file" in (place / "experiments/copy/report.html").read_text()


def competition(folder, metric):
    """Write a competition of that metric and return its folder."""
    folder.mkdir()
    (folder / "competition.toml").write_text(
        f'title = "Mine"\n[data]\nsignal = "heartbeat_signals"\n[metric]\n{metric}\n'
    )
    return str(folder)


def test_the_metric_is_that_of_the_run_or_of_a_competition_that_is_named(place):
    folder = competition(place / "mine", 'name = "macro-f1"')
    scored = last_json(import_run("scored", "--competition", folder, cwd=place))
    assert scored["metric"] == "macro-f1"
    assert list(scored["oof_scores"]) == ["argmax", "class weights"]
    report = json.loads((place / "experiments/scored/report.json").read_text())
    assert (report["metric"]["config"], report["config"]["data"]["competition"]) == (
        {"name": "macro-f1"},
        folder,
    )
    words = ["--oof", "experiments/run/oof.csv", "--train", "train.csv"]
    default = last_json(run_hbcomp(["import-oof", "alone", *words], place))
    assert (default["metric"], default["has_own_folds"]) == ("abs-sum", True)
    named = ["import-oof", "named", *words, "--competition", folder]
    assert last_json(run_hbcomp(named, place))["oof_scores"] == scored["oof_scores"]
    mixed = run_hbcomp(["blend", "run", "scored"], place)
    assert "error: all must be scored as run was, by abs-sum" in mixed.stderr


def test_without_a_run_the_file_must_have_folds(place):
    run = loaded(place, "run")
    write_probs_csv(place / "no_folds.csv", run.train_ids, run.oof_probs)
    words = ["import-oof", "none", "--oof", "no_folds.csv", "--train", "train.csv"]
    done = run_hbcomp(words, place)
    assert done.returncode == 2
    assert done.stderr == "error: no_folds.csv: without --like it must have a column fold\n"


def test_a_metric_of_code_from_elsewhere_is_executed_only_if_trusted(place, tmp_path):
    metric = 'name = "metric.py:score"\ngreater_is_better = true\nanswers = "labels"'
    folder = competition(tmp_path / "theirs", metric)
    (tmp_path / "theirs/metric.py").write_text(
        "def score(solution, submission, row_id_column_name):\n"
        "    return float((solution['label'] == submission['label']).mean())\n"
    )
    refused = import_run("theirs", "--competition", folder, cwd=place)
    assert refused.returncode == 2
    assert "which is executed only with --trust" in refused.stderr
    assert not (place / "experiments/theirs/report.json").exists()
    trusted = last_json(import_run("theirs", "--competition", folder, "--trust", cwd=place))
    run = loaded(place, "run")
    hits = (run.oof_probs.argmax(axis=1) == run.labels).mean()
    assert trusted["oof_scores"]["argmax"]["cross_fitted"] == pytest.approx(hits)
    last_json(import_run("again", "--competition", folder, "--trust", cwd=place))
    words = ["blend", "theirs", "again", "--name", "both"]
    assert "only with --trust" in run_hbcomp(words, place).stderr
    blended = last_json(
        run_hbcomp([*words, "--method", "mean", "--trust"], place, None, few_trials)
    )
    assert blended["metric"] == "metric.py:score"
    assert blended["score"] == pytest.approx(hits, abs=1e-6)


def test_an_import_without_folds_says_whose_they_are_taken_for(place):
    run = loaded(place, "run")
    write_probs_csv(place / "bare.csv", run.train_ids, run.oof_probs)
    done = run_hbcomp(["import-oof", "bare", "--oof", "bare.csv", "--like", "run"], place)
    numbers = last_json(done)
    assert (numbers["has_own_folds"], numbers["submission"], numbers["n_test"]) == (False, None, 0)
    assert "taken on trust as made over the 3 folds of run, seed 0" in done.stderr
    assert "warning: if a model predicted rows that it was trained on" in done.stderr
    assert "without --test there is no submission" in done.stderr


def test_an_import_is_not_replaced_by_another_unless_forced(place):
    last_json(import_run("kept", cwd=place))
    run = loaded(place, "run")
    write_probs_csv(place / "other.csv", run.train_ids, run.oof_probs[:, ::-1].copy())
    words = ["import-oof", "kept", "--oof", "other.csv", "--like", "run"]
    refused = run_hbcomp(words, place)
    assert refused.returncode == 2
    assert "experiments/kept holds another import, with other oof file, test file" in refused.stderr
    assert np.array_equal(loaded(place, "kept").oof_probs, run.oof_probs)
    last_json(run_hbcomp([*words, "--force"], place))
    assert np.array_equal(loaded(place, "kept").oof_probs, run.oof_probs[:, ::-1])
    assert not (place / "experiments/kept/test.csv").exists()


def test_an_import_never_takes_the_place_of_a_run(place):
    refused = import_run("run", "--force", cwd=place)
    assert refused.returncode == 2
    assert "experiments/run is an experiment of another kind; choose another NAME" in refused.stderr


def test_a_folder_with_an_unreadable_report_is_refused(place):
    (place / "experiments/odd").mkdir()
    (place / "experiments/odd/report.json").write_text("{")
    refused = import_run("odd", cwd=place)
    assert refused.returncode == 2
    assert "experiments/odd/report.json: not a report" in refused.stderr


def test_an_import_that_was_killed_has_no_report_and_the_same_command_may_come_again(place):
    strike = Strike("experiment.finish", "write_predictions", is_after=True)
    assert import_run("killed", cwd=place, strike=strike).returncode < 0
    assert not (place / "experiments/killed/report.json").exists()
    for _ in range(2):
        last_json(import_run("killed", cwd=place))
    assert (place / "experiments/killed/report.json").exists()


def test_an_import_has_no_nets_to_predict_with(place):
    done = run_hbcomp(["predict", "copy"], place)
    assert done.returncode == 2
    assert "error: copy was imported: it has no nets" in done.stderr


def test_a_run_writes_the_folds_of_its_rows_into_oof_csv(place):
    run = loaded(place, "run")
    with (place / "experiments/run/oof.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "label", "fold", "prob_0", "prob_1", "prob_2"]
    assert [int(row[2]) for row in rows] == run.fold_of_row.tolist()


def test_the_folds_that_are_written_are_those_of_the_run(place):
    words = ["folds", "run", "--out", "folds.csv"]
    assert last_json(run_hbcomp(words, place))["n_folds"] == 3
    last_json(run_hbcomp(words, place))  # the same again
    beats, _ = load_data(DataConfig(train=place / "train.csv"))
    again = make_folds(FoldsConfig(file=place / "folds.csv"), beats, seed=0)
    assert np.array_equal(again.fold_of_row, loaded(place, "run").fold_of_row)
    refused = run_hbcomp([*words, "--set", "folds.seeds=[5]"], place)
    assert refused.returncode == 2
    assert "folds.csv: exists and holds something else; choose another --out" in refused.stderr
