import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.scoring.disagreement import Recall, changes
from hbcomp.scoring.metrics import abs_sum

seeds = st.integers(0, 2**32 - 1)


def draw_answers(seed, n=12, k=3):
    rng = np.random.default_rng(seed)
    hard = rng.integers(0, 2, (n, k)).astype(float)
    return np.where(rng.random((n, 1)) < 0.5, hard, rng.random((n, k)))


@given(seeds, seeds)
def test_the_scores_of_two_answers_differ_by_at_most_what_is_at_stake(seed, other_seed):
    before, after = draw_answers(seed), draw_answers(other_seed)
    labels = np.random.default_rng(seed).integers(0, 3, len(before))
    stake = changes(before, after).at_stake
    gap = abs_sum(before, labels).total - abs_sum(after, labels).total
    assert abs(gap) <= stake + 1e-9


def test_the_stake_is_reached_where_one_is_right_and_the_other_wrong():
    labels = np.array([0, 1, 2])
    right, wrong = np.eye(3), np.eye(3)[[1, 2, 0]]
    assert changes(right, wrong).at_stake == abs_sum(wrong, labels).total == 6.0


@given(seeds)
def test_answers_do_not_differ_from_themselves(seed):
    answers = draw_answers(seed)
    same = changes(answers, answers)
    assert (len(same.changed_idx), same.at_stake, same.recalled) == (0, 0.0, ())


def test_rows_are_counted_by_what_they_were_called_and_are_called_now():
    before = np.array([[1.0, 0.0], [0.9, 0.2], [0.0, 0.0], [0.6, 0.4], [0.0, 1.0]])
    after = np.array([[0.0, 1.0], [0.1, 0.2], [1.0, 0.0], [0.7, 0.4], [0.0, 1.0]])
    found = changes(before, after)
    assert found.recalled == (Recall(0, 1, 2), Recall(-1, 0, 1))
    assert found.changed_idx.tolist() == [0, 1, 2, 3]
    assert (found.n_rows, found.n_called_otherwise) == (5, 3)
    assert found.at_stake == pytest.approx(2.0 + 0.8 + 1.0 + 0.1)
    assert found.at_stake_per_20k == pytest.approx(found.at_stake * 4000)
