"""The methods of blending by name, from simple to complex, scored and chosen cross-fitted."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from jaxtyping import Bool, Float64, Int

from hbcomp.scoring.auc import RocAuc
from hbcomp.scoring.blend_weights import fit_greedy, fit_hill_climb
from hbcomp.scoring.calibration import PROB_FLOOR, floored_log
from hbcomp.scoring.choice import fixed_rule, fixed_rule_scores
from hbcomp.scoring.combinations import (
    Arithmetic,
    Combination,
    Fit,
    Geometric,
    Labels,
    Median,
    Probs,
    RankMean,
    Stack,
    Stacked,
    Vote,
    cross_fitted_blend,
    equal,
)
from hbcomp.scoring.decision import Half
from hbcomp.scoring.metrics import Metric
from hbcomp.scoring.paired import RowScores
from hbcomp.scoring.row_metrics import brier_of_rows

FitToMetric = Callable[[Metric, Stack, Labels, int], Combination]

N_TRIALS = 100  # of Optuna
# scikit-learn's C: the L2 penalty's inverse weight, against the log loss summed over the rows.
# Measured on four simulated base models, fresh rows: with 400 to 100,000 rows 0.1 is within 1 % of
# the best power of ten; with 400, 1 costs a quarter more.
STACK_C = 0.1
MAX_NEWTON_COEFFICIENTS = 1_000  # measured: L-BFGS is slower at 768, twice as fast at 1,728


@dataclass(frozen=True)
class Method:
    """A way to combine base models: `fit` takes the metric, their stack, the labels and a seed."""

    name: str
    description: str
    fit: FitToMetric
    is_fitted: bool  # has weights or coefficients that are learnt from the labels

    def fit_to(self, metric: Metric, seed: int) -> Fit:
        """Return the fit to a metric under a seed, which only `optuna` uses."""
        return lambda stack, labels: self.fit(metric, stack, labels, seed)

    def suits(self, metric: Metric) -> bool:
        """Return whether the metric can take its blends: ranks say nothing within a row."""
        return self.name != "ranks" or isinstance(metric, RocAuc)


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """One of several ways to answer the rows, and what each contributes to its score."""

    name: str
    rows: RowScores

    @property
    def cross_fitted(self) -> float:
        """The score: no row was answered by what had seen its fold."""
        return self.rows.score


@dataclass(frozen=True, eq=False)
class MethodResult(CrossFitted):
    """One method on a stack: fitted on all rows, and scored under the fixed rule both ways."""

    combination: Combination
    in_sample: float
    probs: Probs  # cross-fitted
    seconds: float  # of all fits


def fit_optuna(metric: Metric, stack: Stack, labels: Labels, seed: int) -> Arithmetic | Geometric:
    """Return the best of `N_TRIALS` weighted means that a seeded study by TPE tried.

    A trial draws the kind of mean and a number u in (0, 1) for each base model; its weight is
    -log u over their sum, uniform on the simplex. The first two trials are the equal weights.
    """
    import optuna

    # Best first, so that the order in which they were named changes nothing.
    errors = [brier_of_rows(base_model, labels).sum() for base_model in stack]
    order = np.argsort(errors, kind="stable")
    rule = fixed_rule(metric)
    is_open = _is_open(stack) if isinstance(rule, Half) else np.ones(len(labels), dtype=bool)
    base_models, open_labels = stack[order][:, is_open], labels[is_open]
    names = [f"u{place}" for place in range(len(stack))]

    def objective(trial: optuna.Trial) -> float:
        kind = trial.suggest_categorical("kind", list(_MEANS))
        draws = [trial.suggest_float(name, 1e-6, 1 - 1e-6) for name in names]
        mean = _MEANS[kind](weights=_dirichlet(draws))
        return metric.score(rule.apply(mean.apply(base_models)), open_labels)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=False)
    study = optuna.create_study(
        sampler=sampler, direction="maximize" if metric.greater_is_better else "minimize"
    )
    for kind in _MEANS:
        study.enqueue_trial({"kind": kind, **dict.fromkeys(names, 0.5)})
    study.optimize(objective, n_trials=N_TRIALS)
    weights = np.empty(len(stack))
    weights[order] = _dirichlet([study.best_params[name] for name in names])
    return _MEANS[study.best_params["kind"]](weights=tuple(weights.tolist()))


def fit_stack(stack: Stack, labels: Labels) -> Stacked:
    """Return multinomial logistic regression on the base models' floored log-probabilities."""
    from sklearn.linear_model import LogisticRegression

    n_base_models, n_rows, n_classes = stack.shape
    features = np.moveaxis(floored_log(stack), 0, 1).reshape(n_rows, -1)
    # Newton's method: 2 s on 100,000 rows of 4 base models where L-BFGS takes 10 s. But its time
    # grows with the cube of the coefficients: of 3 base models of 52 classes, 20 s instead of 1 s.
    model = LogisticRegression(C=STACK_C, solver="newton-cholesky")
    if features.shape[1] * n_classes > MAX_NEWTON_COEFFICIENTS:
        model = LogisticRegression(C=STACK_C, solver="lbfgs", tol=1e-5, max_iter=10_000)
    with warnings.catch_warnings():  # that so many classes may be a regression; they are classes
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        model.fit(features, labels)
    slopes, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn keeps only the difference of two classes
        slopes, intercept = np.vstack([-slopes, slopes]) / 2, np.append(-intercept, intercept) / 2
    coefficients = np.zeros((n_base_models * n_classes, n_classes))
    coefficients[:, model.classes_] = slopes.T
    intercepts = np.full(n_classes, np.log(PROB_FLOOR))  # of a class without any row
    intercepts[model.classes_] = intercept
    return Stacked(
        coefficients=_nested(coefficients.reshape(n_base_models, n_classes, n_classes)),
        intercept=tuple(intercepts.tolist()),
    )


def _with_equal_weights(mean: type[Arithmetic | Geometric | Vote | RankMean]) -> FitToMetric:
    return lambda _metric, stack, _labels, _seed: mean(weights=equal(len(stack)))


def _seedless(fit: Callable[[Metric, Stack, Labels], Combination]) -> FitToMetric:
    return lambda metric, stack, labels, _seed: fit(metric, stack, labels)


# From simple to complex: name, description, fit, is_fitted.
_ALL = (
    Method("mean", "mean of the probabilities", _with_equal_weights(Arithmetic), False),
    Method("geometric", "mean of the log-probabilities", _with_equal_weights(Geometric), False),
    Method("median", "median of the probabilities", _seedless(lambda *_: Median()), False),
    Method(
        "vote", "share of the base models that predict a class", _with_equal_weights(Vote), False
    ),
    Method("ranks", "mean of the ranks within each class", _with_equal_weights(RankMean), False),
    Method("greedy", "ensemble selection with replacement", _seedless(fit_greedy), True),
    Method("hill-climb", "hill climbing from the best base model", _seedless(fit_hill_climb), True),
    Method("optuna", "kind of mean and its weights by TPE", fit_optuna, True),
    Method(
        "stack",
        "logistic regression on log-probabilities",
        _seedless(lambda _metric, stack, labels: fit_stack(stack, labels)),
        True,
    ),
)
METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}


def evaluate_methods(
    names: Sequence[str],
    metric: Metric,
    stack: Stack,
    labels: Labels,
    fold_of_row: Int[np.ndarray, " n"],
    seed: int,
) -> list[MethodResult]:
    """Return these methods with their in-sample and their cross-fitted score, in this order."""
    results = []
    for name in names:
        fit = METHODS[name].fit_to(metric, seed)
        start = perf_counter()
        combination = fit(stack, labels)
        # Ranks within a fold would hide that nets of different folds differ in scale, which counts
        # against every other method; nothing is fitted, so all rows are ranked together.
        is_ranked = isinstance(combination, RankMean)
        probs = (
            combination.apply(stack)
            if is_ranked
            else cross_fitted_blend(fit, stack, labels, fold_of_row)
        )
        seconds = perf_counter() - start
        in_sample = fixed_rule_scores(metric, combination.apply(stack), labels).score
        rows = fixed_rule_scores(metric, probs, labels)
        results.append(MethodResult(name, rows, combination, in_sample, probs, seconds))
    return results


_MEANS: Mapping[str, type[Arithmetic] | type[Geometric]] = {
    "arithmetic": Arithmetic,
    "geometric": Geometric,
}


def _dirichlet(draws: Sequence[float]) -> tuple[float, ...]:
    shares = -np.log(draws)
    return tuple((shares / shares.sum()).tolist())


def _is_open(stack: Stack) -> Bool[np.ndarray, " n"]:
    """Return the rows whose answer depends on the weights: no class has p > 0.5 in every model.

    If all give a class more than one half, both means do: by Holder's inequality the geometric
    mean of what is left for the other classes is at most that of the 1 - p. Where that holds in
    all rows, all are returned.
    """
    is_shared = np.all(stack > 0.5, axis=0)
    is_open: Bool[np.ndarray, " n"] = ~np.any(is_shared, axis=1)
    return is_open if is_open.any() else np.ones_like(is_open)


def _nested(array: Float64[np.ndarray, "m k k"]) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(tuple(row) for row in base_model) for base_model in array.tolist())
