"""The rows of experiments, scored under a rule, and read again from their files."""

import json

import numpy as np
import pytest
from finished_experiments import N, write_experiment, write_files

from hbcomp.analysis.scored_rows import ScoredRows, load_train_rows
from hbcomp.experiment.report import oof_answers
from hbcomp.scoring.metrics import ACCURACY, MetricConfig, make_metric


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with data and an experiment."""
    write_files(tmp_path)
    write_experiment(tmp_path, "a", n_wrong=6)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        *[("abs-sum", rule) for rule in ("half", "raw", "tuned")],
        *[("macro-f1", rule) for rule in ("argmax", "class weights")],
        ("macro-roc-auc", "raw"),
    ],
)
def test_rows_are_scored_by_their_cross_fitted_answers(here, name, rule):
    metric = make_metric(MetricConfig(name=name), "012")
    predictions, _ = write_experiment(here, "b", n_wrong=4)
    scored = ScoredRows("b", metric, rule, predictions)
    answers = oof_answers(metric, predictions, rule)
    assert scored.score == pytest.approx(metric.score(answers, predictions.labels))
    assert np.array_equal(scored.is_right, answers.argmax(axis=1) == predictions.labels)


def test_accuracy_is_the_share_of_right_rows(here):
    predictions, _ = write_experiment(here, "b", n_wrong=4)
    scored = ScoredRows("b", ACCURACY, "argmax", predictions)
    assert scored.score == scored.is_right.mean() == (N - 4) / N
    assert scored.rows.greater_is_better


def test_the_rows_of_a_blend_are_read_as_its_base_models_say(here):
    _, report = write_experiment(here, "c", kind="blend", base_models={"a": 0.5, "b": 0.5})
    path = here / "experiments/c/report.json"
    path.write_text(json.dumps({key: value for key, value in report.items() if key != "config"}))
    fingerprint = report["data"]["fingerprint_train"]
    train = load_train_rows(["c"], fingerprint)
    assert (train.n_rows, train.fingerprint) == (N, fingerprint)


def test_without_any_configuration_the_rows_cannot_be_found(here):
    _, report = write_experiment(here, "c", config={})
    with pytest.raises(ValueError, match="no report says how the data were read"):
        load_train_rows(["c"], report["data"]["fingerprint_train"])
