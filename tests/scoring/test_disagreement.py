import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.scoring.disagreement import ClassChange, changes
from hbcomp.scoring.metrics import ABS_SUM, ACCURACY, LOG_LOSS

seeds = st.integers(0, 2**32 - 1)


def draw_answers(seed, n=12, k=3):
    rng = np.random.default_rng(seed)
    hard = rng.integers(0, 2, (n, k)).astype(float)
    return np.where(rng.random((n, 1)) < 0.5, hard, rng.random((n, k)))


@pytest.mark.parametrize("metric", [ABS_SUM, ACCURACY], ids=lambda metric: metric.name)
@given(seed=seeds, other_seed=seeds)
def test_the_scores_of_two_answers_differ_by_at_most_the_largest_difference(
    metric, seed, other_seed
):
    before, after = draw_answers(seed), draw_answers(other_seed)
    labels = np.random.default_rng(seed).integers(0, 3, len(before))
    most = changes(metric, before, after).max_difference
    assert abs(metric.score(before, labels) - metric.score(after, labels)) <= most + 1e-9


@pytest.mark.parametrize(("metric", "difference"), [(ABS_SUM, 2.0), (ACCURACY, 1.0)])
def test_the_largest_difference_is_reached_where_one_is_right_and_the_other_wrong(
    metric, difference
):
    labels = np.array([0, 1, 2])
    right, wrong = np.eye(3), np.eye(3)[[1, 2, 0]]
    assert changes(metric, right, wrong).max_difference == difference
    assert abs(metric.score(right, labels) - metric.score(wrong, labels)) == difference


def test_a_metric_without_a_bound_has_no_largest_difference():
    assert changes(LOG_LOSS, np.eye(2), np.eye(2)).max_difference is None


@given(seeds)
def test_answers_do_not_differ_from_themselves(seed):
    answers = draw_answers(seed)
    same = changes(ABS_SUM, answers, answers)
    assert (len(same.changed_idx), same.max_difference, same.class_changes) == (0, 0.0, ())


def test_rows_are_counted_by_their_predicted_class_before_and_after():
    before = np.array([[1.0, 0.0], [0.9, 0.2], [0.0, 0.0], [0.6, 0.4], [0.0, 1.0]])
    after = np.array([[0.0, 1.0], [0.1, 0.2], [1.0, 0.0], [0.7, 0.4], [0.0, 1.0]])
    found = changes(ABS_SUM, before, after)
    assert found.class_changes == (ClassChange(0, 1, 2), ClassChange(-1, 0, 1))
    assert found.changed_idx.tolist() == [0, 1, 2, 3]
    assert (found.n_rows, found.n_class_changes) == (5, 3)
    assert found.max_difference == pytest.approx((2.0 + 0.8 + 1.0 + 0.1) / 5)
