"""Blending: from the probabilities of several base models to those of one.

On [0, 1] the abs-sum |p - y| is linear in p, so a weighted mean of raw probabilities scores the
weighted mean of its base models and never beats the best of them. A blend gains only where it
changes answers, so weights are fitted, and every method is scored and chosen, under the metric's
fixed rule, threshold 0.5 there. Convex scores such as log-loss gain from raw means, too.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64, Int, Int64
from pydantic import Field, TypeAdapter, field_validator, model_validator

from hbcomp.scoring.calibration import cross_fitted_probs, floored_log, softmax
from hbcomp.scoring.choice import fixed_rule_scores
from hbcomp.scoring.metrics import Metric
from hbcomp.scoring.paired import Difference, RowScores, paired_difference
from hbcomp.system.config import Section
from hbcomp.system.errors import InputError

Stack = Float64[np.ndarray, "m n k"]
Probs = Float64[np.ndarray, "n k"]
Labels = Int[np.ndarray, " n"]

# The mean of the base models decides between classes with as many votes. Assumed: far below any
# difference of shares that is meant, far above rounding.
TIE_BREAK = 1e-6


class _Weighted(Section):
    weights: tuple[float, ...]

    @field_validator("weights")
    @classmethod
    def _check(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if any(weight < 0 for weight in weights) or abs(sum(weights) - 1) > 1e-9:
            raise ValueError(f"weights must not be negative and sum to 1, but got {weights}")
        return weights

    def _mean(self, stack: Stack) -> Probs:
        _check_n_models(len(self.weights), stack)
        mean: Probs = np.tensordot(np.array(self.weights), stack, axes=1)
        return mean


class Arithmetic(_Weighted):
    """The weighted mean of the probabilities.

    At most 1: weights sum to 1 up to rounding, which may make a mean of ones 1.0000000000000002.
    """

    kind: Literal["arithmetic"] = "arithmetic"

    def apply(self, stack: Stack) -> Probs:
        """Return the blend; refuses another number of base models."""
        blend: Probs = np.minimum(self._mean(stack), 1.0)
        return blend


class Geometric(_Weighted):
    """The weighted mean of the log-probabilities, floored at `PROB_FLOOR`; rows sum to 1 again."""

    kind: Literal["geometric"] = "geometric"

    def apply(self, stack: Stack) -> Probs:
        """Return the blend; refuses another number of base models."""
        return softmax(self._mean(floored_log(stack)))


class Median(Section):
    """The median of the probabilities of each class; rows sum to 1 again."""

    kind: Literal["median"] = "median"

    def apply(self, stack: Stack) -> Probs:
        """Return the blend of any number of base models."""
        medians = np.median(stack, axis=0)
        totals = medians.sum(axis=1, keepdims=True)
        # All medians are 0 where each class is out for most base models: then the mean decides.
        blend: Probs = np.where(
            totals > 0, medians / np.where(totals > 0, totals, 1), stack.mean(axis=0)
        )
        return blend


class Vote(_Weighted):
    """The weighted shares of base models that find each class the most probable one.

    Between equal shares the mean of the probabilities decides, not the base models' order: it is
    mixed in with a weight of one in a million.
    """

    kind: Literal["vote"] = "vote"

    def apply(self, stack: Stack) -> Probs:
        """Return the blend; refuses another number of base models."""
        votes = np.eye(stack.shape[2])[stack.argmax(axis=2)]
        blend = (1 - TIE_BREAK) * self._mean(votes) + TIE_BREAK * self._mean(stack)
        return np.minimum(blend, 1.0)


class Stacked(Section):
    """softmax(intercept + sum over base models and classes of coefficient * log p).

    `coefficients[j][c][d]` is what the floored log-probability of class c, of base model j, adds to
    class d.
    """

    kind: Literal["stacked"] = "stacked"
    coefficients: tuple[tuple[tuple[float, ...], ...], ...]
    intercept: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> "Stacked":
        n_classes = len(self.intercept)
        if any(
            len(model) != n_classes or any(len(row) != n_classes for row in model)
            for model in self.coefficients
        ):
            raise ValueError(
                f"each base model must have {n_classes} x {n_classes} coefficients, "
                f"as there are {n_classes} intercepts"
            )
        return self

    def apply(self, stack: Stack) -> Probs:
        """Return the blend; refuses another number of base models or classes."""
        _check_n_models(len(self.coefficients), stack)
        if stack.shape[2] != len(self.intercept):
            raise InputError(
                f"a blend of {len(self.intercept)} classes cannot be applied to "
                f"{stack.shape[2]} classes"
            )
        logits = np.einsum("mnc,mcd->nd", floored_log(stack), np.array(self.coefficients))
        return softmax(logits + np.array(self.intercept))


class RankMean(_Weighted):
    """The weighted mean of each row's rank within its class, from 0 to 1; equal ones share theirs.

    For metrics that look at the order alone: how sharp each base model is has no influence. Ranks
    are among the rows that are given, and rows do not sum to 1.
    """

    kind: Literal["ranks"] = "ranks"

    def apply(self, stack: Stack) -> Probs:
        """Return the blend; refuses another number of base models."""
        from scipy.stats import rankdata  # which takes long to import

        ranks = (rankdata(stack, axis=1) - 0.5) / stack.shape[1]
        return self._mean(ranks)


Combination = Arithmetic | Geometric | Median | Vote | Stacked | RankMean
COMBINATION_ADAPTER: TypeAdapter[Combination] = TypeAdapter(
    Annotated[Combination, Field(discriminator="kind")]
)
Fit = Callable[[Stack, Labels], Combination]


def equal(n_models: int) -> tuple[float, ...]:
    """Return the same weight for each base model."""
    return (1.0 / n_models,) * n_models


def cross_fitted_blend(
    fit: Fit, stack: Stack, labels: Labels, fold_of_row: Int[np.ndarray, " n"]
) -> Probs:
    """Return each row's blend by the combination that was fitted on the other folds."""
    return cross_fitted_probs(fit, stack, labels, fold_of_row)


def leave_one_out(
    metric: Metric, fit: Fit, stack: Stack, labels: Labels, fold_of_row: Int[np.ndarray, " n"]
) -> list[Difference]:
    """Return for each base model how much higher the blend scores when refitted without it.

    Cross-fitted, under the fixed rule; where the difference is worse the base model helps.
    """
    if len(stack) < 2:
        raise InputError("one of two or more base models can be left out, but there is one")

    def scores(some: Stack) -> RowScores:
        blend = cross_fitted_blend(fit, some, labels, fold_of_row)
        return fixed_rule_scores(metric, blend, labels)

    whole = scores(stack)
    return [
        paired_difference(scores(np.delete(stack, place, axis=0)), whole)
        for place in range(len(stack))
    ]


def disagreement(stack: Stack) -> Float64[np.ndarray, "m m"]:
    """Return the share of rows on which the most probable class of two base models differs."""
    predicted = stack.argmax(axis=2)
    return np.array([(predicted != of_model).mean(axis=1) for of_model in predicted])


def repairs(stack: Stack, labels: Labels) -> Int64[np.ndarray, "m m"]:
    """Return the number of rows that base model i gets wrong and j right, at (i, j).

    A row is right if its true class is the most probable one.
    """
    is_right = stack.argmax(axis=2) == labels
    return np.array([(is_right & ~of_model).sum(axis=1) for of_model in is_right])


def _check_n_models(n_models: int, stack: Stack) -> None:
    if len(stack) != n_models:
        raise InputError(f"a blend of {n_models} base models cannot be applied to {len(stack)}")
