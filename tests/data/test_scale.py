"""Values that do not suit the scale on which a net sees them are said with what to do."""

from dataclasses import replace

import numpy as np
import pytest

from hbcomp.competitions.load import load_sample
from hbcomp.data.scale import Range, range_of, scale_warnings, unit_warnings
from hbcomp.data.synthetic import make_rows

ROWS = make_rows(n=40, t=16, k=2)
SCALES = ["none", "standardise", "per-row", "min-max"]


def changed(change, rows=ROWS, **more):
    return replace(rows, signals=change(rows.flat.astype(np.float64)).astype(np.float32), **more)


def outlier(values):
    return np.where(np.arange(40)[:, None] == 7, 1e6, values)


FAR = {
    "an offset": lambda x: x + 1000,
    "a negative offset": lambda x: x - 1000,
    "recorder counts": lambda x: 1024 + 200 * x,
    "microvolts": lambda x: 1000 * x,
    "huge": lambda x: 1e30 * x,
    "both signs": lambda x: 400 * (x - 0.5),
    "an offset of each row": lambda x: x + np.linspace(-50, 50, len(x))[:, None],
}
NEAR = {
    "as made": lambda x: x,
    "three times": lambda x: 3 * x,
    "millivolts": lambda x: 1.6 * x - 0.4,
    "upside down": lambda x: 1 - x,
    "padded": lambda x: np.where(np.arange(16) < 12, x, np.nan),
    "a row without values": lambda x: np.where(np.arange(40)[:, None] == 7, np.nan, x),
    "spikes": lambda x: np.where(x == x.max(axis=1, keepdims=True), 1.0, 0.0),
}


@pytest.mark.parametrize("name", FAR)
def test_values_beyond_3_are_said_where_a_net_sees_them_as_they_are(name):
    train = changed(FAR[name], source="train.csv")
    (warning,) = scale_warnings(train, changed(FAR[name], source="test.csv"), "none")
    assert warning.startswith("the values of train.csv go from ")
    assert warning.endswith("--set signals.scale=min-max")


@pytest.mark.parametrize("scale", ["standardise", "per-row", "min-max"])
@pytest.mark.parametrize("name", FAR)
def test_values_in_any_unit_suit_a_scale(name, scale):
    rows = changed(FAR[name])
    assert not list(scale_warnings(rows, rows, scale))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NEAR)
def test_values_near_0_to_1_are_not_worth_a_word(name, scale):
    rows = changed(NEAR[name])
    assert not list(scale_warnings(rows, rows, scale))


@pytest.mark.parametrize("scale", ["standardise", "min-max"])
def test_outliers_that_squeeze_all_other_values_are_named(scale):
    (warning,) = scale_warnings(changed(outlier, source="train.csv"), None, scale)
    assert warning.startswith("nearly all values of train.csv go from ")
    assert "of the range that the outliers span: correct those of id 7, or try" in warning


@pytest.mark.parametrize("scale", ["none", "per-row"])
def test_one_outlier_squeezes_nothing_else_on_the_other_scales(scale):
    assert not list(scale_warnings(changed(outlier), None, scale))


def test_a_channel_is_named_by_its_number():
    both = np.stack([ROWS.flat, outlier(ROWS.flat)], axis=1).astype(np.float32)
    (warning,) = scale_warnings(replace(ROWS, signals=both, source="x"), None, "min-max")
    assert warning.startswith("nearly all values of channel 2 of x go from ")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("value", [0.5, 0.0, np.nan])
def test_values_that_do_not_vary_are_said(scale, value):
    (warning,) = scale_warnings(changed(lambda x: np.full_like(x, value)), None, scale)
    assert warning.endswith("do not vary: is this the right column?")


@pytest.mark.parametrize("scale", SCALES)
def test_the_bundled_rows_suit_every_scale(scale):
    assert not list(scale_warnings(*load_sample(), scale))


@pytest.mark.parametrize("scale", ["none", "standardise", "min-max"])
@pytest.mark.parametrize("change", [lambda x: x + 1, lambda x: 1000 * x, lambda x: 0.001 * x])
def test_test_rows_of_another_unit_than_the_training_rows_are_said(change, scale):
    test = changed(change, source="test.csv")
    (warning,) = scale_warnings(ROWS, test, scale)
    assert warning.startswith("the values of test.csv go from ")
    assert warning.endswith("bring both files to one unit and offset")


def test_a_scale_of_each_row_takes_any_unit():
    assert not list(scale_warnings(ROWS, changed(lambda x: 1000 * x), "per-row"))


def test_rows_are_compared_with_the_range_that_a_net_was_trained_on():
    trained = Range(np.zeros(1), np.ones(1))
    assert not list(unit_warnings(ROWS, trained, "mine", "min-max"))
    (warning,) = unit_warnings(changed(lambda x: 200 * x), trained, "mine", "min-max")
    assert "those of mine from 0 to 1" in warning


def test_the_range_of_a_channel_is_that_of_nearly_all_rows():
    values = np.arange(100, dtype=np.float32)[:, None] + np.array([0, 0.5], np.float32)
    rows = make_rows(n=100, t=2, k=2)
    found = range_of(replace(rows, signals=values))
    lows, highs = np.sort(values[:, 0]), np.sort(values[:, 1])
    assert (found.low[0], found.high[0]) == (lows[4], highs[95])
