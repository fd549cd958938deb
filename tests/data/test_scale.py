"""Values far from [0, 1], which the nets were made for, are said with what to do."""

from dataclasses import replace

import numpy as np
import pytest

from hbcomp.competitions.load import load_sample
from hbcomp.data.scale import scale_of, scale_warnings
from hbcomp.data.synthetic import make_rows

BEATS = make_rows(n=40, t=16, k=2)


def changed(change, beats=BEATS, **more):
    return replace(beats, signals=change(beats.flat.astype(np.float64)).astype(np.float32), **more)


FAR = {
    "an offset": lambda x: x + 1000,
    "a negative offset": lambda x: x - 1000,
    "a small offset": lambda x: x + 1,
    "centred and scaled": lambda x: (x - x.mean()) / x.std(),
    "a third": lambda x: x / 3,
    "recorder counts": lambda x: 1024 + 200 * x,
    "volts": lambda x: 0.001 * x,
    "microvolts": lambda x: 1000 * x,
    "huge": lambda x: 1e30 * x,
    "tiny": lambda x: 1e-30 * x,
    "both signs": lambda x: 400 * (x - 0.5),
    "constant": lambda x: np.full_like(x, 0.5),
    "zeros": lambda x: 0 * x,
    "an offset of each row": lambda x: x + np.linspace(-50, 50, len(x))[:, None],
}
NEAR = {
    "as made": lambda x: x,
    "three times": lambda x: 3 * x,
    "millivolts": lambda x: 1.6 * x - 0.4,
    "upside down": lambda x: 1 - x,
    "padded": lambda x: np.where(np.arange(16) < 12, x, 0),
    "one outlier": lambda x: np.where(np.arange(40)[:, None] == 7, 1e6, x),
    "spikes": lambda x: np.where(x == x.max(axis=1, keepdims=True), 1.0, 0.0),
}


@pytest.mark.parametrize("name", FAR)
def test_values_far_from_0_to_1_are_said_once_with_what_to_do(name):
    train = changed(FAR[name], source="train.csv")
    (warning,) = scale_warnings(train, changed(FAR[name], source="test.csv"))
    assert warning.startswith("the values of train.csv go from ")
    assert "made for values in [0, 1]" in warning
    assert "hbcomp rescales nothing" in warning
    is_flat = name in ("constant", "zeros")
    assert ("do not vary" if is_flat else "into train and test files alike") in warning


@pytest.mark.parametrize("name", NEAR)
def test_values_near_0_to_1_are_not_worth_a_word(name):
    beats = changed(NEAR[name])
    assert not list(scale_warnings(beats, beats))


@pytest.mark.parametrize("name", ["an offset", "recorder counts", "volts", "both signs", "huge"])
def test_the_formula_that_is_said_brings_the_values_near(name):
    beats = changed(FAR[name])
    formula = next(scale_warnings(beats)).rpartition("write ")[2].partition(" into ")[0]
    sign = formula.split()[1] if formula.startswith("(") else ""
    shift = float(formula.partition(")")[0].split()[2]) if sign else 0.0
    divisor = float(formula.rpartition(" / ")[2])
    shifted = (lambda x: x - shift) if sign == "-" else (lambda x: x + shift)
    assert not scale_of(changed(lambda x: shifted(x) / divisor, beats)).is_far


def test_the_bundled_rows_are_what_the_nets_were_made_for():
    assert not list(scale_warnings(*load_sample()))


@pytest.mark.parametrize("change", [lambda x: x + 1, lambda x: 1000 * x, lambda x: 0.001 * x])
def test_test_rows_of_another_unit_than_the_training_rows_are_said(change):
    test = changed(change, source="test.csv")
    (warning,) = scale_warnings(BEATS, test)
    assert warning.startswith("the values of test.csv go from ")
    assert warning.endswith("bring both files to one unit and offset")
