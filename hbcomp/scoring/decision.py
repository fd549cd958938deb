"""Decision rules: from probabilities to the answers that are submitted.

The score |answer - onehot| is linear in the answer, so a soft probability pays for its doubt.
With calibrated q the best answer per element is 1 if q > 0.5 else 0.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Shaped
from pydantic import Field, field_validator, model_validator

from hbcomp.scoring.calibration import Temperature, VectorScaling
from hbcomp.system.config import Section
from hbcomp.system.errors import InputError

Probs = Float[np.ndarray, "n k"]
Answers = Float64[np.ndarray, "n k"]


class Raw(Section):
    """The probabilities as they are."""

    kind: Literal["raw"] = "raw"

    def apply(self, probs: Probs) -> Answers:
        """Return the probabilities in double precision."""
        return probs.astype(np.float64)


class Half(Section):
    """1 where the probability exceeds one half, 0 elsewhere; a row may be all zeros."""

    kind: Literal["half"] = "half"

    def apply(self, probs: Probs) -> Answers:
        """Return zeros and ones; an all-zero row costs 1, a wrong one-hot row 2."""
        return (probs > 0.5).astype(np.float64)


class ArgMax(Section):
    """One-hot of the most probable class (the first of equals)."""

    kind: Literal["argmax"] = "argmax"

    def apply(self, probs: Probs) -> Answers:
        """Return one-hot rows."""
        answers: Answers = np.eye(probs.shape[1])[probs.argmax(axis=1)]
        return answers


class Clip(Section):
    """0 below `lo`, 1 above `hi`, and the probability itself on [lo, hi].

    A threshold outside [0, 1] means none or all, e.g. `lo = 1.5` sets everything to 0.
    """

    kind: Literal["clip"] = "clip"
    lo: float
    hi: float

    @model_validator(mode="after")
    def _check(self) -> "Clip":
        _check_order((self.lo,), (self.hi,))
        return self

    def apply(self, probs: Probs) -> Answers:
        """Return the clipped probabilities; rows no longer sum to 1."""
        return _clip(probs, np.array(self.lo), np.array(self.hi))


class ClipPerClass(Section):
    """`Clip` with thresholds of its own for each class."""

    kind: Literal["clip per class"] = "clip per class"
    lo: tuple[float, ...]
    hi: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> "ClipPerClass":
        if len(self.lo) != len(self.hi):
            raise ValueError(
                f"lo and hi must be as many, but got {len(self.lo)} and {len(self.hi)}"
            )
        _check_order(self.lo, self.hi)
        return self

    def apply(self, probs: Probs) -> Answers:
        """Return the clipped probabilities; refuses another number of classes."""
        _check_n_classes(len(self.lo), probs)
        return _clip(probs, np.array(self.lo), np.array(self.hi))


class ClassWeights(Section):
    """One-hot of the class with the largest weight * probability (the first of equals)."""

    kind: Literal["class weights"] = "class weights"
    weights: tuple[float, ...]

    @field_validator("weights")
    @classmethod
    def _check(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if not all(weight > 0 for weight in weights):
            raise ValueError(f"class weights must be above 0, but got {weights}")
        return weights

    def apply(self, probs: Probs) -> Answers:
        """Return one-hot rows; refuses another number of classes."""
        _check_n_classes(len(self.weights), probs)
        return ArgMax().apply(probs * np.array(self.weights))


class LeastCost(Section):
    """One-hot of the class whose expected cost is least; `costs[i][j]` is of i predicted as j."""

    kind: Literal["least cost"] = "least cost"
    costs: tuple[tuple[float, ...], ...]

    def apply(self, probs: Probs) -> Answers:
        """Return one-hot rows; refuses another number of classes."""
        _check_n_classes(len(self.costs), probs)
        return ArgMax().apply(-(probs @ np.array(self.costs)))


class Floor(Section):
    """The probabilities raised to at least `least`, then scaled to sum to 1 again."""

    kind: Literal["floor"] = "floor"
    least: float = Field(ge=0, lt=1)

    def apply(self, probs: Probs) -> Answers:
        """Return rows that sum to 1."""
        raised = np.maximum(probs.astype(np.float64), self.least)
        answers: Answers = raised / raised.sum(axis=1, keepdims=True)
        return answers


DecisionRule = (
    Raw
    | Half
    | ArgMax
    | Clip
    | ClipPerClass
    | ClassWeights
    | LeastCost
    | Floor
    | Temperature
    | VectorScaling
)


def most_likely(
    classes: Shaped[np.ndarray, " k"], answers: Answers, probs: Probs
) -> Shaped[np.ndarray, " n"]:
    """Return the class with the largest answer of each row, the more probable one of equals."""
    is_largest = answers == answers.max(axis=1, keepdims=True, initial=0.0)
    found: np.ndarray = classes[np.where(is_largest, probs, -1.0).argmax(axis=1)]
    return found


def _check_n_classes(n_classes: int, probs: Probs) -> None:
    if probs.shape[1] != n_classes:
        raise InputError(
            f"a rule for {n_classes} classes cannot answer for {probs.shape[1]} classes"
        )


def _check_order(lows: tuple[float, ...], highs: tuple[float, ...]) -> None:
    for lo, hi in zip(lows, highs, strict=True):
        if not lo <= hi:
            raise ValueError(f"lo <= hi must hold, but got (lo={lo}, hi={hi})")


def _clip(probs: Probs, lo: np.ndarray, hi: np.ndarray) -> Answers:
    wide = probs.astype(np.float64)
    return np.where(wide < lo, 0.0, np.where(wide > hi, 1.0, wide))
