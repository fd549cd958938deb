"""The base models of a blend: finished experiments whose probabilities are combined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from hbcomp.experiment.folder import find_run
from hbcomp.experiment.predictions import Predictions, check_aligned, have_same_folds
from hbcomp.system.errors import InputError


@dataclass(frozen=True, eq=False)
class BaseModels:
    """Predictions of the same rows, by the name of the experiment, in the order given."""

    predictions: Mapping[str, Predictions]

    @property
    def names(self) -> tuple[str, ...]:
        """The base models' names."""
        return tuple(self.predictions)

    @property
    def first(self) -> Predictions:
        """The base model whose ids, labels and folds stand for all."""
        return next(iter(self.predictions.values()))

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The true classes of the train rows."""
        return self.first.labels

    @property
    def fold_of_row(self) -> Int64[np.ndarray, " n"]:
        """The first base model's folds, over which the blend is cross-fitted."""
        return self.first.fold_of_row

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """A hash of each base model's probabilities."""
        return tuple(each.fingerprint for each in self.predictions.values())

    @property
    def has_same_folds(self) -> bool:
        """Whether the first seeds of all base models have these folds; others are not compared."""
        return have_same_folds(self.predictions)

    @property
    def oof(self) -> Float64[np.ndarray, "m n k"]:
        """The out-of-fold probabilities of all base models."""
        return np.stack([each.oof_probs for each in self.predictions.values()])

    @property
    def test(self) -> Float64[np.ndarray, "m n k"]:
        """The test probabilities of all base models; no rows where there is no test file."""
        return np.stack([each.test_probs for each in self.predictions.values()])


def load_base_models(names: Sequence[str]) -> BaseModels:
    """Return the experiments of these names; an InputError says why they cannot be blended.

    All must be finished and made on the same train and test rows, and none may be a blend.
    """
    runs = [find_run(name) for name in names]
    names = [run.name for run in runs]
    if len(names) < 2:
        raise InputError(
            f"a blend combines two experiments or more, but got {', '.join(names)} alone"
        )
    problems = [
        f"{name} is named {names.count(name)} times"
        for name in sorted({*names})
        if names.count(name) > 1
    ]
    problems += [
        f"{run.name} is a blend; name its base models instead"
        for run in runs
        if run.recipe_file.exists()
    ]
    if problems:
        raise InputError.of("base models", problems)
    predictions = {run.name: Predictions.load(run.predictions_file) for run in runs}
    check_aligned(predictions)
    return BaseModels(predictions)
