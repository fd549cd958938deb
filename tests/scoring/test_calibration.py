import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hbcomp.scoring.calibration import (
    CALIBRATION_ADAPTER,
    CALIBRATIONS,
    NoCalibration,
    Temperature,
    VectorScaling,
    cross_fitted_probs,
    fit_temperature,
    fit_vector,
    floored_log,
    log_loss,
    targets,
)
from hbcomp.system.errors import InputError


def make_calibrated(seed, n_rows=4000, n_classes=4):
    """Return probabilities that are frequencies, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    probs = 0.98 * rng.dirichlet([0.5] * n_classes, n_rows) + 0.02 / n_classes
    return probs, (rng.random((n_rows, 1)) > probs.cumsum(axis=1)[:, :-1]).sum(axis=1)


def loss_of(calibration, probs, labels):
    """Return what a calibration minimises: the log loss of the targets."""
    logs = floored_log(calibration.apply(probs))
    return -(targets(labels, probs.shape[1]) * logs).sum(axis=1).mean()


CALIBRATED = [
    NoCalibration(),
    Temperature(temperature=1.7),
    VectorScaling(scales=(1.0, 0.5, 2.0, 1.0), biases=(0.0, 0.1, -0.1, 1.0)),
]


@pytest.mark.parametrize("calibration", CALIBRATED, ids=lambda each: each.kind)
def test_a_calibration_survives_json_and_returns_probabilities(calibration):
    text = json.dumps(calibration.model_dump(mode="json"))
    assert CALIBRATION_ADAPTER.validate_json(text) == calibration
    probs, _ = make_calibrated(0, n_rows=50)
    assert calibration.apply(probs).sum(axis=1) == pytest.approx(1.0)


def test_every_calibration_is_tested():
    fitted = [fit(*make_calibrated(0, n_rows=50)) for fit in CALIBRATIONS.values()]
    assert [each.kind for each in fitted] == [each.kind for each in CALIBRATED] == [*CALIBRATIONS]


def test_a_temperature_divides_the_log_odds():
    softer = Temperature(temperature=2.0).apply(np.array([[0.9, 0.1]]))
    assert softer[0, 0] / softer[0, 1] == pytest.approx(9**0.5)


def test_a_vector_scales_and_shifts_the_log_odds():
    shifted = VectorScaling(scales=(2.0, 1.0), biases=(0.0, 1.0)).apply(np.array([[0.9, 0.1]]))
    assert shifted[0, 0] / shifted[0, 1] == pytest.approx(0.9**2 / (0.1 * np.e))


def test_a_certain_row_stays_finite():
    certain = np.array([[1.0, 0.0]])
    assert Temperature(temperature=1.0).apply(certain) == pytest.approx(certain, abs=1e-5)
    assert log_loss(certain, np.array([1])) == pytest.approx(np.log(1e6))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValidationError, match="greater than 0"):
        Temperature(temperature=temperature)


def test_uneven_scales_and_other_classes_are_refused():
    with pytest.raises(ValidationError, match="scales and biases must be as many, but got 1 and 2"):
        VectorScaling(scales=(1.0,), biases=(0.0, 0.0))
    with pytest.raises(InputError, match="of 4 classes cannot be applied to 3 classes"):
        CALIBRATED[-1].apply(np.full((2, 3), 1 / 3))


def test_log_loss_is_scikit_learns():
    from sklearn.metrics import log_loss as reference

    probs, labels = make_calibrated(1, n_rows=200)
    assert log_loss(probs, labels) == pytest.approx(reference(labels, probs))


def test_calibrated_probabilities_need_no_temperature():
    # About three standard errors: over these 20 sets the temperature scatters by 0.02.
    found = [fit_temperature(*make_calibrated(seed)).temperature for seed in range(20)]
    assert np.mean(found) == pytest.approx(1.0, abs=3 * 0.02 / 20**0.5)


@given(factor=st.floats(0.4, 3.0), seed=st.integers(0, 100))
@settings(max_examples=15)
def test_a_known_temperature_is_recovered(factor, seed):
    probs, labels = make_calibrated(seed)
    sharpened = Temperature(temperature=1 / factor).apply(probs)
    found, of_calibrated = fit_temperature(sharpened, labels), fit_temperature(probs, labels)
    assert found.temperature == pytest.approx(factor * of_calibrated.temperature, rel=0.02)


def test_no_other_temperature_has_a_lower_log_loss():
    probs, labels = make_calibrated(2, n_rows=300)
    sharp = Temperature(temperature=0.5).apply(probs)
    least = loss_of(fit_temperature(sharp, labels), sharp, labels)
    grid = np.geomspace(0.05, 20, 500)
    assert least <= min(loss_of(Temperature(temperature=t), sharp, labels) for t in grid)


def test_a_known_vector_is_recovered():
    probs, _ = make_calibrated(3)
    truth = VectorScaling(scales=(0.5, 1.5, 1.0, 1.0), biases=(1.0, 0.0, 0.0, -1.0)).apply(probs)
    draws = np.random.default_rng(3).random((len(probs), 1))
    labels = (draws > truth.cumsum(axis=1)[:, :-1]).sum(axis=1)
    fitted = fit_vector(probs, labels)
    assert fitted.apply(probs) == pytest.approx(truth, abs=0.06)
    assert loss_of(fitted, probs, labels) <= loss_of(NoCalibration(), truth, labels)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_in_sample_each_calibration_is_no_worse_than_the_simpler(seed):
    probs, labels = make_calibrated(seed, n_rows=60)
    losses = [loss_of(fit(probs, labels), probs, labels) for fit in CALIBRATIONS.values()]
    assert losses[0] >= losses[1] - 1e-5  # the floor moves what is not calibrated a little
    assert losses[1] >= losses[2] - 1e-9


@pytest.mark.parametrize("fit", [fit_temperature, fit_vector])
@pytest.mark.parametrize("n_rows", [3, 30, 3000])
def test_of_n_rows_without_an_error_the_next_is_right_with_laplaces_probability(fit, n_rows):
    labels = np.arange(n_rows) % 3
    probs = np.full((n_rows, 3), 0.2) + 0.4 * np.eye(3)[labels]
    confidence = fit(probs, labels).apply(probs).max(axis=1)
    assert confidence == pytest.approx((n_rows + 1) / (n_rows + 2), rel=1e-3)


@pytest.mark.parametrize("name", ["temperature", "vector"])
def test_a_fold_is_never_calibrated_by_its_own_labels(name):
    probs, labels = make_calibrated(4, n_rows=80)
    fold_of_row = np.arange(80) % 4
    honest = cross_fitted_probs(CALIBRATIONS[name], probs, labels, fold_of_row)
    of_fold = fold_of_row == 1
    other_labels = np.where(of_fold, (labels + 1) % 4, labels)
    again = cross_fitted_probs(CALIBRATIONS[name], probs, other_labels, fold_of_row)
    assert again[of_fold].tobytes() == honest[of_fold].tobytes()
    assert again.tobytes() != honest.tobytes()
