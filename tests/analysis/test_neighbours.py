"""The nearest rows of other folds, against a loop."""

import numpy as np
import pytest

from hbcomp.analysis.neighbours import nearest_by_class, nearest_rows
from hbcomp.data.synthetic import make_rows

N, K = 40, 3


@pytest.fixture
def beats():
    return make_rows(n=N, t=8, k=K)


FOLDS = np.random.default_rng(0).integers(0, 4, N)


def test_the_nearest_candidates_of_other_folds_are_those_of_a_loop(beats):
    is_candidate = np.arange(N) % 3 > 0
    rows = np.array([5, 0, 17])
    distances, found = nearest_rows(beats.flat, FOLDS, is_candidate, rows, 4)
    for row, near, at in zip(rows, distances, found, strict=True):
        wide = beats.flat.astype(np.float64)
        gaps = np.linalg.norm(wide - wide[row], axis=1)
        gaps[~is_candidate | (FOLDS[row] == FOLDS)] = np.inf
        assert at.tolist() == np.argsort(gaps)[:4].tolist()
        assert near == pytest.approx(np.sort(gaps)[:4], abs=1e-6)


def test_a_copy_in_the_same_fold_is_no_neighbour_and_one_in_another_fold_is(beats):
    signals = beats.flat.copy()
    signals[1] = signals[2] = signals[0]
    folds = np.arange(N) % 4
    folds[1] = folds[0]
    everyone = np.ones(N, dtype=bool)
    distances, found = nearest_rows(signals, folds, everyone, np.array([0]), 1)
    assert (found[0, 0], distances[0, 0]) == (2, 0.0)


def test_each_class_has_its_nearest_row_and_a_class_of_one_fold_none(beats):
    labels = beats.known_labels
    folds = np.where(labels == 2, 0, np.arange(N) % 2)
    rows = np.arange(N)
    distances, found = nearest_by_class(beats.flat, labels, folds, rows)
    is_absent = found < 0
    assert np.array_equal(is_absent, np.isinf(distances))
    assert np.array_equal(is_absent, (folds == 0)[:, None] & (np.arange(K) == 2))
    for label in range(K):
        there = found[~is_absent[:, label], label]
        assert (labels[there] == label).all()
        assert (folds[there] != folds[~is_absent[:, label]]).all()


def test_fewer_candidates_than_asked_for_leave_places_empty(beats):
    is_candidate = np.arange(N) == 3
    folds = np.arange(N)
    distances, found = nearest_rows(beats.flat, folds, is_candidate, np.array([0, 3]), 2)
    assert found.tolist() == [[3, -1], [-1, -1]]
    assert np.isinf(distances).tolist() == [[False, True], [True, True]]
