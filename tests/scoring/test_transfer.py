import numpy as np
import pytest

from hbcomp.scoring.choice import RuleResult, evaluate_rules
from hbcomp.scoring.decision import ArgMax, Clip, Half
from hbcomp.scoring.metrics import ABS_SUM, ACCURACY, LOG_LOSS
from hbcomp.scoring.paired import measure
from hbcomp.scoring.transfer import measure_shift, measure_transfers
from hbcomp.system.errors import InputError


def make_probs(seed, n_rows=2000, n_nets=1, noise=1.0):
    """Return the mean of `n_nets` noisy nets on rows that depend on the seed, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n_rows)
    logits = 4.0 * np.eye(4)[labels] + 2.0 * rng.normal(size=(n_rows, 4))
    weights = np.exp(logits + noise * rng.normal(size=(n_nets, n_rows, 4)))
    return (weights / weights.sum(axis=2, keepdims=True)).mean(axis=0), labels


def result_of(name, rule, probs, labels):
    rows = measure(ABS_SUM, rule.apply(probs), labels)
    return RuleResult(name, rule, rows.score, rows)


def test_the_mean_of_many_nets_is_a_shift_beyond_noise():
    oof, _ = make_probs(0, noise=4.0)
    shift = measure_shift(oof, make_probs(1, n_nets=10, noise=4.0)[0])
    assert shift.is_beyond_noise
    assert shift.confidence.difference < 0
    assert shift.share_below_90.difference > 0


def test_rows_of_the_same_nets_are_rarely_found_shifted():
    called = [
        measure_shift(make_probs(seed)[0], make_probs(1000 + seed, n_rows=500)[0]).is_beyond_noise
        for seed in range(40)
    ]
    assert sum(called) <= 6  # two standard errors: 2 of 40 are expected


def test_the_shift_holds_the_numbers_of_both_sides():
    oof = np.array([[0.95, 0.05], [0.5, 0.5], [0.7, 0.3]])
    test = np.array([[1.0, 0.0], [0.9, 0.1]])
    shift = measure_shift(oof, test)
    assert shift.confidence.oof == pytest.approx(2.15 / 3)
    assert shift.confidence.difference == pytest.approx(0.95 - 2.15 / 3)
    assert shift.confidence.standard_error == pytest.approx(
        (np.var([0.95, 0.5, 0.7], ddof=1) / 3 + np.var([1, 0.9], ddof=1) / 2) ** 0.5
    )
    assert shift.share_below_90.oof == pytest.approx(2 / 3)
    assert shift.share_below_90.test == 0.5
    assert shift.share_below_50.oof == pytest.approx(1 / 3)
    assert shift.ks_distance == pytest.approx(2 / 3)
    assert shift.is_beyond_noise is False


def test_without_test_rows_there_is_nothing_to_compare():
    oof, labels = make_probs(0, n_rows=20)
    with pytest.raises(InputError, match=r"two rows or more each, .* but there are 20 and 0"):
        measure_shift(oof, oof[:0])
    with pytest.raises(InputError, match="there are 20 and 0"):
        measure_transfers(ABS_SUM, [result_of("half", Half(), oof, labels)], oof, oof[:0])


def test_the_fixed_rules_are_accepted_and_one_of_them_gains_nothing():
    oof, labels = make_probs(0, noise=4.0)
    test, _ = make_probs(1, n_nets=10, noise=4.0)
    transfers = measure_transfers(
        ABS_SUM, evaluate_rules(ABS_SUM, oof, labels, np.arange(2000) % 5), oof, test
    )
    fixed = [each for each in transfers if each.is_fixed]
    assert [each.name for each in fixed] == ["half", "argmax"]
    assert all(each.is_accepted for each in fixed)
    assert max(each.gain for each in fixed) == 0.0


def test_every_rule_is_accepted_on_rows_like_the_scored_ones():
    oof, labels = make_probs(0)
    results = evaluate_rules(ABS_SUM, oof, labels, np.arange(2000) % 5)
    assert all(each.is_accepted for each in measure_transfers(ABS_SUM, results, oof, oof[:500]))


def test_a_threshold_that_cuts_elsewhere_on_the_test_rows_is_not_accepted():
    oof, labels = make_probs(0, noise=4.0)
    test, _ = make_probs(1, n_nets=10, noise=4.0)
    results = [
        result_of("half", Half(), oof, labels),
        result_of("tuned", Clip(lo=0.6, hi=0.6), oof, labels),
    ]
    _, tuned = measure_transfers(ABS_SUM, results, oof, test)
    assert tuned.disagreement.test > tuned.disagreement.oof
    assert not tuned.is_accepted


def test_a_gain_larger_than_the_gap_stays_accepted():
    # No class of the 100 rows exceeds one half, and 0.4 answers them all rightly; a tenth of the
    # test rows is out of its reach.
    labels = np.arange(100) % 4
    oof = np.full((100, 4), 0.55 / 3) + (0.45 - 0.55 / 3) * np.eye(4)[labels]
    test = np.concatenate([oof[:90], np.full((10, 4), 0.25)])
    results = [
        result_of("half", Half(), oof, labels),
        result_of("tuned", Clip(lo=0.4, hi=0.4), oof, labels),
    ]
    tuned = measure_transfers(ABS_SUM, results, oof, test)[1]
    assert tuned.gain == 1.0
    assert (tuned.disagreement.oof, tuned.disagreement.test) == pytest.approx((1.0, 0.9))
    assert tuned.disagreement.is_beyond_noise
    assert tuned.is_accepted


@pytest.mark.parametrize("seed", range(5))
def test_no_rule_gains_more_than_its_disagreement(seed):
    oof, labels = make_probs(seed, n_rows=300)
    rule = Clip(lo=0.2 + 0.1 * seed, hi=0.7)
    results = [result_of("argmax", ArgMax(), oof, labels), result_of("clip", rule, oof, labels)]
    clip = measure_transfers(ABS_SUM, results, oof, oof)[1]
    assert abs(clip.gain) <= clip.disagreement.oof + 1e-6


@pytest.mark.parametrize("metric", [ACCURACY, LOG_LOSS], ids=lambda metric: metric.name)
def test_a_metric_of_one_fixed_rule_accepts_it(metric):
    oof, labels = make_probs(0, n_rows=300)
    results = evaluate_rules(metric, oof, labels, np.arange(300) % 5)
    transfers = measure_transfers(metric, results, oof, oof[:100])
    assert [each.is_fixed for each in transfers] == [True] + [False] * (len(results) - 1)
    assert transfers[0].is_accepted
    assert transfers[0].gain == 0.0
