import numpy as np
import pytest

from hbcomp.blending import methods
from hbcomp.blending.blend_runs import check_options
from hbcomp.blending.methods import (
    METHODS,
    MethodResult,
    evaluate_methods,
    fit_stack,
)
from hbcomp.blending.selection import BlendOptions
from hbcomp.scoring.auc import RocAuc
from hbcomp.scoring.choice import choose, fixed_rule, fixed_rule_scores
from hbcomp.scoring.class_metrics import CLASS_METRICS
from hbcomp.scoring.combinations import Arithmetic, equal
from hbcomp.scoring.metrics import ABS_SUM, ACCURACY, LOG_LOSS
from hbcomp.scoring.paired import RowScores, is_better, paired_difference
from hbcomp.system.errors import InputError

FITTED = [name for name, method in METHODS.items() if method.is_fitted]
MACRO_AUC = RocAuc("macro-roc-auc", None)
METRICS = [ABS_SUM, LOG_LOSS, CLASS_METRICS["macro-f1"], MACRO_AUC]


@pytest.fixture(autouse=True)
def few_trials(monkeypatch):
    monkeypatch.setattr(methods, "N_TRIALS", 15)


def make_stack(seed, n_base_models=3, n_rows=150, n_classes=3):
    """Return base models that know something, each with errors of its own, labels and folds."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n_rows)
    logits = 1.5 * np.eye(n_classes)[labels] + rng.normal(size=(n_base_models, n_rows, n_classes))
    weights = np.exp(logits)
    return weights / weights.sum(axis=2, keepdims=True), labels, rng.permutation(n_rows) % 3


def test_as_many_classes_as_half_the_rows_are_stacked_without_a_warning():
    stack, _, _ = make_stack(0, n_rows=24, n_classes=20)
    fit_stack(stack, np.arange(24) % 20)


def test_methods_run_from_simple_to_complex():
    assert [*METHODS] == [
        "mean", "geometric", "median", "vote", "ranks",
        "greedy", "hill-climb", "optuna", "stack",
    ]  # fmt: skip
    assert [*METHODS][5:] == FITTED
    assert all(method.name == name for name, method in METHODS.items())


@pytest.mark.parametrize(
    ("metric", "has_ranks"),
    [(ABS_SUM, False), (ACCURACY, False), (RocAuc("roc-auc", 1), True), (MACRO_AUC, True)],
)
def test_ranks_are_for_metrics_of_the_order_within_a_class(metric, has_ranks):
    assert METHODS["ranks"].suits(metric) == has_ranks
    assert METHODS["mean"].suits(metric)


@pytest.mark.parametrize("metric", METRICS, ids=lambda each: each.name)
@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_combination(name, metric):
    stack, labels, _ = make_stack(0)
    fit = METHODS[name].fit_to(metric, 7)
    assert fit(stack, labels) == fit(stack, labels)


@pytest.mark.parametrize("metric", METRICS, ids=lambda each: each.name)
@pytest.mark.parametrize("name", METHODS)
def test_permuting_base_models_changes_nothing(name, metric):
    stack, labels, _ = make_stack(1)
    fit = METHODS[name].fit_to(metric, 0)
    blend = fit(stack, labels).apply(stack)
    for order in ([1, 2, 0], [2, 1, 0]):
        again = fit(stack[order], labels).apply(stack[order])
        assert again == pytest.approx(blend, abs=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_identical_base_models_are_answered_as_the_base_model_is(name, monkeypatch):
    stack, labels, _ = make_stack(2)
    same = np.stack([stack[0]] * 3)
    blend = METHODS[name].fit(ABS_SUM, same, labels, 0).apply(same)
    if name == "ranks":
        assert (blend.argsort(axis=0) == stack[0].argsort(axis=0)).all()
    elif name == "vote":
        assert (blend.argmax(axis=1) == stack[0].argmax(axis=1)).all()
    elif name == "stack":
        # Three copies share a coefficient b as b / 3 each: a third of the penalty on its square.
        monkeypatch.setattr(methods, "STACK_C", 3 * methods.STACK_C)
        alone = stack[:1]
        assert blend == pytest.approx(fit_stack(alone, labels).apply(alone), abs=1e-3)
    else:
        assert blend == pytest.approx(stack[0], abs=1e-5)


@pytest.mark.parametrize("metric", METRICS, ids=lambda each: each.name)
@pytest.mark.parametrize("name", [*FITTED, "ranks"])
def test_a_method_gains_on_rows_it_has_not_seen(name, metric):
    if not METHODS[name].suits(metric):
        return
    stack, labels, fold_of_row = make_stack(3, n_rows=1500)
    [result] = evaluate_methods([name], metric, stack, labels, fold_of_row, 0)
    for base_model in stack:
        alone = fixed_rule_scores(metric, base_model, labels)
        assert paired_difference(result.rows, alone).is_better


@pytest.mark.parametrize("metric", METRICS, ids=lambda each: each.name)
@pytest.mark.parametrize("name", METHODS)
def test_in_sample_and_cross_fitted_scores_are_under_the_fixed_rule(name, metric):
    stack, labels, fold_of_row = make_stack(4)
    [result] = evaluate_methods([name], metric, stack, labels, fold_of_row, 0)
    blend, rule = result.combination.apply(stack), fixed_rule(metric)
    assert result.in_sample == pytest.approx(metric.score(rule.apply(blend), labels))
    assert result.cross_fitted == pytest.approx(metric.score(rule.apply(result.probs), labels))
    assert len(result.rows.values) == 150
    if name not in FITTED:  # nothing is fitted: both are the same
        assert result.probs == pytest.approx(blend)


@pytest.mark.parametrize("name", ["optuna", "stack"])
def test_a_fold_is_never_blended_by_what_saw_its_labels(name):
    stack, labels, fold_of_row = make_stack(5)
    of_fold = fold_of_row == 1
    [result] = evaluate_methods([name], ABS_SUM, stack, labels, fold_of_row, 0)
    other_labels = np.where(of_fold, (labels + 1) % 3, labels)
    [again] = evaluate_methods([name], ABS_SUM, stack, other_labels, fold_of_row, 0)
    assert again.probs[of_fold].tobytes() == result.probs[of_fold].tobytes()
    assert again.probs.tobytes() != result.probs.tobytes()


@pytest.mark.parametrize("name", FITTED)
def test_cross_fitting_does_not_reward_fitting_noise(name):
    # Labels without any relation to the base models: no answer costs 1 a row, any class 4/3.
    in_sample, costs = [], []
    for seed in range(6):
        stack, _, fold_of_row = make_stack(seed, n_rows=60)
        labels = np.random.default_rng(100 + seed).integers(0, 3, 60)
        [result] = evaluate_methods([name], ABS_SUM, stack, labels, fold_of_row, 0)
        in_sample.append(result.in_sample)
        costs.append(result.rows.values)
    gains = np.mean(costs, axis=1) - in_sample
    assert gains.mean() > 2 * gains.std() / len(gains) ** 0.5
    honest = np.concatenate(costs)
    nothing, found = (RowScores(each, False) for each in (np.ones(len(honest)), honest))
    assert not paired_difference(nothing, found).is_worse


@pytest.mark.parametrize("metric", METRICS, ids=lambda each: each.name)
def test_optuna_is_no_worse_than_either_plain_mean(metric):
    stack, labels, fold_of_row = make_stack(6)
    *means, optuna = evaluate_methods(
        ["mean", "geometric", "optuna"], metric, stack, labels, fold_of_row, 0
    )
    for mean in means:
        assert not is_better(mean.in_sample, optuna.in_sample, metric.greater_is_better)


def test_optuna_takes_the_equal_weights_where_no_weights_change_an_answer():
    labels = np.arange(12) % 3
    sure = np.stack([0.1 + 0.7 * np.eye(3)[labels], 0.2 + 0.4 * np.eye(3)[labels]])
    found = METHODS["optuna"].fit(ABS_SUM, sure, labels, 0)
    assert found == Arithmetic(weights=equal(2))


def test_rows_that_all_base_models_answer_alike_cannot_be_changed():
    rng = np.random.default_rng(7)
    stack = rng.dirichlet([0.3] * 3, (3, 2000))
    settled = ~methods._is_open(stack)
    assert 0 < settled.sum() < 2000
    for weights in rng.dirichlet([0.5] * 3, 50):
        for mean in methods._MEANS.values():
            answers = mean(weights=tuple(weights)).apply(stack)[settled] > 0.5
            assert (answers == (stack[0, settled] > 0.5)).all()


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_stacking_is_scikit_learns_prediction(n_classes):
    from sklearn.linear_model import LogisticRegression

    stack, labels, _ = make_stack(8, n_classes=n_classes)
    features = np.log(np.concatenate(list(stack), axis=1))
    model = LogisticRegression(C=methods.STACK_C).fit(features, labels)
    blend = fit_stack(stack, labels).apply(stack)
    assert blend == pytest.approx(model.predict_proba(features), abs=1e-3)


def test_a_class_without_rows_is_stacked_as_very_unlikely():
    stack, labels, _ = make_stack(9, n_classes=4)
    is_kept = labels != 2
    blend = fit_stack(stack[:, is_kept], labels[is_kept]).apply(stack)
    assert blend[:, 2].max() < 1e-3
    assert blend.sum(axis=1) == pytest.approx(1.0)


def result_of(name, values, *, greater_is_better=False):
    rows = RowScores(np.array(values, dtype=float), greater_is_better)
    combination = Arithmetic(weights=equal(2))
    return MethodResult(name, rows, combination, rows.score, np.zeros((len(values), 2)), 0.0)


def test_the_simplest_method_wins_within_noise():
    results = [result_of("mean", [1, 0] * 50), result_of("greedy", [0, 0] + [1, 0] * 49)]
    assert choose(results).name == "mean"
    assert choose(results, "greedy").name == "greedy"


def test_a_method_that_is_better_beyond_noise_wins():
    results = [result_of("mean", [1, 0] * 50), result_of("greedy", [0] * 100)]
    assert choose(results).name == "greedy"
    hits = [
        result_of(name, values, greater_is_better=True)
        for name, values in {"mean": [1, 0] * 50, "greedy": [0] * 100}.items()
    ]
    assert choose(hits).name == "mean"


def test_an_unknown_method_lists_the_known_ones():
    check_options(BlendOptions(method="auto"))
    check_options(BlendOptions(method="stack"))
    with pytest.raises(InputError, match=r"one of auto, mean, geometric, .*, but got 'maen'"):
        check_options(BlendOptions(method="maen"))


def test_a_stack_of_many_classes_is_fitted_as_one_of_few(monkeypatch):
    stack, labels, _ = make_stack(5)
    by_newton = fit_stack(stack, labels).apply(stack)
    monkeypatch.setattr(methods, "MAX_NEWTON_COEFFICIENTS", 0)
    assert fit_stack(stack, labels).apply(stack) == pytest.approx(by_newton, abs=1e-3)
