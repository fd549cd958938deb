"""A blend as a small JSON file that can be applied to new data: names and numbers, no code."""

from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float64
from pydantic import Field, model_validator

from hbcomp.scoring.blending import Combination
from hbcomp.scoring.calibration import Calibration
from hbcomp.scoring.decision import DecisionRule
from hbcomp.system.config import Section, read_json, unique, validate
from hbcomp.system.files import write_text

Stack = Float64[np.ndarray, "m n k"]


class BlendRecipe(Section):
    """What turns the members' probabilities into answers: combination, calibration, rule.

    All were fitted on every labelled row, calibration and rule on the cross-fitted blends of
    them.
    """

    members: Annotated[tuple[str, ...], Field(min_length=1), unique("members")]
    method: str
    combination: Annotated[Combination, Field(discriminator="kind")]
    calibration: Annotated[Calibration, Field(discriminator="kind")]
    rule_name: str
    rule: Annotated[DecisionRule, Field(discriminator="kind")]
    member_fingerprints: tuple[str, ...]  # of the probabilities that it was fitted on

    @model_validator(mode="after")
    def _check(self) -> "BlendRecipe":
        values = self.combination.model_dump()
        # A median has neither: it combines any number.
        parts = values.get("weights", values.get("coefficients", self.members))
        if len(parts) != len(self.members):
            raise ValueError(f"{len(self.members)} members cannot have {len(parts)} weights")
        if len(self.member_fingerprints) != len(self.members):
            raise ValueError("there must be one of member_fingerprints for each member")
        return self

    def probs(self, stack: Stack) -> Float64[np.ndarray, "n k"]:
        """Return the blended, calibrated probabilities of the members' ones, in their order."""
        return self.calibration.apply(self.combination.apply(stack))

    def answers(self, stack: Stack) -> Float64[np.ndarray, "n k"]:
        """Return what is submitted."""
        return self.rule.apply(self.probs(stack))


def write_recipe(path: Path, recipe: BlendRecipe) -> None:
    """Write a recipe atomically."""
    write_text(path, recipe.model_dump_json(indent=2) + "\n")


def read_recipe(path: Path) -> BlendRecipe:
    """Return the recipe in a file; whatever is wrong with it is one InputError."""
    return validate(BlendRecipe, read_json(path, "recipe", "is it a blend?"), path)
