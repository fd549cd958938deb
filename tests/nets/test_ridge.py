"""The ridge head against refits, one for each row that is left out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hbcomp.nets import ridge
from hbcomp.nets.ridge import (
    RidgeHead,
    decompose_features,
    decompose_rows,
    fit_logistic,
    fit_ridge,
    scaled_log_loss,
    standardisation,
)


def rows(n, f, k=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % k
    features = torch.randn(n, f, generator=generator) + F.one_hot(labels, f) * 0.7
    return features * torch.logspace(-2, 2, f), labels


def standardised(features):
    mean, factor = standardisation(lambda: [features])
    return ((features - mean) * factor).float()


def targets_of(labels):
    return F.one_hot(labels).double() * 2 - 1


def regression(features, targets, penalty):
    """Return the weights and the intercept of a ridge regression, by its normal equations."""
    mean, intercept = features.mean(0), targets.mean(0)
    centred = features - mean
    gram = centred.T @ centred + penalty * torch.eye(features.shape[1], dtype=features.dtype)
    weights = torch.linalg.solve(gram, centred.T @ (targets - intercept))
    return weights, intercept - mean @ weights


DECOMPOSE = {"rows": decompose_rows, "features": decompose_features}
SHAPES = [("rows", 15, 40), ("features", 60, 12), ("rows", 20, 20), ("features", 20, 20)]


def fitted(kind, features, labels, n_blocks=1):
    targets = targets_of(labels)
    blocks = lambda: features.split(-(-len(features) // n_blocks))  # noqa: E731
    return fit_ridge(DECOMPOSE[kind](blocks, targets - targets.mean(0)), targets, labels)


@pytest.mark.parametrize(("kind", "n", "f"), SHAPES)
def test_left_out_outputs_are_those_of_refits_without_the_row(kind, n, f):
    raw, labels = rows(n, f)
    features = standardised(raw)
    found = fitted(kind, features, labels)
    for row in range(n):
        others = torch.arange(n) != row
        weights, intercept = regression(
            features[others].double(), targets_of(labels)[others], found.penalty
        )
        expected = features[row].double() @ weights + intercept
        torch.testing.assert_close(found.left_out[row], expected, rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize(("kind", "n", "f"), SHAPES)
def test_weights_are_those_of_the_normal_equations(kind, n, f):
    raw, labels = rows(n, f)
    features = standardised(raw)
    found = fitted(kind, features, labels)
    weights, intercept = regression(features.double(), targets_of(labels), found.penalty)
    torch.testing.assert_close(found.weights, weights, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.intercept, intercept, rtol=1e-4, atol=1e-6)


def test_the_penalty_is_the_one_with_the_least_left_out_log_loss(monkeypatch):
    raw, labels = rows(30, 8)
    features = standardised(raw)
    chosen = fitted("features", features, labels)
    for penalty in ridge.PENALTIES:
        monkeypatch.setattr(ridge, "PENALTIES", (penalty,))
        other = fitted("features", features, labels)
        assert scaled_log_loss(chosen.left_out, labels) <= scaled_log_loss(other.left_out, labels)


def test_single_precision_gives_nearly_the_same(monkeypatch):
    raw, labels = rows(40, 60)
    features = standardised(raw)
    exact = {kind: fitted(kind, features[:, :f], labels) for kind, f in (("rows", 60),)}
    monkeypatch.setattr(ridge, "MAX_DOUBLE", 0)
    for kind, found in exact.items():
        again = fitted(kind, features, labels)
        assert again.penalty == found.penalty
        torch.testing.assert_close(again.left_out, found.left_out, rtol=1e-2, atol=1e-2)


def test_the_head_does_not_depend_on_how_rows_are_cut_into_blocks():
    features, labels = rows(60, 10)
    heads = []
    for size in (60, 7):
        head = RidgeHead(10, 3)
        head.fit(lambda size=size: features.split(size), labels)
        heads.append(head(features))
    torch.testing.assert_close(heads[0], heads[1], rtol=1e-3, atol=1e-4)


def test_a_constant_feature_has_no_influence():
    features, labels = rows(30, 6)
    features[:, 2] = 0.1
    head = RidgeHead(6, 3)
    head.fit(lambda: [features], labels)
    changed = features.clone()
    changed[:, 2] = 1e6
    assert torch.equal(head(changed), head(features))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_fewer_rows_than_classes_give_finite_probabilities(n):
    features, labels = rows(n, 20, k=4)
    head = RidgeHead(20, 4)
    head.fit(lambda: [features], labels)
    assert head(features).softmax(1).isfinite().all()


@pytest.mark.parametrize("k", [2, 3, 8])
def test_classes_of_one_row_each_are_recognised(k):
    features = torch.randn(k, 20, generator=torch.Generator().manual_seed(0))
    head = RidgeHead(20, k)
    head.fit(lambda: [features], torch.arange(k))
    assert torch.equal(head(features).argmax(1), torch.arange(k))


def test_a_class_of_one_row_does_not_judge_the_others():
    features, labels = rows(30, 6)
    alone = torch.cat([features, features[:1] + 5]), torch.cat([labels, torch.tensor([3])])
    assert ridge.judged_rows(alone[1]).tolist() == list(range(30))


def test_equal_features_of_all_rows_give_the_shares_of_the_classes():
    labels = torch.tensor([0] * 60 + [1] * 30)
    head = RidgeHead(3, 2)
    head.fit(lambda: [torch.ones(90, 3)], labels)
    probs = head(torch.ones(1, 3)).softmax(1)
    assert abs(probs[0, 0].item() - 2 / 3) < 0.05


def test_probabilities_are_calibrated_on_new_rows():
    features, labels = rows(400, 30, k=3)
    new, new_labels = rows(4000, 30, k=3, seed=1)
    head = RidgeHead(30, 3)
    head.fit(lambda: [features], labels)
    probs = head(new).softmax(1)
    is_right = (probs.argmax(1) == new_labels).float().mean()
    assert abs(probs.amax(1).mean() - is_right) < 0.04


def test_perfectly_separated_rows_keep_some_doubt():
    labels = torch.arange(20) % 2
    matrix, offset = fit_logistic(targets_of(labels), labels)
    probs = (targets_of(labels) @ matrix + offset).softmax(1)
    assert 0.9 < probs.amax(1).min() < 0.99


def test_the_scale_of_the_log_loss_is_the_best_of_many():
    generator = torch.Generator().manual_seed(0)
    outputs, labels = torch.randn(50, 3, generator=generator), torch.arange(50) % 3
    outputs += F.one_hot(labels, 3)
    targets = ridge.smoothed(labels, 3)
    grid = [
        -float((targets * (outputs.double() * scale).log_softmax(1)).sum(1).mean())
        for scale in np.logspace(-2, 2, 400)
    ]
    assert scaled_log_loss(outputs, labels) <= min(grid) + 1e-9
