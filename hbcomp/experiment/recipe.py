"""A blend as a small JSON file that can be applied to new data: names and numbers, no code."""

from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float64
from pydantic import Field, PlainSerializer, model_validator

from hbcomp.scoring.calibration import Calibration
from hbcomp.scoring.combinations import Combination
from hbcomp.scoring.decision import DecisionRule
from hbcomp.scoring.metrics import MetricSpec
from hbcomp.system.config import Section, Values, read_json, unique, validate
from hbcomp.system.files import write_text

Stack = Float64[np.ndarray, "m n k"]
# Keys that a metric does not have must not be written, or it would be refused.
ONLY_SET = PlainSerializer(
    lambda spec: spec.model_dump(mode="json", exclude_unset=True), return_type=Values
)


class BlendRecipe(Section):
    """What turns the base models' probabilities into answers: combination, calibration, rule.

    All were fitted on every labelled row; calibration and rule on the cross-fitted blends.
    """

    base_models: Annotated[tuple[str, ...], Field(min_length=1), unique("base_models")]
    method: str
    combination: Annotated[Combination, Field(discriminator="kind")]
    calibration: Annotated[Calibration, Field(discriminator="kind")]
    rule_name: str
    rule: Annotated[DecisionRule, Field(discriminator="kind")]
    fingerprints: tuple[str, ...]  # of the base models' probabilities that it was fitted on
    metric: Annotated[MetricSpec, ONLY_SET]  # under which everything was fitted and chosen

    @model_validator(mode="after")
    def _check(self) -> "BlendRecipe":
        n_base_models = len(self.base_models)
        values = self.combination.model_dump()
        # A median has neither: it combines any number.
        parts = values.get("weights", values.get("coefficients", self.base_models))
        if len(parts) != n_base_models:
            raise ValueError(f"{n_base_models} base models cannot have {len(parts)} weights")
        if len(self.fingerprints) != n_base_models:
            raise ValueError("each base model must have one of the fingerprints")
        return self

    def probs(self, stack: Stack) -> Float64[np.ndarray, "n k"]:
        """Return the calibrated blend of the base models' probabilities, given in their order."""
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
