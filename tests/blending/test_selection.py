"""What is chosen of several blends, on base models made by construction."""

from dataclasses import replace

import numpy as np
import pytest

from hbcomp.blending import methods
from hbcomp.blending.base_models import BaseModels
from hbcomp.blending.methods import METHODS
from hbcomp.blending.selection import BlendOptions, blend
from hbcomp.competitions.competition import metric_of
from hbcomp.experiment.predictions import Predictions
from hbcomp.scoring.choice import choose, evaluate_rules
from hbcomp.scoring.metrics import MetricConfig, MetricSpec
from hbcomp.scoring.paired import paired_difference
from hbcomp.scoring.transfer import choose_accepted_rule
from hbcomp.system.errors import InputError

N, M, K = 300, 40, 3
LABELS = np.arange(N) % K
FOLDS = np.arange(N) // K % 5
WRONG = {"worst": 60, "best": 40, "middle": 50}
CLASSES = tuple(map(str, range(K)))
ABS_SUM = MetricSpec(config=MetricConfig(name="abs-sum", scale_rows=20_000), classes=CLASSES)
METRIC = metric_of(ABS_SUM)
MACRO_F1, MACRO_AUC = (
    MetricSpec(config=MetricConfig(name=name), classes=CLASSES)
    for name in ("macro-f1", "macro-roc-auc")
)


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


def base_models_of(names, metric=ABS_SUM, **changes):
    models = {name: replace(base_model(seed), **changes) for seed, name in enumerate(names)}
    return BaseModels(models, metric)


@pytest.fixture(scope="module")
def three():
    return blend(base_models_of("abc"), BlendOptions())


@pytest.mark.parametrize(
    ("metric", "options", "selected"),
    [
        (ABS_SUM, BlendOptions("mean"), ("calibration", "rule")),
        (ABS_SUM, BlendOptions("auto", "temperature", "half"), ("weights", "method")),
        (ABS_SUM, BlendOptions("greedy", "none", "half"), ("weights",)),
        (ABS_SUM, BlendOptions("mean", "none", "half"), ()),
        (MACRO_F1, BlendOptions("mean", "none"), ("rule",)),
        (MACRO_AUC, BlendOptions("mean", "none"), ()),  # of one rule there is no choice
    ],
)
def test_what_was_chosen_by_the_scored_rows_is_listed(metric, options, selected):
    assert blend(base_models_of("ab", metric), options).selected == selected


def test_independent_errors_are_blended_away(three):
    assert three.against_best_base_model.value < -1000
    assert all(gap.value > 0 for gap in three.without)
    assert three.method.name == "mean", "weights are not worth fitting for equals"


def rule_of(predictions):
    rules = evaluate_rules(METRIC, predictions.oof_probs, LABELS, FOLDS)
    return choose_accepted_rule(METRIC, rules, predictions.oof_probs, predictions.test_probs)


def test_every_number_is_that_of_the_cross_fitted_probabilities(three):
    assert [each.name for each in three.methods] == [name for name in METHODS if name != "ranks"]
    chosen = rule_of(three.predictions)
    assert chosen.name == three.rule.name
    assert np.array_equal(chosen.rows.values, three.rule.rows.values)
    score = three.alone[1]
    own = rule_of(base_model(1))
    assert (score.name, score.rule) == ("b", own.name)
    assert score.cross_fitted == own.rows.score
    assert three.best_base_model.cross_fitted == min(each.cross_fitted for each in three.alone)


def test_test_rows_get_the_combination_that_was_fitted_on_all_rows(three):
    stack = np.stack([base_model(seed).test_probs for seed in range(3)])
    expected = three.calibration.calibration.apply(three.method.combination.apply(stack))
    assert np.array_equal(three.predictions.test_probs, expected)
    assert np.array_equal(three.predictions.test_ids, np.arange(M).astype(str))


def test_the_options_are_followed_by_name():
    base_models = base_models_of("ab")
    options = BlendOptions(method="vote", calibration="vector", rule="argmax")
    made = blend(base_models, options)
    assert (made.method.name, made.calibration.name, made.rule.name) == ("vote", "vector", "argmax")
    assert len(made.methods) == len(METHODS) - 1, "the others are there to compare with"


@pytest.mark.parametrize(
    ("metric", "options"), [(ABS_SUM, BlendOptions()), (MACRO_AUC, BlendOptions("ranks"))]
)
def test_without_test_rows_there_is_nothing_that_a_rule_could_lose(metric, options):
    none = {"test_ids": np.array([], dtype=str), "test_probs": np.zeros((0, K))}
    made = blend(base_models_of("ab", metric, **none), options)
    assert made.rule.name == choose(made.rules).name
    assert made.predictions.test_probs.shape == (0, K)


def test_over_different_folds_only_methods_without_weights_are_tried():
    other = replace(base_model(1), fold_of_row=FOLDS[::-1].copy())
    base_models = BaseModels({"a": base_model(0), "b": other}, ABS_SUM)
    names = [each.name for each in blend(base_models, BlendOptions()).methods]
    assert names == ["mean", "geometric", "median", "vote"]
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
    made = blend(base_models_of("abcd", labels=noise), BlendOptions())
    assert made.rule.cross_fitted > 0.97 * METRIC.score(np.zeros((N, K)), noise)


@pytest.mark.parametrize("spec", [MACRO_F1, MACRO_AUC], ids=lambda spec: spec.config.name)
def test_where_greater_is_better_the_greater_one_is_chosen(spec):
    metric = metric_of(spec)
    models = {name: base_model(seed, n_wrong=n) for seed, (name, n) in enumerate(WRONG.items())}
    made = blend(BaseModels(models, spec), BlendOptions())
    assert made.best_base_model.name == "best"
    assert made.against_best_base_model.is_better
    assert made.rule.cross_fitted > made.best_base_model.cross_fitted
    assert made.without[1].is_worse, "without the best one the blend is worse"
    assert [rule.name for rule in made.rules] == list(metric.rules)
    assert ("ranks" in [each.name for each in made.methods]) == (spec is MACRO_AUC)
    for each in made.methods:
        assert not paired_difference(each.rows, made.method.rows).is_better


def test_ranks_undo_what_makes_a_base_model_too_sure():
    rng = np.random.default_rng(0)
    soft, sharp = base_model(0), base_model(1)
    # One base model says nothing between 0.001 and 0.999, and is wrong as often.
    probs = 1 / (1 + np.exp(-12 * (sharp.oof_probs + rng.normal(0, 0.2, (N, K)) - 0.5)))
    sharp = replace(sharp, oof_probs=probs / probs.sum(axis=1, keepdims=True))
    made = blend(BaseModels({"soft": soft, "sharp": sharp}, MACRO_AUC), BlendOptions("ranks"))
    assert (made.method.name, made.rule.name) == ("ranks", "raw")
    assert made.predictions.test_probs.shape == (M, K)
    with pytest.raises(InputError) as error:
        blend(base_models_of("ab"), BlendOptions("ranks"))
    assert str(error.value) == (
        "method ranks is for areas under the ROC curve; for abs-sum per 20,000 rows (lower is "
        "better) there are: mean, geometric, median, vote, greedy, hill-climb, optuna, stack"
    )
