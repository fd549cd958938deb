"""Comparing two experiments: the numbers against loops, the page, and what is refused."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import run_hbcomp
from finished_experiments import K, M, N, probs_for, write_experiment, write_files
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hbcomp.analysis import compare_page as page
from hbcomp.analysis.compare_runs import changed_rows, compare
from hbcomp.analysis.scored_rows import ScoredRows
from hbcomp.experiment.predictions import Predictions
from hbcomp.reporting.pages import Link
from hbcomp.scoring.metrics import ABS_SUM, MetricConfig, make_metric
from hbcomp.scoring.own_metric import OwnMetric

MACRO_F1 = MetricConfig(name="macro-f1")
METRICS = {
    name: make_metric(MetricConfig(name=name), [str(label) for label in range(K)])
    for name in ("abs-sum", "accuracy", "macro-f1", "macro-roc-auc")
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with data and two experiments, of which only rows 4 and 5 differ."""
    write_files(tmp_path)
    write_experiment(tmp_path, "a", n_wrong=6)
    write_experiment(tmp_path, "b", n_wrong=4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def some_predictions(probs, labels):
    return Predictions(
        train_ids=np.array([f"id{row}" for row in range(len(labels))]),
        labels=labels,
        fold_of_row=np.arange(len(labels)) % 3,
        oof_probs=probs,
        test_ids=np.array(["t0", "t1"]),
        test_probs=probs[:2],
        train_fingerprint="train",
        test_fingerprint="test",
    )


@st.composite
def pairs(draw):
    """Two experiments' predictions of the same 30 rows."""
    labels = np.arange(30) % K
    shares = arrays(np.float64, (30, K), elements=st.floats(0.01, 1))
    drawn = [draw(shares) for _ in range(2)]
    return [some_predictions(each / each.sum(axis=1, keepdims=True), labels) for each in drawn]


def scored(pair, rule="half", metric=ABS_SUM):
    return [ScoredRows(name, metric, rule, each) for name, each in zip("ab", pair, strict=True)]


RULES = [
    *[("abs-sum", rule) for rule in ("half", "raw", "tuned")],
    ("accuracy", "argmax"),
    *[("macro-f1", rule) for rule in ("argmax", "class weights")],
    ("macro-roc-auc", "raw"),
]


@settings(max_examples=40)
@given(pairs(), st.sampled_from(RULES))
def test_the_numbers_are_those_of_a_loop_over_the_rows(pair, metric_and_rule):
    name, rule = metric_and_rule
    a, b = scored(pair, rule, METRICS[name])
    numbers = compare(a, b)
    gap = numbers["difference"]
    difference = numbers["a"]["score"] - numbers["b"]["score"]
    of_answers = [METRICS[name].score(each.answers, each.labels) for each in (a, b)]
    assert difference == pytest.approx(of_answers[0] - of_answers[1], abs=1e-9)
    assert gap["value"] == pytest.approx(difference, abs=1e-9)
    assert gap["low"] <= gap["value"] + 1e-9
    assert gap["value"] <= gap["high"] + 1e-9
    of_classes = sum(row["difference"]["value"] for row in numbers["by_class"])
    assert of_classes == pytest.approx(difference, abs=1e-9)
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for one, other, label in zip(a.predicted, b.predicted, a.labels, strict=True):
        counts[bool(one == label), bool(other == label)] += 1
    names = ["n_both_right", "n_only_a_right", "n_only_b_right", "n_both_wrong"]
    assert [numbers[name] for name in names] == list(counts.values())


@settings(max_examples=25)
@given(pairs(), st.sampled_from([("abs-sum", "half"), ("accuracy", "argmax")]))
def test_whatever_the_truth_the_test_scores_differ_by_no_more_than_the_maximum(
    pair, metric_and_rule
):
    name, rule = metric_and_rule
    a, b = scored(pair, rule, METRICS[name])
    maximum = compare(a, b)["test"]["max_difference"]
    for truth in np.ndindex(K, K):
        scores = [METRICS[name].score(each.test_answers, np.array(truth)) for each in (a, b)]
        assert abs(scores[0] - scores[1]) <= maximum + 1e-9


@settings(max_examples=25)
@given(pairs())
def test_changed_rows_are_exactly_those_predicted_differently(pair):
    a, b = scored(pair)
    changed = changed_rows(a, b)
    assert set(changed["row"]) == set(np.flatnonzero(a.predicted != b.predicted))
    gaps = (changed["contribution_a"] - changed["contribution_b"]).abs()
    assert gaps.is_monotonic_decreasing
    for row in changed.itertuples():
        predicted = {"a": row.predicted_a, "b": row.predicted_b}
        assert [run for run in "ab" if predicted[run] == row.label] == [
            run for run in "ab" if run == row.right
        ]


def test_an_experiment_against_its_own_copy_differs_by_nothing():
    labels = np.arange(30) % K
    same = ScoredRows("a", ABS_SUM, "half", some_predictions(probs_for(labels, 5), labels))
    numbers = compare(same, replace(same, name="b"))
    gap = numbers["difference"]
    assert (gap["value"], gap["standard_error"], gap["low"], gap["high"]) == (0, 0, 0, 0)
    assert numbers["mcnemar_p_value"] == 1
    assert "within noise" in page.verdict({**numbers, "selected": [[], []]})


def sure_of(n_rows, n_wrong):
    """Return predictions of `n_rows` rows of which the first are wrong, each at a cost of 2."""
    labels = np.arange(n_rows) % K
    return some_predictions(probs_for(labels, n_wrong), labels)


def verdict_of(n_wrong, n_other_wrong, selected=(), other_selected=(), metric="abs-sum"):
    """Return verdict and notes of two experiments on 600 rows."""
    metric = METRICS[metric]
    numbers = compare(
        ScoredRows("one", metric, metric.rules[0], sure_of(600, n_wrong)),
        ScoredRows("other", metric, metric.rules[0], sure_of(600, n_other_wrong)),
    )
    numbers |= {"selected": [selected, other_selected], "is_grouped": [False] * 2}
    return page.verdict(numbers), [*page.notes(numbers)]


@pytest.mark.parametrize("metric", METRICS)
def test_what_was_selected_on_these_rows_is_never_better_beyond_noise(metric):
    assert "beyond noise" in verdict_of(20, 40, metric=metric)[0]
    text, (note,) = verdict_of(20, 40, selected=("weights", "method"), metric=metric)
    assert "beyond noise" not in text
    assert "no proof that one is better: it was chosen on these rows" in text
    assert note.startswith("The weights and method were chosen for one on these very rows")
    assert "selection bias" in note


@pytest.mark.parametrize("metric", METRICS)
def test_selection_that_did_not_help_is_said_and_the_other_is_beyond_noise(metric):
    text, (note,) = verdict_of(20, 40, other_selected=("rule",), metric=metric)
    assert "beyond noise" in text
    assert note.startswith("The rule was chosen for other on these very rows")


def test_a_blend_and_a_tuned_experiment_say_their_selection(here):
    write_experiment(here, "c", n_wrong=1, kind="blend", base_models={"a": 0.5, "b": 0.5})
    (here / "experiments/b/config.toml").write_text("# Trial 3 of study 'tune' of a.\n")
    done = run_hbcomp(["compare", "b", "c"], here)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout.splitlines()[-1])
    assert numbers["selected"] == [
        ["hyperparameters"],
        ["weights", "method", "calibration", "rule"],
    ]
    said = " ".join(done.stderr.split())
    assert "The hyperparameters were chosen for b on these very rows" in said
    assert "The weights, method, calibration and rule were chosen for c on these" in said
    text = (here / numbers["page"]).read_text()
    assert text.count("selection bias") == 2


def test_the_command_writes_the_page_and_the_changed_rows(here):
    done = run_hbcomp(["compare", "a", "b"], here, draws=True)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout.splitlines()[-1])
    # Two rows of 60 cost 2 in a and 0 in b.
    assert numbers["difference"]["value"] == pytest.approx(2 * 2 / N * 20_000)
    assert (numbers["n_only_a_right"], numbers["n_only_b_right"]) == (0, 2)
    assert numbers["test"] == {
        "n_rows": M,
        "n_changed": 2,
        "n_class_changes": 2,
        "max_difference": 4000.0,
    }
    text = Path(here / numbers["page"]).read_text()
    assert numbers["page"] == "experiments/comparisons/a~b.html"
    assert 'id="only-b-right"' in text
    assert 'id="only-a-right"' not in text  # there is no such row
    with (here / numbers["changed_rows"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["right"]) for row in rows] == [("4", "b"), ("5", "b")]


def test_a_metric_that_is_no_mean_over_rows_has_a_page_without_a_maximum(here):
    for name, n_wrong in (("c", 6), ("d", 4)):
        write_experiment(here, name, n_wrong, metric=MACRO_F1)
    done = run_hbcomp(["compare", "c", "d"], here)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout.splitlines()[-1])
    assert numbers["metric"] == "macro-f1"
    assert numbers["difference"]["value"] < 0
    assert numbers["test"]["max_difference"] is None
    text = (here / numbers["page"]).read_text()
    assert "macro-f1 (higher is better)" in text
    assert "maximum score difference" not in text
    assert "abs-sum" not in text


def test_a_function_of_ones_own_has_no_shares_of_classes():
    function = OwnMetric("own", METRICS["accuracy"].score, greater_is_better=True, answers="labels")
    a, b = (
        ScoredRows(name, function, "argmax", sure_of(600, n)) for name, n in (("a", 6), ("b", 4))
    )
    numbers = compare(a, b)
    assert numbers["difference"]["value"] == pytest.approx(-2 / 600)
    assert numbers["by_class"] == []
    numbers |= {"is_grouped": [False] * 2}
    assert "By true class" not in [table.title for table in page.tables(numbers)]


def test_scores_of_other_metrics_are_not_compared(here):
    write_experiment(here, "c", metric=MACRO_F1)
    done = run_hbcomp(["compare", "a", "c"], here)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert "but got a: abs-sum per 20,000 rows (lower is better); c: macro-f1 (higher" in line


def test_a_rule_that_the_metric_does_not_have_is_refused_with_those_it_has(here):
    for name in "cd":
        write_experiment(here, name, metric=MACRO_F1)
    done = run_hbcomp(["compare", "c", "d", "--rule", "half"], here)
    (line,) = done.stderr.splitlines()
    assert "rule must be one of auto, argmax, class weights, but got 'half'" in line


def test_a_rule_for_both_replaces_their_own(here):
    done = run_hbcomp(["compare", "a", "b", "--rule", "raw"], here)
    numbers = json.loads(done.stdout.splitlines()[-1])
    assert {numbers[run]["rule"] for run in "ab"} == {"raw"}


def test_without_the_files_the_page_says_why_there_are_no_waveforms(here):
    (here / "train.csv").unlink()
    done = run_hbcomp(["compare", "a", "b"], here)
    assert done.returncode == 0, done.stderr
    text = (here / "experiments/comparisons/a~b.html").read_text()
    assert "The waveforms are not drawn" in text
    assert "train.csv" in text


def test_files_that_changed_since_are_not_drawn(here):
    write_files(here, seed=1)
    assert run_hbcomp(["compare", "a", "b"], here).returncode == 0
    text = (here / "experiments/comparisons/a~b.html").read_text()
    assert "train.csv holds other rows than the experiments were made on" in text


def test_other_folds_are_said(here):
    path = here / "experiments/b/predictions.npz"
    stored = Predictions.load(path)
    replace(stored, fold_of_row=stored.fold_of_row[::-1].copy()).save(path)
    numbers = json.loads(run_hbcomp(["compare", "a", "b"], here).stdout.splitlines()[-1])
    assert numbers["has_same_folds"] is False
    text = (here / "experiments/comparisons/a~b.html").read_text()
    assert "cross-validated over different folds" in text


def test_two_experiments_with_names_of_markup_are_only_text(here):
    names = ["<script>a</script>", "<b>"]
    a, b = (
        ScoredRows(name, ABS_SUM, "half", sure_of(30, n_wrong))
        for name, n_wrong in zip(names, (3, 4), strict=True)
    )
    more = {"has_same_folds": True, "is_grouped": [False, False], "selected": [[], []]}
    page.write_page(here / "p.html", {**compare(a, b), **more}, [], Link("c", Path("c.csv")))
    text = (here / "p.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;a" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "a"], "two experiments are compared, but got 'a' twice"),
        (["a", "absent"], "report.json: no such file; has the experiment finished?"),
        (["a", "b", "--rule", "best"], "rule must be one of auto, half, argmax, raw"),
        (["a", "b/c"], "an experiment's name must be letters"),
    ],
)
def test_what_cannot_be_compared_is_one_line(here, words, message):
    done = run_hbcomp(["compare", *words], here)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert message in line


def test_other_rows_are_refused(here):
    path = here / "experiments/b/predictions.npz"
    replace(Predictions.load(path), train_fingerprint="other").save(path)
    done = run_hbcomp(["compare", "a", "b"], here)
    assert (done.returncode, "b was made on other train rows than a" in done.stderr) == (2, True)


def test_a_chosen_rule_that_is_no_candidate_asks_for_one(here):
    write_experiment(here, "c", chosen={"name": "of its own", "rule": {"kind": "half"}})
    done = run_hbcomp(["compare", "a", "c"], here)
    assert (done.returncode, "give both one with --rule" in done.stderr) == (2, True)
    assert run_hbcomp(["compare", "a", "c", "--rule", "half"], here).returncode == 0
