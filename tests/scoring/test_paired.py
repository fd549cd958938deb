import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.scoring import paired
from hbcomp.scoring.paired import RowScores, bootstrap_interval, mcnemar, paired_difference


def costs(values):
    return RowScores(np.asarray(values, dtype=np.float64), greater_is_better=False)


def answers_that_part(n_only_first, n_only_second, n_both=3, n_none=2):
    first = [True] * n_only_first + [False] * n_only_second + [True] * n_both + [False] * n_none
    second = [False] * n_only_first + [True] * n_only_second + [True] * n_both + [False] * n_none
    return np.array(first), np.array(second)


@pytest.mark.parametrize(
    ("n_only_first", "n_only_second", "p_value"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 2**5),
        (0, 10, 2 / 2**10),
        (8, 2, 2 * (1 + 10 + 45) / 2**10),
        (4, 4, 1.0),
        (3, 4, 1.0),
    ],
)
def test_mcnemar_is_exact(n_only_first, n_only_second, p_value):
    found = mcnemar(*answers_that_part(n_only_first, n_only_second))
    assert (found.n_only_first, found.n_only_second) == (n_only_first, n_only_second)
    assert found.p_value == p_value


@given(n_only_first=st.integers(0, 60), n_only_second=st.integers(0, 60))
def test_mcnemar_is_scipys_binomial_test(n_only_first, n_only_second):
    from scipy.stats import binomtest

    found = mcnemar(*answers_that_part(n_only_first, n_only_second))
    n_parted = n_only_first + n_only_second
    expected = binomtest(n_only_first, n_parted).pvalue if n_parted else 1.0
    assert found.p_value == pytest.approx(expected)


def test_mcnemar_of_many_rows_neither_overflows_nor_underflows():
    from scipy.stats import binomtest

    assert mcnemar(*answers_that_part(9000, 1000)).p_value == 0.0
    expected = binomtest(4700, 10_000).pvalue
    assert mcnemar(*answers_that_part(4700, 5300)).p_value == pytest.approx(expected)
    assert mcnemar(*answers_that_part(2500, 2501)).p_value == pytest.approx(1.0)


def test_the_interval_of_equal_costs_is_nothing():
    some = costs([0.0, 2.0, 1.0])
    assert bootstrap_interval(some, some) == (0.0, 0.0)


@pytest.mark.parametrize("is_hard", [True, False])
def test_the_interval_is_the_normal_one_on_many_rows(is_hard):
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 500)) * 2
    if is_hard:
        first, second = first.round(), second.round()
    difference = paired_difference(costs(first), costs(second))
    low, high = bootstrap_interval(costs(first), costs(second), n_resamples=8000)
    wanted = difference.value + np.array([-2, 2]) * difference.standard_error
    assert [low, high] == pytest.approx(wanted, abs=0.1 * difference.standard_error)


def test_the_interval_is_that_of_rows_drawn_with_replacement():
    rng = np.random.default_rng(1)
    gaps = rng.choice([0.0, 2.0], 40, p=[0.9, 0.1])
    drawn = gaps[rng.integers(0, 40, (20_000, 40))].mean(axis=1)
    found = bootstrap_interval(costs(gaps), costs(np.zeros(40)), n_resamples=20_000, level=0.95)
    assert found == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


@pytest.mark.parametrize(("gap", "is_beyond"), [(0.0, False), (60.0, False), (60.1, True)])
@pytest.mark.parametrize("greater_is_better", [False, True])
def test_noise_is_two_standard_errors_on_either_side(gap, is_beyond, greater_is_better):
    for sign in (1, -1):
        assert paired.is_beyond_noise(sign * gap, 30.0) is is_beyond
        difference = paired.Difference(sign * gap, 30.0, greater_is_better)
        assert difference.is_beyond_noise is is_beyond
        assert difference.is_better is (is_beyond and (sign > 0) is greater_is_better)
        assert difference.is_worse is (is_beyond and (sign > 0) is not greater_is_better)


def test_losses_count_from_the_best_row():
    assert costs([0.0, 2.0]).losses.tolist() == [0.0, 2.0]
    assert RowScores(np.array([0.0, 1.0]), greater_is_better=True).losses.tolist() == [1.0, 0.0]


def test_the_interval_has_the_level_of_the_noise():
    assert pytest.approx(0.9545, abs=1e-4) == paired.LEVEL_OF_NOISE


def test_drawing_in_blocks_changes_nothing(monkeypatch):
    first, second = np.random.default_rng(2).random((2, 50))
    whole = bootstrap_interval(costs(first), costs(second))
    monkeypatch.setattr(paired, "BLOCK_VALUES", 3 * 50)
    assert bootstrap_interval(costs(first), costs(second)) == whole


def test_the_seed_decides_and_the_level_widens():
    first, second = np.random.default_rng(3).random((2, 50))
    assert bootstrap_interval(costs(first), costs(second)) == bootstrap_interval(
        costs(first), costs(second), seed=0
    )
    assert bootstrap_interval(costs(first), costs(second), seed=1) != bootstrap_interval(
        costs(first), costs(second)
    )
    (low, high), (lower, higher) = (
        bootstrap_interval(costs(first), costs(second), level=level) for level in (0.8, 0.99)
    )
    assert lower < low < high < higher


@pytest.mark.parametrize(
    ("score", "sign", "text"),
    [
        (126.64, "", "126.6"),
        (0.93214, "", "0.9321"),
        (-0.93214, "+", "-0.9321"),
        (-1e-9, "", "0"),
        (0.0, "+", "+0"),
        (5.0, "+", "+5.0"),
    ],
)
def test_a_score_has_as_many_digits_as_tell(score, sign, text):
    assert paired.as_text(score, sign) == text
