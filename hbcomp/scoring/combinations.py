"""Blending: from the probabilities of several members to those of one, scored by rule `half`.

On [0, 1] the score |p - y| is linear in p, so a weighted mean of raw probabilities scores the
weighted mean of its members and never beats the best of them. A blend gains only where it turns
answers, so weights are fitted, and every method is scored and chosen, under the rule.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64, Int, Int64
from pydantic import Field, TypeAdapter, field_validator, model_validator

from hbcomp.scoring.calibration import cross_fitted_probs, floored_log, softmax
from hbcomp.scoring.decision import Half
from hbcomp.scoring.metrics import row_costs
from hbcomp.scoring.paired import Difference, paired_difference
from hbcomp.system.config import Section
from hbcomp.system.errors import InputError

Stack = Float64[np.ndarray, "m n k"]
Probs = Float64[np.ndarray, "n k"]
Labels = Int[np.ndarray, " n"]

# The members' mean decides between classes with as many votes. Assumed: far below any
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
        _check_members(len(self.weights), stack)
        mean: Probs = np.tensordot(np.array(self.weights), stack, axes=1)
        return mean


class Arithmetic(_Weighted):
    """The weighted mean of the probabilities.

    At most 1: weights sum to 1 up to rounding, which may make a mean of ones 1.0000000000000002.
    """

    kind: Literal["arithmetic"] = "arithmetic"

    def apply(self, stack: Stack) -> Probs:
        """Return the blend; refuses another number of members."""
        blend: Probs = np.minimum(self._mean(stack), 1.0)
        return blend


class Geometric(_Weighted):
    """The weighted mean of the log-probabilities, floored at `PROB_FLOOR`; rows sum to 1 again."""

    kind: Literal["geometric"] = "geometric"

    def apply(self, stack: Stack) -> Probs:
        """Return the blend; refuses another number of members."""
        return softmax(self._mean(floored_log(stack)))


class Median(Section):
    """The median of the probabilities of each class; rows sum to 1 again."""

    kind: Literal["median"] = "median"

    def apply(self, stack: Stack) -> Probs:
        """Return the blend of any number of members."""
        medians = np.median(stack, axis=0)
        totals = medians.sum(axis=1, keepdims=True)
        # All medians are 0 where each class is out for most members: then the mean decides.
        blend: Probs = np.where(
            totals > 0, medians / np.where(totals > 0, totals, 1), stack.mean(axis=0)
        )
        return blend


class Vote(_Weighted):
    """The weighted shares of members that find each class the most probable one.

    Between equal shares the mean of the probabilities decides, not the members' order: it is
    mixed in with a weight of one in a million.
    """

    kind: Literal["vote"] = "vote"

    def apply(self, stack: Stack) -> Probs:
        """Return the blend; refuses another number of members."""
        votes = np.eye(stack.shape[2])[stack.argmax(axis=2)]
        blend = (1 - TIE_BREAK) * self._mean(votes) + TIE_BREAK * self._mean(stack)
        return np.minimum(blend, 1.0)


class Stacked(Section):
    """softmax(intercept + sum over members and classes of coefficient * log p).

    `coefficients[j][c][d]` is what member j's floored log-probability of class c adds to class d.
    """

    kind: Literal["stacked"] = "stacked"
    coefficients: tuple[tuple[tuple[float, ...], ...], ...]
    intercept: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> "Stacked":
        n_classes = len(self.intercept)
        if any(
            len(member) != n_classes or any(len(row) != n_classes for row in member)
            for member in self.coefficients
        ):
            raise ValueError(
                f"each member must have {n_classes} x {n_classes} coefficients, "
                f"as there are {n_classes} intercepts"
            )
        return self

    def apply(self, stack: Stack) -> Probs:
        """Return the blend; refuses another number of members or classes."""
        _check_members(len(self.coefficients), stack)
        if stack.shape[2] != len(self.intercept):
            raise InputError(
                f"a blend of {len(self.intercept)} classes cannot be applied to "
                f"{stack.shape[2]} classes"
            )
        logits = np.einsum("mnc,mcd->nd", floored_log(stack), np.array(self.coefficients))
        return softmax(logits + np.array(self.intercept))


Combination = Arithmetic | Geometric | Median | Vote | Stacked
COMBINATION_ADAPTER: TypeAdapter[Combination] = TypeAdapter(
    Annotated[Combination, Field(discriminator="kind")]
)
Fit = Callable[[Stack, Labels], Combination]


def equal(n_members: int) -> tuple[float, ...]:
    """Return the same weight for each member."""
    return (1.0 / n_members,) * n_members


def half_costs(probs: Probs, labels: Labels) -> Float64[np.ndarray, " n"]:
    """Return what each row costs when it is answered by rule `half`."""
    return row_costs(Half().apply(probs), labels)


def cross_fitted_blend(
    fit: Fit, stack: Stack, labels: Labels, fold_of_row: Int[np.ndarray, " n"]
) -> Probs:
    """Return each row's blend by the combination that was fitted on the other folds."""
    return cross_fitted_probs(fit, stack, labels, fold_of_row)


def leave_one_out(
    fit: Fit, stack: Stack, labels: Labels, fold_of_row: Int[np.ndarray, " n"]
) -> list[Difference]:
    """Return for each member what the blend costs more when refitted without it.

    Per 20k rows, cross-fitted, under rule `half`; a positive difference means the member helps.
    """
    if len(stack) < 2:
        raise InputError("a member can be left out of two or more, but there is one")
    whole = half_costs(cross_fitted_blend(fit, stack, labels, fold_of_row), labels)
    differences = []
    for member in range(len(stack)):
        rest = cross_fitted_blend(fit, np.delete(stack, member, axis=0), labels, fold_of_row)
        differences.append(paired_difference(half_costs(rest, labels), whole))
    return differences


def disagreement(stack: Stack) -> Float64[np.ndarray, "m m"]:
    """Return the share of rows on which two members find different classes the most probable."""
    called = stack.argmax(axis=2)
    return np.array([(called != of_member).mean(axis=1) for of_member in called])


def repairs(stack: Stack, labels: Labels) -> Int64[np.ndarray, "m m"]:
    """Return the number of rows that member i gets wrong and member j right, at (i, j).

    A row is right if its true class is the most probable one.
    """
    is_right = stack.argmax(axis=2) == labels
    return np.array([(is_right & ~of_member).sum(axis=1) for of_member in is_right])


def _check_members(n_members: int, stack: Stack) -> None:
    if len(stack) != n_members:
        raise InputError(f"a blend of {n_members} members cannot be applied to {len(stack)}")
