import numpy as np
import pytest

from hbcomp.scoring.choice import (
    CANDIDATES,
    check_rule_name,
    choose,
    cross_fitted_costs,
    evaluate_rules,
)
from hbcomp.scoring.decision import Clip
from hbcomp.scoring.metrics import row_costs
from hbcomp.scoring.paired import paired_difference
from hbcomp.system.errors import InputError


@pytest.fixture
def calibrated():
    """Probabilities that are frequencies: labels drawn from them."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([0.1] * 4, 4000)
    labels = (rng.random((4000, 1)) > probs.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    return probs, labels, rng.integers(0, 5, 4000)


def test_every_rule_is_scored_in_sample_and_cross_fitted(calibrated):
    results = evaluate_rules(*calibrated)
    assert [result.name for result in results] == list(CANDIDATES)
    for result in results[:4]:  # nothing is fitted: both are the same
        assert result.in_sample.total == pytest.approx(result.cross_fitted.total)


def test_half_is_chosen_on_calibrated_probabilities(calibrated):
    assert choose(evaluate_rules(*calibrated)).name == "half"


def test_a_tuned_rule_is_chosen_where_half_is_wrong_beyond_noise(calibrated):
    probs, labels, fold_of_row = calibrated
    shrunk = probs**3 * 0.5  # nothing exceeds one half any more
    chosen = choose(evaluate_rules(shrunk, labels, fold_of_row))
    assert chosen.name in {"argmax", "tuned", "tuned per class"}


def test_a_wanted_rule_is_taken_whatever_its_score(calibrated):
    assert choose(evaluate_rules(*calibrated), "raw").name == "raw"


def test_no_row_is_answered_by_a_rule_that_saw_its_fold(calibrated):
    probs, labels, fold_of_row = calibrated
    seen = []

    def fit(some_probs, some_labels):
        seen.append(len(some_labels))
        assert not set(map(bytes, some_probs)) & held_out[len(seen) - 1]
        return Clip(lo=0.5, hi=0.5)

    held_out = [set(map(bytes, probs[fold_of_row == fold])) for fold in range(5)]
    cross_fitted_costs(fit, probs, labels, fold_of_row)
    assert seen == [int((fold_of_row != fold).sum()) for fold in range(5)]


def test_cross_fitting_does_not_reward_fitting_noise():
    # Labels without any relation to the probabilities: in-sample the fit looks better than it is.
    rng = np.random.default_rng(1)
    gains = []
    for _ in range(20):
        probs, labels = rng.dirichlet(np.ones(4), 60), rng.integers(0, 4, 60)
        tuned = evaluate_rules(probs, labels, rng.permutation(60) % 5)[-1]
        gains.append(tuned.cross_fitted.per_20k - tuned.in_sample.per_20k)
    assert np.mean(gains) > 3 * np.std(gains) / len(gains) ** 0.5


def test_the_paired_difference_of_equal_costs_is_nothing():
    costs = row_costs(np.full((9, 3), 0.3), np.arange(9) % 3)
    difference = paired_difference(costs, costs)
    assert (difference.per_20k, difference.standard_error) == (0.0, 0.0)
    assert not difference.is_worse


def test_the_paired_difference_is_scipys_paired_t():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(2)
    first, second = rng.random(300), rng.random(300) + 0.1
    difference = paired_difference(first, second)
    t = difference.per_20k / difference.standard_error
    assert t == pytest.approx(ttest_rel(first, second).statistic)
    assert not difference.is_worse
    assert paired_difference(second, first).is_worse


def test_one_row_gives_no_standard_error():
    assert paired_difference(np.array([1.0]), np.array([0.0])).standard_error == 0.0


def test_an_unknown_rule_lists_the_known_ones():
    with pytest.raises(InputError, match=r"one of auto, half, argmax, raw, .*, but got 'hlaf'"):
        check_rule_name("hlaf")
