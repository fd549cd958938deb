"""The best blend of some members under the decision rules: pure, from probabilities to numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from hbcomp.blending.members import Members
from hbcomp.blending.methods import METHODS, MethodResult, evaluate_methods
from hbcomp.experiment.predictions import Predictions
from hbcomp.scoring.blending import Combination, half_costs, leave_one_out
from hbcomp.scoring.calibration import CALIBRATIONS, Calibration, cross_fitted_probs, log_loss
from hbcomp.scoring.choice import RuleResult, choose, evaluate_rules
from hbcomp.scoring.metrics import Score, score_of
from hbcomp.scoring.paired import Difference, paired_difference
from hbcomp.scoring.transfer import choose_safe_rule
from hbcomp.system.errors import InputError


@dataclass(frozen=True)
class BlendWish:
    """What is asked of a blend: `auto`, or a choice by name."""

    method: str = "auto"
    calibration: str = "auto"
    rule: str = "auto"
    seed: int = 0  # of what draws numbers: Optuna


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """One calibration of the blend: fitted on all rows, and what it makes of held-out ones."""

    name: str
    calibration: Calibration
    probs: Float64[np.ndarray, "n k"]  # cross-fitted
    costs: Float64[np.ndarray, " n"]  # of these under rule half
    log_loss: float  # of these

    @property
    def cross_fitted(self) -> Score:
        """The score of the cross-fitted probabilities under rule half."""
        return score_of(self.costs)


@dataclass(frozen=True, eq=False)
class Single:
    """A member by itself, under the rule that would be chosen for it."""

    name: str
    rule: str
    half: Score
    costs: Float64[np.ndarray, " n"]  # cross-fitted

    @property
    def cross_fitted(self) -> Score:
        """The score under its rule."""
        return score_of(self.costs)


@dataclass(frozen=True, eq=False)
class Blended:
    """Everything that was compared, and what was chosen."""

    members: Members
    methods: list[MethodResult]
    method: MethodResult
    calibrations: list[CalibrationResult]
    calibration: CalibrationResult
    rules: list[RuleResult]
    rule: RuleResult
    singles: list[Single]
    without: list[Difference]  # what the blend costs more without each member
    selected: tuple[str, ...]  # what was fitted or chosen by these rows

    @property
    def predictions(self) -> Predictions:
        """The blend's probabilities: cross-fitted ones of train rows, of the final fit on test."""
        test = self.calibration.calibration.apply(self.method.combination.apply(self.members.test))
        first = self.members.first
        return replace(first, oof_probs=self.calibration.probs, test_probs=test)

    @property
    def best_single(self) -> Single:
        """The cheapest member under its own rule."""
        return min(self.singles, key=lambda single: single.cross_fitted.total)

    @property
    def against_best_single(self) -> Difference:
        """How much more the blend costs than the best member, both cross-fitted."""
        return paired_difference(self.rule.costs, self.best_single.costs)


def blend(members: Members, wish: BlendWish) -> Blended:
    """Return the blend that was asked for, each choice made on cross-fitted costs.

    `auto` takes the simplest method, calibration and rule that no other beats by two paired
    standard errors; of the rules only those whose gain the test rows can keep.

    Two things the cross-fitted score does not count: the choice among them, made on the same
    rows; and that calibration and rule are fitted for a fold on blends of the other folds, whose
    weights had seen its labels. Both are small where rows are many and weights few.
    """
    oof, labels, fold_of_row = members.oof, members.labels, members.fold_of_row
    methods = evaluate_methods(_names(members, wish.method), oof, labels, fold_of_row, wish.seed)
    method = choose(methods, wish.method)
    calibrations = _calibrations(method.probs, members)
    calibration = choose(calibrations, wish.calibration)
    rules = evaluate_rules(calibration.probs, labels, fold_of_row)
    test = calibration.calibration.apply(method.combination.apply(members.test))
    rule = choose_safe_rule(rules, calibration.probs, test, wish.rule)
    return Blended(
        members=members,
        methods=methods,
        method=method,
        calibrations=calibrations,
        calibration=calibration,
        rules=rules,
        rule=rule,
        singles=[_single(name, each) for name, each in members.predictions.items()],
        without=_without(members, method, wish.seed),
        selected=_selected(wish, method, methods),
    )


def _selected(
    wish: BlendWish, method: MethodResult, methods: Sequence[MethodResult]
) -> tuple[str, ...]:
    """Return what of the blend was fitted or chosen by the rows it is scored on."""
    found = {
        "weights": METHODS[method.name].is_fitted,
        "method": wish.method == "auto" and len(methods) > 1,
        "calibration": wish.calibration == "auto",
        "rule": wish.rule == "auto",
    }
    return tuple(name for name, is_selected in found.items() if is_selected)


def _names(members: Members, wanted: str) -> Sequence[str]:
    """Return the methods to compare.

    Over different folds only those without fitted weights are left:
    with the same folds, the nets that predict a held-out fold predicted no row that its weights
    were fitted on, so it is scored as new rows by new nets. Over different folds they did, as
    do the nets of a member's further seeds, which is accepted: no row's own label is seen.
    """
    if members.has_same_folds:
        return tuple(METHODS)
    if wanted != "auto" and METHODS[wanted].is_fitted:
        fixed = ", ".join(name for name, method in METHODS.items() if not method.is_fitted)
        raise InputError(
            f"method {wanted} fits weights, so the members must have the same folds; over "
            f"different ones there are: {fixed}"
        )
    return tuple(name for name, method in METHODS.items() if not method.is_fitted)


def _calibrations(probs: Float64[np.ndarray, "n k"], members: Members) -> list[CalibrationResult]:
    labels, results = members.labels, []
    for name, fit in CALIBRATIONS.items():
        honest = cross_fitted_probs(fit, probs, labels, members.fold_of_row)
        costs = half_costs(honest, labels)
        results.append(
            CalibrationResult(name, fit(probs, labels), honest, costs, log_loss(honest, labels))
        )
    return results


def _single(name: str, predictions: Predictions) -> Single:
    rules = evaluate_rules(predictions.oof_probs, predictions.labels, predictions.fold_of_row)
    chosen = choose_safe_rule(rules, predictions.oof_probs, predictions.test_probs)
    half = next(rule for rule in rules if rule.name == "half")
    return Single(name, chosen.name, half.cross_fitted, chosen.costs)


def _without(members: Members, method: MethodResult, seed: int) -> list[Difference]:
    def fit(stack: Float64[np.ndarray, "m n k"], labels: np.ndarray) -> Combination:
        return METHODS[method.name].fit(stack, labels, seed)

    return leave_one_out(fit, members.oof, members.labels, members.fold_of_row)
