"""The line search over a class weight against every factor that could matter."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.scoring.class_metrics import CLASS_METRICS
from hbcomp.scoring.class_weights import best_weight, fit_class_weights, fit_prior

VALUES = [0.0, 0.1, 0.2, 0.25, 0.5, 1.0]  # few, so that many are equal


def brute_force(metric, weighted, labels, label):
    """Return the best score over factors between, below and above all ratios of two values."""
    ratios = sorted({a / b for a in weighted.ravel() for b in weighted.ravel() if b > 0 and a > 0})
    points = [ratios[0] / 4, *ratios, ratios[-1] * 4] if ratios else [1.0]
    factors = [(low * high) ** 0.5 for low, high in pairwise(points)] or [1.0]
    scores = []
    for factor in factors:
        scaled = weighted.copy()
        scaled[:, label] *= factor
        scores.append(metric.score(scaled, labels))
    return max(scores)


@pytest.mark.parametrize("name", CLASS_METRICS)
@given(data=st.data())
def test_no_factor_of_one_class_does_better_than_the_line_search(name, data):
    k, n = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 9))
    cells = data.draw(st.lists(st.sampled_from(VALUES), min_size=n * k, max_size=n * k))
    probs = np.array(cells).reshape(n, k)
    probs[~probs.any(axis=1)] = 0.5  # probabilities never are all 0
    labels = np.array(data.draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)))
    label = data.draw(st.integers(0, k - 1))
    metric = CLASS_METRICS[name]
    factor, score = best_weight(metric, probs, labels, label)
    assert score == pytest.approx(brute_force(metric, probs, labels, label))
    scaled = probs.copy()
    scaled[:, label] *= factor
    assert metric.score(scaled, labels) == pytest.approx(score)


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_fitted_weights_are_never_worse_than_argmax_on_the_rows_they_were_fitted_on(name):
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 300, p=[0.8, 0.15, 0.05])
    probs = rng.dirichlet(np.ones(3), 300) * 0.6 + 0.4 * np.eye(3)[labels]
    probs[:, 0] += 0.3
    metric = CLASS_METRICS[name]
    rule = fit_class_weights(metric, probs, labels)
    assert metric.score(rule.apply(probs), labels) >= metric.score(probs, labels)


def test_prior_weights_are_the_inverse_shares():
    weights = fit_prior(np.array([0, 0, 0, 1]), 3).weights
    assert np.allclose(np.array(weights) / weights[0], [1, 3, 3])
