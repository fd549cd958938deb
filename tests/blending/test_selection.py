"""What is chosen of several blends, on base models made by construction."""

from dataclasses import replace

import numpy as np
import pytest

from hbcomp.blending import methods
from hbcomp.blending.base_models import BaseModels
from hbcomp.blending.methods import METHODS
from hbcomp.blending.selection import BlendOptions, blend
from hbcomp.experiment.predictions import Predictions
from hbcomp.scoring.choice import choose, evaluate_rules
from hbcomp.scoring.metrics import row_costs, score_of
from hbcomp.scoring.transfer import choose_safe_rule
from hbcomp.system.errors import InputError

N, M, K = 300, 40, 3
LABELS = np.arange(N) % K
FOLDS = np.arange(N) // K % 5


def base_model(seed, n_wrong=40, labels=LABELS):
    """Return a base model that is confident, and wrong in rows of its own."""
    rng = np.random.default_rng(seed)
    called = labels.copy()
    is_wrong = rng.choice(N, n_wrong, replace=False)
    called[is_wrong] = (called[is_wrong] + 1) % K
    oof = 0.7 * np.eye(K)[called] + 0.3 * rng.dirichlet(np.ones(K), N)
    return Predictions(
        train_ids=np.arange(N).astype(str),
        labels=labels,
        fold_of_row=FOLDS,
        oof_probs=oof,
        test_ids=np.arange(M).astype(str),
        test_probs=rng.dirichlet(np.ones(K), M),
        train_fingerprint="train",
        test_fingerprint="test",
    )


@pytest.fixture(scope="module", autouse=True)
def _few_trials():
    """Let Optuna try a few weights: how it does it is tested in test_methods."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "N_TRIALS", 5)
        yield


@pytest.fixture(scope="module")
def three():
    return blend(
        BaseModels({name: base_model(seed) for seed, name in enumerate("abc")}), BlendOptions()
    )


@pytest.mark.parametrize(
    ("options", "selected"),
    [
        (BlendOptions("mean"), ("calibration", "rule")),
        (BlendOptions("auto", "temperature", "half"), ("weights", "method")),
        (BlendOptions("greedy", "none", "half"), ("weights",)),
        (BlendOptions("mean", "none", "half"), ()),
    ],
)
def test_what_was_chosen_by_the_scored_rows_is_listed(options, selected):
    base_models = BaseModels({name: base_model(seed) for seed, name in enumerate("ab")})
    assert blend(base_models, options).selected == selected


def test_independent_errors_are_blended_away(three):
    assert three.against_best_base_model.per_20k < -1000
    assert all(gap.per_20k > 0 for gap in three.without)
    assert three.method.name == "mean", "weights are not worth fitting for equals"


def rule_of(predictions):
    rules = evaluate_rules(predictions.oof_probs, LABELS, FOLDS)
    return choose_safe_rule(rules, predictions.oof_probs, predictions.test_probs)


def test_every_number_is_that_of_the_cross_fitted_probabilities(three):
    assert [each.name for each in three.methods] == list(METHODS)
    chosen = rule_of(three.predictions)
    assert (chosen.name, chosen.costs.tolist()) == (three.rule.name, three.rule.costs.tolist())
    score = three.alone[1]
    own = rule_of(base_model(1))
    assert (score.name, score.rule) == ("b", own.name)
    assert score.cross_fitted == score_of(own.costs)
    assert three.best_base_model.cross_fitted.total == min(
        each.cross_fitted.total for each in three.alone
    )


def test_test_rows_get_the_combination_that_was_fitted_on_all_rows(three):
    stack = np.stack([base_model(seed).test_probs for seed in range(3)])
    expected = three.calibration.calibration.apply(three.method.combination.apply(stack))
    assert np.array_equal(three.predictions.test_probs, expected)
    assert np.array_equal(three.predictions.test_ids, np.arange(M).astype(str))


def test_the_options_are_followed_by_name():
    base_models = BaseModels({name: base_model(seed) for seed, name in enumerate("ab")})
    options = BlendOptions(method="vote", calibration="vector", rule="argmax")
    made = blend(base_models, options)
    assert (made.method.name, made.calibration.name, made.rule.name) == ("vote", "vector", "argmax")
    assert len(made.methods) == len(METHODS), "the others are there to compare with"


def test_without_test_rows_there_is_nothing_that_a_rule_could_lose():
    none = np.zeros((0, K))
    untested = {
        name: replace(base_model(seed), test_ids=np.array([], dtype=str), test_probs=none)
        for seed, name in enumerate("ab")
    }
    made = blend(BaseModels(untested), BlendOptions())
    assert made.rule.name == choose(made.rules).name
    assert made.predictions.test_probs.shape == (0, K)


def test_over_different_folds_only_methods_without_weights_are_tried():
    other = replace(base_model(1), fold_of_row=FOLDS[::-1].copy())
    base_models = BaseModels({"a": base_model(0), "b": other})
    names = [each.name for each in blend(base_models, BlendOptions()).methods]
    assert names == [name for name, method in METHODS.items() if not method.is_fitted]
    assert blend(base_models, BlendOptions(method="median")).method.name == "median"
    with pytest.raises(InputError) as error:
        blend(base_models, BlendOptions(method="greedy"))
    assert str(error.value) == (
        "method greedy fits weights, so the base models must have the same folds; over "
        "different ones there are: mean, geometric, median, vote"
    )


def test_labels_of_noise_are_not_won_from_by_choosing_among_everything():
    rng = np.random.default_rng(5)
    noise = rng.permutation(LABELS)
    base_models = BaseModels(
        {name: replace(base_model(seed), labels=noise) for seed, name in enumerate("abcd")}
    )
    made = blend(base_models, BlendOptions())
    nothing = score_of(row_costs(np.zeros((N, K)), noise))
    assert made.rule.cross_fitted.per_20k > 0.97 * nothing.per_20k
