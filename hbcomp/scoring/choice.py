"""Which decision rule to use: every candidate cross-fitted, the simplest unbeaten one chosen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int

from hbcomp.scoring.calibration import fit_temperature, fit_vector
from hbcomp.scoring.class_metrics import ClassMetric
from hbcomp.scoring.class_weights import fit_class_weights, fit_prior
from hbcomp.scoring.decision import ArgMax, Clip, DecisionRule, Floor, Half, LeastCost, Raw
from hbcomp.scoring.metrics import Metric
from hbcomp.scoring.paired import RowScores, measure, paired_difference
from hbcomp.scoring.thresholds import fit_clip, fit_clip_per_class
from hbcomp.system.errors import check_name

Probs = Float[np.ndarray, "n k"]
Labels = Int[np.ndarray, " n"]
Fit = Callable[[Metric, Probs, Labels], DecisionRule]

FLOORS = 10.0 ** -np.arange(1, 13)  # log-loss is flat around its best floor


def fit_floor(metric: Metric, probs: Probs, labels: Labels) -> Floor:
    """Return the floor of the best score, by a line search over powers of ten."""
    floors = [Floor(least=float(least)) for least in FLOORS]
    scores = np.array([metric.score(floor.apply(probs), labels) for floor in floors])
    return floors[int(scores.argmax() if metric.greater_is_better else scores.argmin())]


def least_cost(metric: Metric, n_classes: int) -> LeastCost:
    """Return the rule that minimises the expected cost of a cost matrix."""
    answers = np.eye(n_classes)
    costs = [metric.contributions(answers, np.full(n_classes, label)) for label in range(n_classes)]
    return LeastCost(costs=tuple(tuple(row.tolist()) for row in costs))


def _weights(metric: Metric, probs: Probs, labels: Labels) -> DecisionRule:
    assert isinstance(metric, ClassMetric), "only metrics of the confusion matrix name this rule"
    return fit_class_weights(metric, probs.astype(np.float64), labels)


def _fixed(rule: DecisionRule) -> Fit:
    return lambda _metric, _probs, _labels: rule


# The rules that a metric may name as its candidates.
RULES: Mapping[str, Fit] = {
    "half": _fixed(Half()),
    "argmax": _fixed(ArgMax()),
    "raw": _fixed(Raw()),
    "clip 0.1/0.9": _fixed(Clip(lo=0.1, hi=0.9)),  # the reference solution's rule
    "tuned": lambda _metric, probs, labels: fit_clip(probs, labels),
    "tuned per class": lambda _metric, probs, labels: fit_clip_per_class(probs, labels),
    "temperature": lambda _metric, probs, labels: fit_temperature(probs.astype(np.float64), labels),
    "vector scaling": lambda _metric, probs, labels: fit_vector(probs.astype(np.float64), labels),
    "floor": fit_floor,
    "argmax of p / prior": lambda _metric, probs, labels: fit_prior(labels, probs.shape[1]),
    "class weights": _weights,
    "least cost": lambda metric, probs, _labels: least_cost(metric, probs.shape[1]),
}


def fixed_rule(metric: Metric) -> DecisionRule:
    """Return the first candidate, which nothing is fitted for: threshold 0.5, argmax or raw."""
    rules: Mapping[str, DecisionRule] = {"half": Half(), "argmax": ArgMax(), "raw": Raw()}
    return rules[metric.rules[0]]


def fixed_rule_scores(metric: Metric, probs: Probs, labels: Labels) -> RowScores:
    """Return what each row contributes when it is answered by `fixed_rule`."""
    return measure(metric, fixed_rule(metric).apply(probs), labels)


@dataclass(frozen=True, eq=False)
class RuleResult:
    """One rule on out-of-fold probabilities: fitted on all rows, and scored both ways.

    `rows` are cross-fitted: the rule that answers a row was fitted without the row's fold.
    """

    name: str
    rule: DecisionRule
    in_sample: float
    rows: RowScores

    @property
    def cross_fitted(self) -> float:
        """The honest score: no row was answered by a rule that had seen it."""
        return self.rows.score


def cross_fitted_answers(
    name: str,
    metric: Metric,
    probs: Probs,
    labels: Labels,
    fold_of_row: Int[np.ndarray, " n"],
) -> Float64[np.ndarray, "n k"]:
    """Return each row's answers under the rule of this name, fitted on the other folds."""
    answers = np.empty(probs.shape)
    for fold in np.unique(fold_of_row):
        is_held_out = fold_of_row == fold
        rule = RULES[name](metric, probs[~is_held_out], labels[~is_held_out])
        answers[is_held_out] = rule.apply(probs[is_held_out])
    return answers


def cross_fitted_scores(
    name: str,
    metric: Metric,
    probs: Probs,
    labels: Labels,
    fold_of_row: Int[np.ndarray, " n"],
) -> RowScores:
    """Return what each row contributes under the rule of this name, fitted on the other folds."""
    return measure(metric, cross_fitted_answers(name, metric, probs, labels, fold_of_row), labels)


def evaluate_rules(
    metric: Metric, probs: Probs, labels: Labels, fold_of_row: Int[np.ndarray, " n"]
) -> list[RuleResult]:
    """Return every candidate with its in-sample and its cross-fitted score, simple ones first."""
    results = []
    for name in metric.rules:
        rule = RULES[name](metric, probs, labels)
        in_sample = metric.score(rule.apply(probs), labels)
        rows = cross_fitted_scores(name, metric, probs, labels, fold_of_row)
        results.append(RuleResult(name, rule, in_sample, rows))
    return results


@runtime_checkable  # the tests check types as they run
class Scored(Protocol):
    """One of several candidates, by its name, and what each row contributes to its score."""

    @property
    def name(self) -> str:
        """What it is asked for by."""

    @property
    def rows(self) -> RowScores:
        """The contributions, cross-fitted."""


Candidate = TypeVar("Candidate", bound=Scored)


def choose(results: Sequence[Candidate], wanted: str = "auto") -> Candidate:
    """Return the first that no other beats cross-fitted beyond noise, or the wanted one.

    In an order from simple to complex that is the simplest.
    """
    if wanted != "auto":
        check_name("the choice", wanted, [result.name for result in results])
        return next(result for result in results if result.name == wanted)
    # There always is one: nothing beats the best.
    return next(
        result
        for result in results
        if not any(paired_difference(result.rows, other.rows).is_worse for other in results)
    )


def check_rule_name(name: str) -> str:
    """Return the name if a rule has it (or it is `auto`), else say which names there are."""
    return check_name("rule", name, ("auto", *RULES))
