"""Mistakes, their types, label issues and what a blend can reach, against loops."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hbcomp.scoring.choice import RULES
from hbcomp.scoring.confusions import (
    Cell,
    confusion_cells,
    error_types_of,
    far_distance,
    find_label_issues,
    matched_right_rows,
    nearest_other,
    weighted_mean_floor,
)
from hbcomp.scoring.decision import Half
from hbcomp.scoring.metrics import ABS_SUM
from hbcomp.scoring.row_metrics import abs_sum_of_rows, predicted_class
from hbcomp.system.errors import InputError

N, K = 24, 3
SHARES = arrays(np.float64, (3, N, K), elements=st.sampled_from([0.01, 0.1, 0.3, 0.7, 2.0]))
LABELS = arrays(np.int64, N, elements=st.integers(0, K - 1))


def stack_of(shares):
    return shares / shares.sum(axis=2, keepdims=True)


@given(SHARES, LABELS, st.sampled_from(ABS_SUM.rules))
def test_the_cells_are_those_of_a_loop_and_add_up_to_the_score(shares, labels, rule):
    probs = stack_of(shares)[0]
    answers = RULES[rule](ABS_SUM, probs, labels).apply(probs)
    costs, predicted = abs_sum_of_rows(answers, labels), predicted_class(answers)
    cells = confusion_cells(costs, predicted, labels)
    assert sum(cell.loss for cell in cells) == pytest.approx(costs.sum())
    for cell in cells:
        rows = [
            row for row in range(N) if (labels[row], predicted[row]) == (cell.truth, cell.predicted)
        ]
        assert cell.n_rows == len(rows) > 0
        assert cell.loss == pytest.approx(costs[rows].sum())
        assert cell.is_wrong == (cell.truth != cell.predicted)
    assert sum(cell.n_rows for cell in cells) == N
    assert [cell.loss for cell in cells] == sorted((cell.loss for cell in cells), reverse=True)


def test_planted_mistakes_land_in_their_cells():
    labels = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 1, 1, 1, -1, 0])
    costs = np.array([0.0, 2, 2, 0, 1, 2])
    assert confusion_cells(costs, predicted, labels) == [
        Cell(0, 1, 2, 4.0),
        Cell(2, 0, 1, 2.0),
        Cell(1, -1, 1, 1.0),
        Cell(0, 0, 1, 0.0),
        Cell(1, 1, 1, 0.0),
    ]


@given(arrays(bool, 200), arrays(np.int64, 200, elements=st.integers(0, K - 1)), st.integers(0, 99))
def test_right_rows_are_right_distinct_and_of_the_wrong_rows_classes(is_wrong, labels, n_least):
    rows = matched_right_rows(is_wrong, labels, n_least)
    assert not is_wrong[rows].any()
    assert len(set(rows.tolist())) == len(rows)
    factor = max(1, n_least / max(1, is_wrong.sum()))
    for label in range(K):
        n_wrong, n_right = (((labels == label) & is_in).sum() for is_in in (is_wrong, ~is_wrong))
        wanted = min(n_right, factor * n_wrong)
        assert wanted <= (labels[rows] == label).sum() < wanted + 1


@pytest.mark.parametrize(
    ("label", "predicted", "distance"),
    [(0, 2, 5.0), (0, 1, 3.0), (0, -1, 3.0), (0, 0, 3.0), (1, 1, 1)],
)
def test_the_other_class_is_the_one_answered_or_else_the_nearest(label, predicted, distance):
    found = nearest_other(np.array([[1.0, 3.0, 5.0]]), np.array([label]), np.array([predicted]))
    assert found == [distance]


@pytest.mark.parametrize(
    ("own", "other", "error_type"),
    [
        (1.0, 0.5, "like the other class"),
        (0.5, 1.0, "like their own class"),
        (1.0, 1.0, "like their own class"),
        (3.0, 2.0, "like the other class"),
        (np.inf, 1.0, "like the other class"),
        (3.0, 2.1, "unlike both classes"),
        (2.1, 3.0, "unlike both classes"),
    ],
)
def test_the_distances_make_the_error_type(own, other, error_type):
    assert error_types_of(np.array([own]), np.array([other]), far=2.0) == [error_type]


def test_far_is_what_one_per_cent_of_right_rows_exceed():
    distances = np.random.default_rng(0).permutation(np.arange(1000.0))
    assert (distances > far_distance(distances)).mean() == pytest.approx(0.01)
    assert far_distance(np.array([1.0, np.inf])) == np.inf
    assert far_distance(np.zeros(0)) == np.inf


@given(SHARES, LABELS, st.sampled_from([0.5, 0.6, 0.9]))
def test_a_label_issue_needs_every_base_model_to_give_the_same_other_class(
    shares, labels, min_prob
):
    stack = stack_of(shares + 2 * shares[0])  # alike, or few rows would have an issue
    wanted = {}
    for row, label in product(range(N), range(K)):
        least = min(model[row, label] for model in stack)
        if label != labels[row] and least > min_prob:
            wanted[row] = (label, least)
    issues = find_label_issues(stack, labels, min_prob)
    found = zip(issues.answers.tolist(), issues.least_probs.tolist(), strict=True)
    assert dict(zip(issues.rows.tolist(), found, strict=True)) == wanted
    order = [(-prob, row) for row, (_, prob) in wanted.items()]
    assert issues.rows.tolist() == [row for _, row in sorted(order)]


def test_the_most_certain_issue_comes_first_and_equal_ones_in_the_order_of_the_rows():
    at_least = np.array([0.6, 0.9, 0.3, 0.9, 0.7])
    one = np.stack([1 - at_least, at_least], axis=1)
    other = np.array([[0.0, 1.0]] * 5)
    issues = find_label_issues(np.stack([one, other]), np.zeros(5, dtype=np.int64), 0.5)
    assert issues.rows.tolist() == [1, 3, 4, 0]
    assert issues.least_probs.tolist() == [0.9, 0.9, 0.7, 0.6]


@pytest.mark.parametrize("min_prob", [0.49, 1.0, float("nan")])
def test_a_bound_under_which_two_classes_fit_is_refused(min_prob):
    message = f"0.5 <= min_prob < 1 must hold.*but got {min_prob}"
    with pytest.raises(InputError, match=message):
        find_label_issues(np.full((1, 2, 2), 0.5), np.array([0, 1]), min_prob)


@given(SHARES, LABELS, arrays(np.float64, 3, elements=st.floats(0.01, 1)))
def test_no_weighted_mean_costs_less_than_the_floor(shares, labels, weights):
    stack = stack_of(shares)
    mean = np.tensordot(weights / weights.sum(), stack, axes=1)
    assert (abs_sum_of_rows(Half().apply(mean), labels) >= weighted_mean_floor(stack, labels)).all()


@settings(max_examples=30)
@given(SHARES, LABELS)
def test_some_weighted_mean_of_two_reaches_the_floor(shares, labels):
    one, other = stack_of(shares)[:2]
    # Each class has 0.01 / 4.01 at least, so a step of 1/2000 does not miss an answer of none.
    weights = np.linspace(0, 1, 2001)[:, None, None]
    means = (1 - weights) * one + weights * other
    answers = Half().apply(means.reshape(-1, K))
    costs = abs_sum_of_rows(answers, np.tile(labels, len(weights))).reshape(-1, N)
    assert np.array_equal(costs.min(axis=0), weighted_mean_floor(np.stack([one, other]), labels))
