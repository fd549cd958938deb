"""The one model of report.json: what is written is read, and what is damaged is one line."""

import json
from pathlib import Path

import pytest

from hbcomp.analysis.ranking_page import read_rows
from hbcomp.blending.import_probs import _check_target
from hbcomp.crossval.predict import apply_run, read_trained
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.report import (
    Expectation,
    Refit,
    Report,
    read_part,
    read_report,
    scores_in_words,
    write_part,
)
from hbcomp.system.command import console
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.verification.checks import verify_run

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
SHOWN = RESULTS / "resnet" / "report.json"
REPORTS = sorted(path.relative_to(RESULTS) for path in RESULTS.rglob("report.json"))


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "a")


def write(run, change):
    report = json.loads(SHOWN.read_text())
    change(report)
    run.path.mkdir()
    run.report_file.write_text(json.dumps(report))


def put(value, *path):
    """Return a change of a report that puts a value, or nothing, at a path."""

    def change(report):
        *parents, last = path
        for key in parents:
            report = report[key]
        if value is None:
            del report[last]
        else:
            report[last] = value

    return change


def test_what_a_run_says_of_its_nets_is_read(run):
    write(run, lambda report: None)
    trained = read_trained(run)
    assert trained.nets == [(seed, fold) for seed in (0, 1) for fold in range(5)]
    assert (trained.shape, trained.n_classes) == ((1, 205), 4)
    assert trained.config.net.name == "resnet"
    chosen, compute = trained.report.chosen, trained.report.environment.compute
    assert (chosen.name, chosen.rule.kind, compute.n_threads) == ("half", "half", 1)


SCORES = {"n_rows": 9, "scores": {}, "accuracy": 1.0, "last_loss": 0.1}
NET = {"seed": 0, "fold": 0, "train_seconds": 1.0, **SCORES}
DAMAGES = [
    (put(None, "config"), "there is no config"),
    (put({"a": {}}, "config"), "unknown key a"),
    (put([], "config"), "config: "),
    (put(None, "data"), "data: Field required"),
    (put(None, "data", "n_timepoints"), "there is no data.n_timepoints"),
    (put("205", "data", "n_timepoints"), "data.n_timepoints: "),
    (put(10**12, "data", "n_classes"), "data.n_classes: "),
    (put(-5, "data", "n_train"), "data.n_train: "),
    (put(None, "folds"), "there is no folds"),
    (put({}, "folds"), "folds: "),
    (put([NET, NET], "folds"), "folds must be unique"),
    (put([{**NET, "seed": -1}], "folds"), "folds.0.seed: "),
    (put([{**NET, "fold": "all"}], "folds"), "folds.0.fold: "),
    (put(None, "chosen", "rule"), "chosen.rule: Field required"),
    (put({"kind": "best"}, "chosen", "rule"), "chosen.rule.kind must be one of "),
    (put({"kind": "clip", "lo": 0.9, "hi": 0.1}, "chosen", "rule"), "lo <= hi must hold"),
    (put(None, "environment", "compute"), "there is no environment.compute"),
    (put("fp8", "environment", "compute", "precision"), "environment.compute.precision: "),
    (put(0, "environment", "compute", "n_threads"), "environment.compute.n_threads: "),
    (put(1e13, "score"), "score: "),
    (put(None, "standard_error"), "standard_error: Field required"),
    (put("boosted", "kind"), "kind: "),
    (put(None, "rules", 0, "in_sample"), "rules.0.in_sample: Field required"),
    (put("one", "format"), "format: "),
    (put(0, "format"), "format: "),
    (put(2, "format"), "format: 2 is of a later hbcomp, and this one reads 1 at most"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGES, ids=[text for _, text in DAMAGES])
def test_a_damaged_report_is_refused_with_its_path_and_the_key(run, change, message):
    write(run, change)
    with pytest.raises(InputError) as error:
        apply_run(run, None, None, None, console)
    assert str(error.value).startswith(f"{run.report_file}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("refit", "message"),
    [
        ({}, "seeds: Field required; chosen: Field required"),
        ({"seeds": [], "chosen": {"name": "half", "rule": {"kind": "half"}}}, "seeds: "),
        ({"seeds": [-1], "chosen": {"name": "half", "rule": {"kind": "half"}}}, "seeds.0: "),
        ({"seeds": [0], "chosen": {"name": "half"}}, "chosen.rule: Field required"),
    ],
)
def test_a_damaged_refit_is_refused_with_its_path_and_the_key(run, refit, message):
    write(run, lambda report: None)
    run.refit_file.write_text(json.dumps(refit))
    with pytest.raises(InputError) as error:
        apply_run(run, None, None, None, console, is_refit=True)
    assert str(error.value).startswith(f"{run.refit_file}: {message}")


@pytest.mark.parametrize("name", REPORTS, ids=str)
def test_every_report_here_is_read_and_written_again_as_it_was(tmp_path, name):
    stored = json.loads((RESULTS / name).read_text())
    write_part(tmp_path / "report.json", read_report(RESULTS / name))
    again = json.loads((tmp_path / "report.json").read_text())
    assert again.pop("format") == 1
    without_none = [{**row, "n_none": 0} for row in stored["by_class"]]  # of older builds
    assert again == {**stored, "by_class": without_none}


def test_a_refit_of_a_later_format_is_one_line(tmp_path):
    path = tmp_path / "refit.json"
    path.write_text('{"format": 3, "seeds": "of another kind"}')
    with pytest.raises(InputError) as error:
        read_part(path, Refit)
    assert (
        str(error.value) == f"{path}: format: 3 is of a later hbcomp, and this one reads 1 at most"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\0", '{"data": {"n_train": 1e999}}'])
def test_what_is_no_report_is_refused_by_every_reader(run, content):
    run.path.mkdir()
    run.report_file.write_text(content)
    for read in (read_trained, lambda run: _check_target(run, {}, force=True)):
        with pytest.raises(InputError, match="report"):
            read(run)
    assert list(read_rows(run.path.parent)[1]) == ["a"]
    assert {each.status for each in verify_run(run, None)} == {"FAILED", "not checked"}


@pytest.mark.parametrize("name", ["../outside", "/etc", "a/b", "ledger"])
def test_base_models_that_lead_outside_of_the_experiments_are_refused(run, name):
    write(run, put({name: 1.0}, "base_models"))
    with pytest.raises(InputError, match=r"report\.json: base_models: an experiment"):
        read_report(run.report_file)


@pytest.mark.parametrize(
    ("metric", "n_rows", "is_noted"),
    [
        ("macro-f1", 19, True),
        ("macro-f1", 20, False),
        ("macro-roc-auc", 19, True),
        ("accuracy", 19, False),
        ("abs-sum", 19, False),
    ],
)
def test_a_standard_error_that_a_rare_class_decides_is_called_rough(metric, n_rows, is_noted):
    report = json.loads(SHOWN.read_text())
    report["metric"] = {"config": {"name": metric}, "classes": ["a", "b", "c", "d"]}
    report["by_class"][2]["n_rows"] = n_rows
    said = scores_in_words(validate(Report, report, "report.json"))
    assert ("fewer than 20 rows of class c (19)" in said) == is_noted


def test_for_other_rows_the_interval_has_their_noise_and_ends_at_the_bounds_of_the_metric():
    parts = {"gain": -20.0, "of_oof_rows": 6.0, "of_test_rows": 8.0, "of_gain": 0.0}
    report = read_report(SHOWN)
    expected = Expectation(value=212.0, low=192.0, high=232.0, **parts)
    report = report.model_copy(update={"expected": expected})
    n_test = report.data.n_test
    as_many, few, one = (report.of_other_rows(n).expected for n in (n_test, n_test // 4, 1))
    assert (as_many.value, as_many.low, as_many.high) == pytest.approx(
        (212.0, 192.0, 232.0), abs=0.1
    )
    assert few.of_test_rows == pytest.approx(16.0)
    assert few.high - few.low == pytest.approx(4 * (6.0**2 + 16.0**2) ** 0.5)
    assert (one.low, one.value) == (0.0, few.value)


def test_without_an_expected_score_none_is_made_up_for_other_rows():
    report = read_report(SHOWN)
    assert report.expected is None
    assert report.of_other_rows(7).expected is None
