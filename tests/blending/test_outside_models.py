"""The pure parts of the example base models in experiments/outside."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from hbcomp.scoring.calibration import fit_vector, log_loss, softmax

FOLDER = Path(__file__).parents[2] / "experiments" / "outside"


@pytest.fixture
def load(monkeypatch):
    """A function that returns a script as a module, with its neighbours to import from."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load_script(name):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load_script


@pytest.fixture
def rocket(load):
    return load("minirocket_model")


@pytest.fixture
def rows():
    """Features of four folds, with a column of ones behind, one-hot targets, and the folds."""
    rng = np.random.default_rng(0)
    features = np.column_stack([rng.normal(size=(80, 7)), np.ones(80)]).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 80)]
    return features, targets, np.arange(80) % 4


def test_the_sums_of_folds_in_blocks_give_the_ridge_of_each_training_part(rocket, rows, tmp_path):
    from sklearn.linear_model import Ridge

    features, targets, fold_of_row = rows
    for fold in range(4):
        idx = np.flatnonzero(fold_of_row == fold)
        parts = [idx[:3], idx[3:11], idx[11:]]
        sums = rocket.add_up((features[part], targets[part]) for part in parts)
        rocket.keep(sums, tmp_path, fold)
    for fold in range(4):
        is_train = fold_of_row != fold
        weights = rocket.ridge_weights(rocket.sums_without(fold, 4, tmp_path), penalty=0.05)
        direct = Ridge(alpha=0.05 * is_train.sum()).fit(features[is_train, :-1], targets[is_train])
        np.testing.assert_allclose(weights[:-1], direct.coef_.T, atol=1e-5)
        np.testing.assert_allclose(weights[-1], direct.intercept_, atol=1e-5)


def test_a_block_is_added_in_place(rocket, rows, monkeypatch):
    features, targets, _ = rows
    seen = []

    def spy(*args, **kwargs):
        seen.append((args[3], real(*args, **kwargs)))
        return seen[-1][1]

    real = rocket.ssyrk
    monkeypatch.setattr(rocket, "ssyrk", spy)
    rocket.add_up((features[i : i + 20], targets[i : i + 20]) for i in range(0, 80, 20))
    assert all(np.shares_memory(before, after) for before, after in seen)


def test_streamed_scores_are_those_of_all_rows_at_once(rocket, rows, monkeypatch):
    features, _, _ = rows
    weights = np.random.default_rng(1).normal(size=(2, 8, 3)).astype(np.float32)
    monkeypatch.setattr(rocket, "N_BLOCK", 7)
    probs = rocket.ridge_probs(lambda block: block, features, weights)
    expected = [softmax((features @ each).astype(np.float64)) for each in weights]
    np.testing.assert_allclose(probs, expected, rtol=1e-5)


def test_the_head_takes_the_penalty_that_can_be_made_most_probable(rocket):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    logits = rng.normal(size=(400, 3)) + 2 * np.eye(3)[labels]
    stack = np.stack([softmax(rng.normal(size=(400, 3))), softmax(logits / 10), softmax(logits**3)])
    head = rocket.fit_head(stack, labels)
    losses = [log_loss(fit_vector(p, labels).apply(p), labels) for p in stack]
    assert head.position == np.argmin(losses) == 1
    assert log_loss(head.apply(stack), labels) == min(losses)


def test_minirocket_features_are_standardised_with_ones_behind(rocket):
    pytest.importorskip("aeon", reason="aeon is in the extra `rocket`")
    signals = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float32)
    features = rocket.minirocket(signals, 168, threads=1)
    found = features(signals)
    assert found.dtype == np.float32
    assert found.shape == (50, 169)
    np.testing.assert_allclose(found[:, :-1].mean(axis=0), 0, atol=1e-5)
    assert np.array_equal(found[:, -1], np.ones(50))
    np.testing.assert_allclose(features(signals[3:5]), found[3:5], rtol=1e-6)


def test_nearness_is_in_proportion_to_the_inverse_distance_to_each_class(load):
    base_model = load("knn_model")
    signals = np.array([[0.0, 0], [10, 0], [0, 3], [0, 9]], dtype=np.float32)
    probs = base_model.nearness(
        signals, np.array([0, 0, 1, 1]), np.array([[1, 0], [0, 3]], np.float32)
    )
    inverse = 1 / np.array([1.0, np.sqrt(10)])
    np.testing.assert_allclose(probs[0], inverse / inverse.sum(), rtol=1e-6)
    assert probs[1, 1] == pytest.approx(1, abs=1e-5)  # an equal beat leaves no doubt


def test_lightgbm_models_are_made_fold_by_fold_and_can_be_imported(load, tmp_path, monkeypatch):
    pytest.importorskip("lightgbm", reason="LightGBM is in the extra `outside`")
    from hbcomp.blending.probs_files import read_probs
    from hbcomp.competitions.load import load_sample

    monkeypatch.chdir(tmp_path)
    load("lightgbm_model").main(tmp_path, n_trees=2)
    train, test = load_sample()
    for name, beats in (("oof", train), ("test", test)):
        read = read_probs(tmp_path / f"{name}.csv", beats, train.classes, normalise=False)
        assert read.has_folds == (name == "oof")
