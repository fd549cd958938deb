import numpy as np
import pytest

from hbcomp.scoring.row_metrics import abs_sum_of_rows
from hbcomp.scoring.thresholds import fit_clip, fit_clip_per_class

N_CASES = 2000


def random_case(rng):
    """Few rows on a coarse grid, so that ties, all-equal columns and 0 and 1 are common."""
    n_rows, n_classes = int(rng.integers(1, 7)), int(rng.integers(2, 5))
    grid = rng.choice([1, 2, 4, 10])
    probs = rng.integers(0, grid + 1, (n_rows, n_classes)) / grid
    return probs.astype(rng.choice([np.float32, np.float64])), rng.integers(0, n_classes, n_rows)


def middles_of(values):
    """A threshold in every gap between two values, one below and one above all of them."""
    distinct = np.unique(values.astype(np.float64))
    return np.concatenate([[-1.0], (distinct[:-1] + distinct[1:]) / 2, [2.0]])


def brute_force(values, targets):
    """The least cost over all pairs of thresholds."""
    wide, middles = values.astype(np.float64), middles_of(values)
    lo, hi = (axis.reshape(-1, 1) for axis in np.meshgrid(middles, middles))
    answers = np.where(wide < lo, 0.0, np.where(wide > hi, 1.0, wide))
    return np.abs(answers - targets).sum(axis=1)[(lo <= hi).ravel()].min()


def one_hot(labels, n_classes):
    return (labels[:, None] == np.arange(n_classes)).astype(float)


def test_fit_clip_equals_brute_force_on_random_cases_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(N_CASES):
        probs, labels = random_case(rng)
        best = brute_force(probs.ravel(), one_hot(labels, probs.shape[1]).ravel())
        found = abs_sum_of_rows(fit_clip(probs, labels).apply(probs), labels).sum()
        assert found == pytest.approx(best, abs=1e-9)


def test_fit_clip_per_class_equals_brute_force_of_each_class():
    rng = np.random.default_rng(1)
    for _ in range(N_CASES // 3):
        probs, labels = random_case(rng)
        truth = one_hot(labels, probs.shape[1])
        best = sum(
            brute_force(column, target) for column, target in zip(probs.T, truth.T, strict=True)
        )
        found = abs_sum_of_rows(fit_clip_per_class(probs, labels).apply(probs), labels).sum()
        assert found == pytest.approx(best, abs=1e-9)


def test_two_thresholds_never_beat_one():
    rng = np.random.default_rng(2)
    for _ in range(N_CASES):
        probs, labels = random_case(rng)
        two = abs_sum_of_rows(fit_clip(probs, labels).apply(probs), labels).sum()
        values, targets = probs.ravel(), one_hot(labels, probs.shape[1]).ravel()
        one = min(np.abs((values > t) - targets).sum() for t in middles_of(values))
        assert one <= two + 1e-9


def test_a_class_without_rows_is_answered_with_zeros():
    probs = np.array([[0.9, 1.0], [0.8, 1.0]])
    rule = fit_clip_per_class(probs, np.array([0, 0]))
    assert rule.apply(probs).tolist() == [[1, 0], [1, 0]]


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(3)
    probs, labels = rng.dirichlet(np.ones(4), 500), rng.integers(0, 4, 500)
    order = rng.permutation(500)
    assert fit_clip(probs, labels) == fit_clip(probs[order], labels[order])
