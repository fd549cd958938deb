import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hbcomp.scoring import blend_weights as fitting
from hbcomp.scoring.blend_weights import fit_greedy, fit_hill_climb
from hbcomp.scoring.choice import fixed_rule_scores
from hbcomp.scoring.combinations import (
    COMBINATION_ADAPTER,
    Arithmetic,
    Geometric,
    Median,
    RankMean,
    Stacked,
    Vote,
    cross_fitted_blend,
    disagreement,
    equal,
    leave_one_out,
    repairs,
)
from hbcomp.scoring.metrics import ABS_SUM, MetricConfig, make_metric
from hbcomp.scoring.row_metrics import abs_sum_of_rows
from hbcomp.system.errors import InputError

FITS = [partial(fit_greedy, ABS_SUM), partial(fit_hill_climb, ABS_SUM)]
NAMES = ["greedy", "hill-climb"]
seeds = st.integers(0, 2**32 - 1)


def make_stack(seed, n_models=3, n_rows=80, n_classes=3):
    """Return base models that know something, each with errors of its own, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n_rows)
    logits = 1.5 * np.eye(n_classes)[labels] + rng.normal(size=(n_models, n_rows, n_classes))
    weights = np.exp(logits)
    return weights / weights.sum(axis=2, keepdims=True), labels


def half_costs(probs, labels):
    return fixed_rule_scores(ABS_SUM, probs, labels).values


def cost_of(weights, stack, labels):
    return int(half_costs(np.tensordot(weights, stack, axes=1), labels).sum())


# Each with three base models of two classes, by hand.
TABLE = np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.6, 0.4], [0.2, 0.8]], [[0.6, 0.4], [0.3, 0.7]]])


@pytest.mark.parametrize(
    ("combination", "first_class"),
    [
        (Arithmetic(weights=equal(3)), [0.7, 1.1 / 3]),
        (Arithmetic(weights=(0.5, 0.5, 0.0)), [0.75, 0.4]),
        # The odds are the cube roots of 9 * 3/2 * 3/2 and of 3/2 * 1/4 * 3/7.
        (Geometric(weights=equal(3)), [1 / (1 + 20.25 ** (-1 / 3)), 1 / (1 + (56 / 9) ** (1 / 3))]),
        (Median(), [0.6, 0.3]),
        (Vote(weights=equal(3)), [1.0, 1 / 3]),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else "",
)
def test_combinations_blend_as_the_table_says(combination, first_class):
    blend = combination.apply(TABLE)
    assert blend[:, 0] == pytest.approx(first_class, abs=2e-6)
    assert blend.sum(axis=1) == pytest.approx(1.0)


COMBINATIONS = [
    Arithmetic(weights=(0.5, 0.25, 0.25)),
    Geometric(weights=(0.5, 0.25, 0.25)),
    Median(),
    Vote(weights=(0.5, 0.25, 0.25)),
    Stacked(
        coefficients=tuple(
            ((0.5, -0.1, 0.0), (0.0, 0.4, 0.1), (0.2, 0.0, j / 3)) for j in range(3)
        ),
        intercept=(0.1, 0.0, -0.1),
    ),
]


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda each: each.kind)
def test_a_combination_survives_json(combination):
    text = json.dumps(combination.model_dump(mode="json"))
    assert COMBINATION_ADAPTER.validate_json(text) == combination


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda each: each.kind)
@given(seed=seeds)
@settings(max_examples=20)
def test_blended_rows_are_probabilities(combination, seed):
    stack, _ = make_stack(seed)
    stack[:, :5] = np.eye(3)[np.random.default_rng(seed).integers(0, 3, (3, 5))]
    blend = combination.apply(stack)
    assert (blend >= 0).all()
    assert blend.sum(axis=1) == pytest.approx(1.0)


def permuted(combination, order):
    if isinstance(combination, Median):
        return combination
    key = "coefficients" if isinstance(combination, Stacked) else "weights"
    values = getattr(combination, key)
    return combination.model_copy(update={key: tuple(values[j] for j in order)})


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda each: each.kind)
@given(seed=seeds, order=st.permutations(range(3)))
@settings(max_examples=20)
def test_permuting_base_models_with_their_weights_changes_nothing(combination, seed, order):
    stack, _ = make_stack(seed)
    again = permuted(combination, order).apply(stack[order])
    assert again == pytest.approx(combination.apply(stack), abs=1e-12)


@pytest.mark.parametrize("combination", COMBINATIONS[:3], ids=lambda each: each.kind)
def test_blending_identical_base_models_is_the_base_model(combination):
    stack, _ = make_stack(0)
    same = np.stack([stack[0]] * 3)
    assert combination.apply(same) == pytest.approx(stack[0], abs=1e-5)


def test_the_vote_of_identical_base_models_is_the_hardened_base_model():
    stack, _ = make_stack(0)
    blend = Vote(weights=equal(3)).apply(np.stack([stack[0]] * 3))
    assert blend == pytest.approx(np.eye(3)[stack[0].argmax(axis=1)], abs=1e-5)


def test_a_tied_vote_goes_to_the_larger_mean_whoever_is_named_first():
    stack = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    for order in ([0, 1], [1, 0]):
        blend = Vote(weights=equal(2)).apply(stack[order])
        assert blend[0, 0] > 0.5
        assert blend[0, 0] == pytest.approx(0.5, abs=1e-5)


def test_the_mean_decides_where_the_median_leaves_no_class():
    stack = np.eye(3)[:, None, :]  # three base models, each sure of another class
    assert Median().apply(stack)[0] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("weights", [(0.5, 0.4), (1.5, -0.5), ()])
def test_weights_that_are_no_shares_are_refused(weights):
    with pytest.raises(ValidationError, match="weights must not be negative and sum to 1, but got"):
        Arithmetic(weights=weights)


@pytest.mark.parametrize(
    "combination", [each for each in COMBINATIONS if each.kind != "median"], ids=lambda e: e.kind
)
def test_another_number_of_base_models_is_refused(combination):
    with pytest.raises(InputError, match="a blend of 3 base models cannot be applied to 4"):
        combination.apply(make_stack(0, n_models=4)[0])


def test_stacking_refuses_uneven_coefficients_and_other_classes():
    with pytest.raises(ValidationError, match="each base model must have 2 x 2 coefficients"):
        Stacked(coefficients=(((1.0, 0.0),),), intercept=(0.0, 0.0))
    with pytest.raises(InputError, match="a blend of 3 classes cannot be applied to 4 classes"):
        COMBINATIONS[-1].apply(make_stack(0, n_classes=4)[0])


@given(seed=seeds)
def test_the_raw_score_of_a_mean_is_the_mean_of_the_raw_scores(seed):
    # The trap: on raw probabilities no weighted mean beats the best base model.
    stack, labels = make_stack(seed)
    weights = np.random.default_rng(seed).dirichlet(np.ones(3))
    blend = Arithmetic(weights=tuple(weights)).apply(stack)
    of_models = [abs_sum_of_rows(model, labels).sum() for model in stack]
    assert abs_sum_of_rows(blend, labels).sum() == pytest.approx(weights @ of_models)
    assert abs_sum_of_rows(blend, labels).sum() >= min(of_models) - 1e-9


@given(seed=seeds)
@settings(max_examples=50)
def test_contested_elements_carry_all_that_weights_can_change(seed):
    stack, labels = make_stack(seed)
    contested = fitting._contested(stack, labels)

    def loss_of(weights):
        return contested.loss(weights @ contested.values)

    first, second = np.random.default_rng(seed).dirichlet(np.ones(3), 2)
    change = cost_of(first, stack, labels) - cost_of(second, stack, labels)
    assert loss_of(first)[0] - loss_of(second)[0] == change


@pytest.mark.parametrize("fit", FITS, ids=NAMES)
@given(seed=seeds)
@settings(max_examples=10)
def test_a_fitted_mean_is_no_dearer_than_any_base_model(fit, seed):
    stack, labels = make_stack(seed)
    fitted = fit(stack, labels)
    best = min(cost_of(corner, stack, labels) for corner in np.eye(3))
    assert cost_of(fitted.weights, stack, labels) <= best


@given(seed=seeds)
@settings(max_examples=20)
def test_one_greedy_pick_is_the_best_base_model(seed):
    stack, labels = make_stack(seed)
    picked = fit_greedy(ABS_SUM, stack, labels, n_picks=1).weights
    assert sorted(picked) == [0, 0, 1]
    best = min(cost_of(corner, stack, labels) for corner in np.eye(3))
    assert cost_of(picked, stack, labels) == best


def test_greedy_weights_are_shares_of_the_picks():
    stack, labels = make_stack(1)
    weights = np.array(fit_greedy(ABS_SUM, stack, labels, n_picks=7).weights)
    assert any(weights * n == pytest.approx(np.round(weights * n)) for n in range(1, 8))


@pytest.mark.parametrize("fit", FITS, ids=NAMES)
@given(seed=seeds, order=st.permutations(range(3)))
@settings(max_examples=8)
def test_permuting_base_models_permutes_the_fitted_weights(fit, seed, order):
    stack, labels = make_stack(seed)
    weights = np.array(fit(stack, labels).weights)
    assert fit(stack[order], labels).weights == pytest.approx(weights[order])


@pytest.mark.parametrize("fit", FITS, ids=NAMES)
def test_fitting_identical_base_models_gives_the_base_model(fit):
    stack, labels = make_stack(0)
    same = np.stack([stack[0]] * 3)
    assert fit(same, labels).apply(same) == pytest.approx(stack[0])


@pytest.mark.parametrize("fit", FITS, ids=NAMES)
def test_a_single_base_model_has_all_the_weight(fit):
    stack, labels = make_stack(0, n_models=1)
    assert fit(stack, labels).weights == (1.0,)


@pytest.mark.parametrize("fit", FITS, ids=NAMES)
def test_fitting_gains_on_rows_it_has_not_seen(fit):
    stack, labels = make_stack(3, n_rows=3000)
    blend = cross_fitted_blend(fit, stack, labels, np.arange(3000) % 5)
    best = min(half_costs(model, labels).sum() for model in stack)
    assert half_costs(blend, labels).sum() < 0.9 * best


@pytest.mark.parametrize("fit", FITS, ids=NAMES)
def test_a_fold_is_never_blended_by_weights_that_saw_its_labels(fit):
    stack, labels = make_stack(5)
    fold_of_row = np.arange(len(labels)) % 4
    blend = cross_fitted_blend(fit, stack, labels, fold_of_row)
    of_fold = fold_of_row == 2
    other_labels = np.where(of_fold, (labels + 1) % 3, labels)
    again = cross_fitted_blend(fit, stack, other_labels, fold_of_row)
    assert again[of_fold].tobytes() == blend[of_fold].tobytes()
    assert again.tobytes() != blend.tobytes()


def test_leaving_out_the_only_good_base_model_costs_most():
    stack, labels = make_stack(6, n_rows=600)
    good = np.eye(3)[labels] * 0.4 + 0.2
    stack = np.stack([stack[0], good, stack[1]])
    differences = leave_one_out(ABS_SUM, FITS[0], stack, labels, np.arange(600) % 5)
    assert [each.is_worse for each in differences] == [False, True, False]


def test_leaving_out_a_copy_costs_nothing():
    stack, labels = make_stack(7)
    fold_of_row = np.arange(len(labels)) % 4
    same = np.stack([stack[0], stack[0]])
    assert [each.value for each in leave_one_out(ABS_SUM, FITS[0], same, labels, fold_of_row)] == [
        0,
        0,
    ]


def test_the_only_base_model_cannot_be_left_out():
    stack, labels = make_stack(0, n_models=1)
    with pytest.raises(
        InputError, match="two or more base models can be left out, but there is one"
    ):
        leave_one_out(ABS_SUM, FITS[0], stack, labels, np.arange(len(labels)) % 4)


def test_disagreement_and_repairs_count_rows():
    hard = np.array([[0, 1, 1, 0], [0, 1, 0, 1], [1, 1, 1, 0]])
    stack, labels = np.eye(2)[hard], np.array([0, 1, 0, 0])
    assert disagreement(stack).tolist() == [[0, 0.5, 0.25], [0.5, 0, 0.75], [0.25, 0.75, 0]]
    # Right: rows 0, 1, 3; rows 0, 1, 2; rows 1, 3.
    assert repairs(stack, labels).tolist() == [[0, 1, 0], [1, 0, 1], [1, 2, 0]]


@pytest.mark.parametrize("mean", [Arithmetic, Vote, Geometric])
def test_a_mean_of_sure_base_models_is_never_above_one(mean):
    for n_models in range(2, 40):  # the weights of 18, 22 and 29 sum to 1.0000000000000002
        sure = np.broadcast_to(np.eye(3), (n_models, 3, 3))
        blend = mean(weights=equal(n_models)).apply(sure)
        assert blend.max() <= 1.0
        np.testing.assert_allclose(blend, np.eye(3), atol=1e-5)


def test_the_mean_of_ranks_ignores_how_sharp_a_base_model_is():
    stack, _ = make_stack(8)
    sharpened = np.stack([stack[0], stack[1] ** 5, stack[2]])
    blend = RankMean(weights=equal(3)).apply(stack)
    assert RankMean(weights=equal(3)).apply(sharpened) == pytest.approx(blend)
    assert 0 < blend.min() < blend.max() < 1


@pytest.mark.parametrize("name", ["accuracy", "macro-f1", "log-loss", "macro-roc-auc"])
@pytest.mark.parametrize("fit", [fit_greedy, fit_hill_climb])
def test_weights_are_fitted_to_any_metric(fit, name):
    stack, labels = make_stack(9, n_rows=400)
    noise = np.full_like(stack[:1], 1 / 3)
    stack = np.concatenate([stack, noise])
    metric = make_metric(MetricConfig(name=name), ["0", "1", "2"])
    found = fixed_rule_scores(metric, fit(metric, stack, labels).apply(stack), labels)
    for model in stack:
        assert not fixed_rule_scores(metric, model, labels).is_better_than(found)
