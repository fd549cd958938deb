import numpy as np
import pytest

from hbcomp.scoring import choice
from hbcomp.scoring.choice import (
    RULES,
    check_rule_name,
    choose,
    cross_fitted_scores,
    evaluate_rules,
    fit_floor,
    fixed_rule,
    least_cost,
)
from hbcomp.scoring.class_metrics import CLASS_METRICS
from hbcomp.scoring.decision import ArgMax, Clip, Half, Raw
from hbcomp.scoring.metrics import ABS_SUM, ACCURACY, LOG_LOSS, MAKERS, MetricConfig, make_metric
from hbcomp.scoring.paired import RowScores, paired_difference
from hbcomp.system.errors import InputError


@pytest.fixture
def calibrated():
    """Probabilities that are frequencies: labels drawn from them."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([0.1] * 4, 4000)
    labels = (rng.random((4000, 1)) > probs.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    return probs, labels, rng.integers(0, 5, 4000)


def test_every_rule_is_scored_in_sample_and_cross_fitted(calibrated):
    results = evaluate_rules(ABS_SUM, *calibrated)
    assert [result.name for result in results] == list(ABS_SUM.rules)
    for result in results[:4]:  # nothing is fitted: both are the same
        assert result.in_sample == pytest.approx(result.cross_fitted)


def test_half_is_chosen_on_calibrated_probabilities(calibrated):
    assert choose(evaluate_rules(ABS_SUM, *calibrated)).name == "half"


def test_a_tuned_rule_is_chosen_where_half_is_wrong_beyond_noise(calibrated):
    probs, labels, fold_of_row = calibrated
    shrunk = probs**3 * 0.5  # nothing exceeds one half any more
    chosen = choose(evaluate_rules(ABS_SUM, shrunk, labels, fold_of_row))
    assert chosen.name in {"argmax", "tuned", "tuned per class"}


def test_a_wanted_rule_is_taken_whatever_its_score(calibrated):
    assert choose(evaluate_rules(ABS_SUM, *calibrated), "raw").name == "raw"


def test_no_row_is_answered_by_a_rule_that_saw_its_fold(calibrated, monkeypatch):
    probs, labels, fold_of_row = calibrated
    seen = []

    def fit(_metric, some_probs, some_labels):
        seen.append(len(some_labels))
        assert not set(map(bytes, some_probs)) & held_out[len(seen) - 1]
        return Clip(lo=0.5, hi=0.5)

    held_out = [set(map(bytes, probs[fold_of_row == fold])) for fold in range(5)]
    monkeypatch.setattr(choice, "RULES", {"mine": fit})
    cross_fitted_scores("mine", ABS_SUM, probs, labels, fold_of_row)
    assert seen == [int((fold_of_row != fold).sum()) for fold in range(5)]


def test_cross_fitting_does_not_reward_fitting_noise():
    # Labels without any relation to the probabilities: in-sample the fit looks better than it is.
    rng = np.random.default_rng(1)
    gains = []
    for _ in range(20):
        probs, labels = rng.dirichlet(np.ones(4), 60), rng.integers(0, 4, 60)
        tuned = evaluate_rules(ABS_SUM, probs, labels, rng.permutation(60) % 5)[-1]
        gains.append(tuned.cross_fitted - tuned.in_sample)
    assert np.mean(gains) > 3 * np.std(gains) / len(gains) ** 0.5


def rows(values, greater_is_better=False):
    return RowScores(np.asarray(values, dtype=np.float64), greater_is_better)


def test_the_paired_difference_of_equal_scores_is_nothing():
    some = rows(np.arange(9))
    difference = paired_difference(some, some)
    assert (difference.value, difference.standard_error) == (0.0, 0.0)
    assert not difference.is_worse
    assert not difference.is_better


def test_the_paired_difference_is_scipys_paired_t():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(2)
    first, second = rng.random(300), rng.random(300) + 0.1
    difference = paired_difference(rows(first), rows(second))
    t = difference.value / difference.standard_error
    assert t == pytest.approx(ttest_rel(first, second).statistic)
    assert difference.is_better
    assert paired_difference(rows(second), rows(first)).is_worse
    assert paired_difference(rows(first, True), rows(second, True)).is_worse


def test_one_row_gives_no_standard_error():
    assert paired_difference(rows([1.0]), rows([0.0])).standard_error == 0.0


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_candidate_of_a_metric_is_a_rule_and_the_first_is_fixed(name):
    config = {"name": name, "costs": "c.csv"} if name == "cost-matrix" else {"name": name}
    costs = 1.0 - np.eye(4)
    classes = ["0", "1", "2", "3"]
    if name in ("f1", "roc-auc"):
        config["positive"] = "1"
    metric = make_metric(MetricConfig.model_validate(config, strict=False), classes, costs)
    assert set(metric.rules) <= set(RULES)
    assert isinstance(fixed_rule(metric), Half | ArgMax | Raw)


def test_the_better_of_two_rules_is_chosen_where_greater_is_better():
    rng = np.random.default_rng(3)
    labels = rng.choice(3, 3000, p=[0.9, 0.07, 0.03])
    logits = rng.normal(size=(3000, 3)) + 2 * np.eye(3)[labels] + np.array([2.0, 0, 0])
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    metric = CLASS_METRICS["balanced-accuracy"]
    results = evaluate_rules(metric, probs, labels, np.arange(3000) % 5)
    chosen = choose(results)
    assert chosen.name != "argmax"
    assert chosen.cross_fitted > results[0].cross_fitted


def test_log_loss_is_never_answered_by_argmax(calibrated):
    assert "argmax" not in LOG_LOSS.rules
    assert choose(evaluate_rules(LOG_LOSS, *calibrated)).name == "raw"


def test_a_floor_protects_from_certain_and_wrong_answers():
    probs, labels = np.eye(2)[[0] * 99 + [1]], np.zeros(100, dtype=np.int64)
    floor = fit_floor(LOG_LOSS, probs, labels)
    assert floor.least == 0.01
    assert LOG_LOSS.score(floor.apply(probs), labels) < LOG_LOSS.score(probs, labels)


def test_no_answer_has_a_smaller_expected_cost_than_that_of_least_cost():
    rng = np.random.default_rng(4)
    costs = rng.random((3, 3)) * (1 - np.eye(3))
    config = MetricConfig.model_validate({"name": "cost-matrix", "costs": "c.csv"}, strict=False)
    metric = make_metric(config, ["0", "1", "2"], costs)
    probs = rng.dirichlet(np.ones(3), 200)
    answers = least_cost(metric, 3).apply(probs).argmax(axis=1)
    expected = [[sum(p[i] * costs[i, j] for i in range(3)) for j in range(3)] for p in probs]
    assert answers.tolist() == np.argmin(expected, axis=1).tolist()


def test_accuracy_has_nothing_to_choose(calibrated):
    assert [each.name for each in evaluate_rules(ACCURACY, *calibrated)] == ["argmax"]


def test_an_unknown_rule_lists_the_known_ones():
    with pytest.raises(InputError, match=r"one of auto, half, argmax, raw, .*, but got 'hlaf'"):
        check_rule_name("hlaf")
