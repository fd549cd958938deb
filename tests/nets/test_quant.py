"""Quantiles against NumPy's, and trees against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier

from hbcomp.nets.quant import QuantConfig
from hbcomp.nets.quantiles import (
    interval_quantiles,
    intervals,
    quantile_features,
    representations,
)
from hbcomp.nets.trees import Forest


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 8, 9, 33])
def test_quantiles_are_numpys_and_every_second_one_is_less_the_mean(m):
    values = torch.randn(4, 2, m, generator=torch.Generator().manual_seed(m))
    q = 1 + (m - 1) // 4
    levels = np.linspace(0, 1, q) if q > 1 else [0.5]
    expected = np.quantile(values.numpy(), levels, axis=2).transpose(1, 2, 0)
    expected[:, :, 1::2] -= values.mean(2, keepdim=True).numpy()
    np.testing.assert_allclose(interval_quantiles(values), expected, atol=1e-6)


def test_intervals_are_halvings_and_the_same_shifted_by_half_their_length():
    assert intervals(8) == [
        *[(0, 8), (0, 4), (4, 8), (2, 6)],
        *[(0, 2), (2, 4), (4, 6), (6, 8), (1, 3), (3, 5), (5, 7)],
        *[(place, place + 1) for place in range(8)],
    ]
    assert intervals(6)[:4] == [(0, 6), (0, 3), (3, 6), (2, 5)]  # one and a half is rounded up


@pytest.mark.parametrize("t", [1, 2, 3, 5, 7, 31, 100, 205])
def test_intervals_lie_in_the_signal_and_each_depth_covers_it(t):
    found = intervals(t)
    assert all(0 <= start < end <= t for start, end in found)
    assert {place for start, end in found[1:] for place in range(start, end)} | {0} == set(range(t))


def test_representations_are_those_of_numpy():
    signals = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
    array = signals.numpy()
    first = np.diff(array, axis=2)
    padded = np.pad(first, ((0, 0), (0, 0), (2, 2)), mode="edge")
    smooth = np.stack([padded[:, :, i : i + 19] for i in range(5)]).mean(0)
    expected = [array, smooth, np.diff(first, axis=2), np.abs(np.fft.rfft(array, axis=2))]
    for found, wanted in zip(representations(signals), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_every_channel_has_features_of_its_own():
    signals = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
    one = quantile_features(signals[:, :1])
    assert quantile_features(signals).shape == (2, 3 * one.shape[1])


def grown(labels, n_features=7, **options):
    features = np.random.default_rng(0).normal(size=(len(labels), n_features))
    forest = ExtraTreesClassifier(n_estimators=9, random_state=3, **options)
    return forest.fit(features.astype(np.float32), labels)


@pytest.mark.parametrize("options", [{}, {"min_samples_leaf": 5}, {"max_depth": 1}])
@pytest.mark.parametrize("classes", [(0, 1), (0, 2, 3)])
def test_a_forest_answers_with_the_bits_of_scikit_learn(options, classes):
    sklearn_forest = grown(np.array(classes)[np.arange(90) % len(classes)], **options)
    forest = Forest(4, 7)
    forest.take(sklearn_forest)
    new = np.random.default_rng(1).normal(size=(200, 7)).astype(np.float32)
    probs = forest(torch.tensor(new)).numpy()
    assert np.array_equal(probs[:, classes], sklearn_forest.predict_proba(new))
    assert np.delete(probs, classes, axis=1).sum() == 0


def test_a_forest_of_one_class_knows_one_answer():
    forest = Forest(3, 7)
    forest.take(grown(np.full(5, 2)))
    assert forest(torch.zeros(1, 7)).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("name", "value"), [("left", 0), ("right", 10**6), ("feature", 7), ("roots", -1)]
)
def test_weights_that_are_no_trees_are_refused(name, value):
    forest = Forest(2, 7)
    forest.take(grown(np.arange(30) % 2))
    weights = forest.state_dict()
    weights[name] = weights[name].clone()
    weights[name][0] = value
    with pytest.raises(RuntimeError, match="its nodes are not those of trees"):
        Forest(2, 7).load_state_dict(weights)


def test_weights_of_different_numbers_of_nodes_are_refused():
    forest = Forest(2, 7)
    forest.take(grown(np.arange(30) % 2))
    weights = forest.state_dict()
    weights["threshold"] = weights["threshold"][:-1]
    with pytest.raises(RuntimeError, match="its arrays must be of the same nodes"):
        Forest(2, 7).load_state_dict(weights)


def test_the_forest_of_the_net_is_the_papers():
    signals = torch.randn(40, 1, 24, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 2
    net = QuantConfig(n_trees=7).fit(signals, labels, 2, seed=11)
    expected = ExtraTreesClassifier(
        n_estimators=7, max_features=0.1, criterion="entropy", random_state=11
    ).fit(quantile_features(signals).numpy(), labels.numpy())
    new = torch.randn(20, 1, 24, generator=torch.Generator().manual_seed(1))
    of_trees = expected.predict_proba(quantile_features(new).numpy())
    assert np.array_equal(net.forest(quantile_features(new)).numpy(), of_trees)
    # The shares of the classes count as an eighth tree.
    np.testing.assert_allclose(net(new).softmax(1), (7 * of_trees + 0.5) / 8, atol=1e-6)
