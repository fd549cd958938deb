"""Which decision rule to ship: every candidate cross-fitted, the simplest unbeaten one chosen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int

from hbcomp.scoring.decision import ArgMax, Clip, DecisionRule, Half, Raw
from hbcomp.scoring.metrics import Score, abs_sum, row_costs, score_of
from hbcomp.scoring.paired import paired_difference
from hbcomp.scoring.thresholds import fit_clip, fit_clip_per_class
from hbcomp.system.errors import check_name

Fitter = Callable[[Float[np.ndarray, "n k"], Int[np.ndarray, " n"]], DecisionRule]


def _fixed(rule: DecisionRule) -> Fitter:
    return lambda _probs, _labels: rule


# From simple to complex. Of the three rules without a parameter `half` comes first, because it
# is optimal for calibrated probabilities, and `raw` last, because averaging nets softens the
# test probabilities, which makes raw answers dearer on the test rows than out of fold.
CANDIDATES: Mapping[str, Fitter] = {
    "half": _fixed(Half()),
    "argmax": _fixed(ArgMax()),
    "raw": _fixed(Raw()),
    "clip 0.1/0.9": _fixed(Clip(lo=0.1, hi=0.9)),  # the reference solution's rule
    "tuned": fit_clip,
    "tuned per class": fit_clip_per_class,
}


@dataclass(frozen=True)
class RuleResult:
    """One rule on out-of-fold probabilities: fitted on all rows, and scored both ways.

    `costs` are cross-fitted: the rule that answers a row was fitted without the row's fold.
    """

    name: str
    rule: DecisionRule
    in_sample: Score
    costs: Float64[np.ndarray, " n"]

    @property
    def cross_fitted(self) -> Score:
        """The honest score: no row was answered by a rule that had seen it."""
        return score_of(self.costs)


def cross_fitted_answers(
    fit: Fitter,
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    fold_of_row: Int[np.ndarray, " n"],
) -> Float64[np.ndarray, "n k"]:
    """Return each row's answers under the rule fitted on the other folds."""
    answers = np.empty(probs.shape)
    for fold in np.unique(fold_of_row):
        is_held_out = fold_of_row == fold
        rule = fit(probs[~is_held_out], labels[~is_held_out])
        answers[is_held_out] = rule.apply(probs[is_held_out])
    return answers


def cross_fitted_costs(
    fit: Fitter,
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    fold_of_row: Int[np.ndarray, " n"],
) -> Float64[np.ndarray, " n"]:
    """Return each row's cost under the rule fitted on the other folds."""
    return row_costs(cross_fitted_answers(fit, probs, labels, fold_of_row), labels)


def evaluate_rules(
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    fold_of_row: Int[np.ndarray, " n"],
) -> list[RuleResult]:
    """Return every candidate with its in-sample and its cross-fitted score, simple ones first."""
    results = []
    for name, fit in CANDIDATES.items():
        rule = fit(probs, labels)
        in_sample = abs_sum(rule.apply(probs), labels)
        costs = cross_fitted_costs(fit, probs, labels, fold_of_row)
        results.append(RuleResult(name, rule, in_sample, costs))
    return results


@runtime_checkable  # the tests check types as they run
class Scored(Protocol):
    """One of several ways, by its name, and what it costs each row cross-fitted."""

    @property
    def name(self) -> str:
        """What it is asked for by."""

    @property
    def costs(self) -> Float64[np.ndarray, " n"]:
        """The cost of each row."""


Way = TypeVar("Way", bound=Scored)


def choose(results: Sequence[Way], wanted: str = "auto") -> Way:
    """Return the first that no other beats cross-fitted beyond noise, or the wanted one.

    In an order from simple to complex that is the simplest.
    """
    if wanted != "auto":
        return next(result for result in results if result.name == wanted)
    # There always is one: nothing beats the cheapest.
    return next(
        result
        for result in results
        if not any(paired_difference(result.costs, other.costs).is_worse for other in results)
    )


def check_rule_name(name: str) -> str:
    """Return the name if a candidate has it (or it is `auto`), else say which names there are."""
    return check_name("rule", name, ("auto", *CANDIDATES))
