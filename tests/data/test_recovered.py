"""Recovered rows: rounding and inserted columns are told, and heads are those of the rows."""

import numpy as np
import pytest

from hbcomp.data.recovered import TRANSFORMS, recover, rounding_error


@pytest.mark.parametrize("decimals", range(5))
def test_the_error_of_rounding_to_decimals_is_that_of_its_unit(decimals):
    values = 5 * np.random.default_rng(0).random((100, 1, 30))
    found = rounding_error(values.round(decimals).astype(np.float32).astype(np.float64))
    errors = values.round(decimals) - values
    assert found == pytest.approx(errors.std(), rel=0.1)


def test_values_that_were_not_rounded_have_the_error_of_float32():
    values = np.random.default_rng(0).random((100, 1, 30)).astype(np.float32).astype(np.float64)
    assert rounding_error(values) == pytest.approx(2.0**-24, rel=0.01)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_inserted_columns_show_the_inverse_of_a_transform(name):
    inverse = {
        "x": lambda x: x,
        "2^x": np.log2,
        "e^x": np.log,
        "10^x": np.log10,
        "x^2": np.sqrt,
        "sqrt(x)": np.square,
        "log(1 + x)": np.expm1,
    }[name]
    values = 1 + np.random.default_rng(0).random((60, 1, 40))
    values[:, :, 7:38:10] = (values[:, :, 6:37:10] + values[:, :, 8:39:10]) / 2
    rows = recover([inverse(values).astype(np.float32)])
    assert rows.transform == name
    assert np.setdiff1d(np.arange(40), rows.kept).tolist() == [7, 17, 27, 37]
    expected = values[:, :, rows.kept]
    np.testing.assert_allclose(rows.rows(np.arange(60)), expected, rtol=1e-5)


def test_straight_lines_keep_all_columns():
    lines = np.arange(40) * np.random.default_rng(0).uniform(1, 2, (60, 1, 1))
    assert recover([lines.astype(np.float32)]).kept.tolist() == list(range(40))


@pytest.mark.parametrize("pad", ["end", "start"])
def test_heads_are_the_beginnings_of_the_rows_of_all_arrays(pad):
    rng = np.random.default_rng(0)
    signals = rng.random((9, 2, 20)).astype(np.float32)
    is_padding = np.arange(20) >= rng.integers(3, 20, (9, 1, 1))
    signals[np.broadcast_to(is_padding if pad == "end" else is_padding[:, :, ::-1], (9, 2, 20))] = (
        np.nan
    )
    rows = recover([signals[:4], signals[4:]])
    idx = np.array([8, 0, 5, 3])
    found = rows.rows(idx)
    for row, values in zip(idx, found, strict=True):
        whole = signals[row][:, ~np.isnan(signals[row, 0])]
        n_steps = whole.shape[1]
        np.testing.assert_array_equal(values[:, :n_steps], whole)
        assert np.isnan(values[:, n_steps:]).all()
    np.testing.assert_array_equal(rows.heads(idx, 5), found[:, :, :5])
