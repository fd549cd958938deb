"""The best blend of some base models: from probabilities to choices and numbers, no files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64

from hbcomp.blending.base_models import BaseModels
from hbcomp.blending.methods import METHODS, CrossFitted, MethodResult, evaluate_methods
from hbcomp.experiment.predictions import Predictions
from hbcomp.scoring.calibration import CALIBRATIONS, Calibration, cross_fitted_probs, log_loss
from hbcomp.scoring.choice import RuleResult, choose, evaluate_rules, fixed_rule_scores
from hbcomp.scoring.combinations import leave_one_out
from hbcomp.scoring.metrics import Metric, describe_metric
from hbcomp.scoring.paired import Difference, paired_difference
from hbcomp.scoring.transfer import choose_accepted_rule
from hbcomp.system.errors import InputError

Probs = Float64[np.ndarray, "n k"]


@dataclass(frozen=True)
class BlendOptions:
    """How to blend: each choice by name, or `auto`."""

    method: str = "auto"
    calibration: str = "auto"
    rule: str = "auto"
    seed: int = 0  # of Optuna's draws


@dataclass(frozen=True, eq=False)
class CalibrationResult(CrossFitted):
    """One calibration of the blend, fitted on all rows and scored under the fixed rule."""

    calibration: Calibration
    probs: Probs  # cross-fitted
    log_loss: float  # of these


@dataclass(frozen=True, eq=False)
class BaseModelResult(CrossFitted):
    """A base model by itself, scored under the rule that would be chosen for it."""

    rule: str
    under_fixed_rule: float


@dataclass(frozen=True, eq=False)
class Blended:
    """Everything that was compared, and what was chosen."""

    base_models: BaseModels
    methods: list[MethodResult]
    method: MethodResult
    calibrations: list[CalibrationResult]
    calibration: CalibrationResult
    rules: list[RuleResult]
    rule: RuleResult
    test_probs: Probs  # by what was fitted on all rows
    test_probs_of_fold: Float32[np.ndarray, "f s k"] | None
    alone: list[BaseModelResult]  # each base model, in their order
    without: list[Difference]  # how much higher the blend scores without each of them
    selected: tuple[str, ...]  # what was fitted or chosen by these rows

    @property
    def predictions(self) -> Predictions:
        """The blend's probabilities: cross-fitted ones of train rows, of the final fit on test."""
        first = self.base_models.first
        return replace(
            first,
            oof_probs=self.calibration.probs,
            test_probs=self.test_probs,
            test_probs_of_fold=self.test_probs_of_fold,
        )

    @property
    def best_base_model(self) -> BaseModelResult:
        """The base model that scores best under its own rule."""
        best = max if self.base_models.metric.greater_is_better else min
        return best(self.alone, key=lambda each: each.cross_fitted)

    @property
    def against_best_base_model(self) -> Difference:
        """How much higher the blend scores than the best base model, both cross-fitted."""
        return paired_difference(self.rule.rows, self.best_base_model.rows)


def blend(base_models: BaseModels, options: BlendOptions) -> Blended:
    """Return the blend that was asked for, each choice made on cross-fitted scores.

    `auto` takes the simplest method, calibration and rule that no other beats by two paired
    standard errors; of the rules only those whose gain the test rows can keep.

    The cross-fitted score does not count two things: the choice among them, made on the same
    rows; and that calibration and rule are fitted for a fold on blends of the other folds, whose
    weights had seen its labels. Both are small where rows are many and weights few.
    """
    metric, oof = base_models.metric, base_models.oof
    labels, fold_of_row = base_models.labels, base_models.fold_of_row
    names = _method_names(base_models, options.method)
    methods = evaluate_methods(names, metric, oof, labels, fold_of_row, options.seed)
    method = choose(methods, options.method)
    calibrations = _calibrations(method.probs, base_models)
    calibration = choose(calibrations, options.calibration)

    def combined(stack: Float64[np.ndarray, "m n k"]) -> Probs:
        return calibration.calibration.apply(method.combination.apply(stack))

    test, of_folds = combined(base_models.test), base_models.test_of_folds
    rules = evaluate_rules(metric, calibration.probs, labels, fold_of_row)
    fit = METHODS[method.name].fit_to(metric, options.seed)
    return Blended(
        base_models=base_models,
        methods=methods,
        method=method,
        calibrations=calibrations,
        calibration=calibration,
        rules=rules,
        rule=choose_accepted_rule(metric, rules, calibration.probs, test, options.rule),
        test_probs=test,
        test_probs_of_fold=(
            np.stack([combined(stack) for stack in of_folds]).astype(np.float32)
            if of_folds
            else None
        ),
        alone=[_alone(name, metric, each) for name, each in base_models.predictions.items()],
        without=leave_one_out(metric, fit, oof, labels, fold_of_row),
        selected=_selected(options, method, methods, rules),
    )


def _selected(
    options: BlendOptions,
    method: MethodResult,
    methods: Sequence[MethodResult],
    rules: Sequence[RuleResult],
) -> tuple[str, ...]:
    """Return what of the blend was fitted or chosen by the rows it is scored on."""
    found = {
        "weights": METHODS[method.name].is_fitted,
        "method": options.method == "auto" and len(methods) > 1,
        "calibration": options.calibration == "auto",
        "rule": options.rule == "auto" and len(rules) > 1,
    }
    return tuple(name for name, is_selected in found.items() if is_selected)


def _method_names(base_models: BaseModels, wanted: str) -> Sequence[str]:
    """Return the methods that suit the metric; over different folds those without fitted weights.

    With the same folds, the nets that predict a held-out fold predicted no row that its weights
    were fitted on, so it is scored as new rows by new nets. Over different folds they did, as
    do the nets of a base model's further seeds, which is accepted: no row's own label is seen.
    """
    metric = base_models.metric
    suitable = tuple(name for name, method in METHODS.items() if method.suits(metric))
    if wanted not in ("auto", *suitable):
        raise InputError(
            f"method {wanted} is for areas under the ROC curve; for {describe_metric(metric)} "
            f"there are: {', '.join(suitable)}"
        )
    if base_models.has_same_folds:
        return suitable
    fixed = tuple(name for name in suitable if not METHODS[name].is_fitted)
    if wanted not in ("auto", *fixed):
        raise InputError(
            f"method {wanted} fits weights, so the base models must have the same folds; over "
            f"different ones there are: {', '.join(fixed)}"
        )
    return fixed


def _calibrations(probs: Probs, base_models: BaseModels) -> list[CalibrationResult]:
    metric, labels, results = base_models.metric, base_models.labels, []
    for name, fit in CALIBRATIONS.items():
        calibrated = cross_fitted_probs(fit, probs, labels, base_models.fold_of_row)
        rows, loss = fixed_rule_scores(metric, calibrated, labels), log_loss(calibrated, labels)
        results.append(CalibrationResult(name, rows, fit(probs, labels), calibrated, loss))
    return results


def _alone(name: str, metric: Metric, predictions: Predictions) -> BaseModelResult:
    oof, test = predictions.oof_probs, predictions.test_probs
    rules = evaluate_rules(metric, oof, predictions.labels, predictions.fold_of_row)
    chosen = choose_accepted_rule(metric, rules, oof, test)
    return BaseModelResult(name, chosen.rows, chosen.name, rules[0].cross_fitted)
