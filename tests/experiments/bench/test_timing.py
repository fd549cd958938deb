import pytest
from bench.timing import Spread, interleaved, power_law, ratio, shown, significant


def recorder(calls, name, values):
    values = iter(values)

    def measure():
        calls.append(name)
        return next(values)

    return measure


def test_contenders_take_turns_and_the_warm_up_does_not_count():
    calls = []
    contenders = {
        "a": recorder(calls, "a", [9.0, 1.0, 2.0]),
        "b": recorder(calls, "b", [9.0, 3.0, 4.0]),
    }
    assert interleaved(contenders, 2) == {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    assert calls == ["a", "b"] * 3


def test_no_round_begins_when_the_time_is_up_but_there_is_one():
    calls = []
    contenders = {"a": recorder(calls, "a", [9.0, 1.0, 2.0])}
    assert interleaved(contenders, 2, max_seconds=0.0) == {"a": [1.0]}


def test_a_spread_is_the_median_and_both_ends():
    assert Spread.of([3.0, 1.0, 8.0]) == Spread(median=3.0, low=1.0, high=8.0, n=3)
    assert Spread.of([1.23456, 1.0]).to_json() == {
        "median": 1.117,
        "low": 1.0,
        "high": 1.235,
        "n": 2,
    }


def test_ratios_are_taken_round_by_round():
    # The machine slows down threefold; every round still says 2.
    assert ratio([6.0, 4.0, 2.0], [3.0, 2.0, 1.0]) == Spread(2.0, 2.0, 2.0, 3)
    # The median of the ratios, not the ratio of the medians, which is 1.
    assert ratio([1.0, 2.0, 9.0], [2.0, 1.0, 3.0]).median == 2.0


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_an_exact_power_law_is_found(exponent):
    sizes = [10.0, 30.0, 100.0]
    costs = [7.0 * size**exponent for size in sizes]
    assert power_law(sizes, costs) == pytest.approx(exponent, abs=1e-12)


def test_costs_that_drown_in_the_start_up_have_no_exponent():
    assert power_law([1.0, 2.0], [1.0, 0.0]) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(3509.7, "3,510"), (12.34, "12.3"), (0.045678, "0.0457"), (0.0, "0"), (None, "-")],
)
def test_numbers_are_shown_with_three_digits(value, text):
    assert shown(value) == text


def test_stated_numbers_have_four_significant_digits():
    assert [significant(value) for value in (123456.0, 0.0123456, 0.0)] == [123500.0, 0.01235, 0.0]
