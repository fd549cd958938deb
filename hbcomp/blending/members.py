"""The members of a blend: finished experiments whose probabilities are combined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.predictions import Predictions, check_aligned, have_same_folds
from hbcomp.system.errors import InputError


@dataclass(frozen=True, eq=False)
class Members:
    """Predictions of the same rows, by the name of the experiment, in the order given."""

    predictions: Mapping[str, Predictions]

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names."""
        return tuple(self.predictions)

    @property
    def first(self) -> Predictions:
        """The member whose ids, labels and folds stand for all."""
        return next(iter(self.predictions.values()))

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The true classes of the train rows."""
        return self.first.labels

    @property
    def fold_of_row(self) -> Int64[np.ndarray, " n"]:
        """The first member's folds, over which the blend is cross-fitted."""
        return self.first.fold_of_row

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """A hash of each member's probabilities."""
        return tuple(each.fingerprint for each in self.predictions.values())

    @property
    def has_same_folds(self) -> bool:
        """Whether every member was cross-validated over these folds, with its first seed.

        The splits of further seeds differ and are not counted.
        """
        return have_same_folds(self.predictions)

    @property
    def oof(self) -> Float64[np.ndarray, "m n k"]:
        """The out-of-fold probabilities of all members."""
        return self._stack(lambda each: each.oof_probs)

    @property
    def test(self) -> Float64[np.ndarray, "m n k"]:
        """The test probabilities of all members; no rows where there is no test file."""
        return self._stack(lambda each: each.test_probs)

    def _stack(
        self, part: Callable[[Predictions], Float64[np.ndarray, "n k"]]
    ) -> Float64[np.ndarray, "m n k"]:
        return np.stack([part(each) for each in self.predictions.values()])


def load_members(names: Sequence[str]) -> Members:
    """Return the members of these names; what cannot be blended together is an InputError.

    All must have finished, on the same train and test beats; a blend is no member.
    """
    runs = [find_run(name) for name in names]
    _check(runs)
    members = Members({run.name: Predictions.load(run.predictions_file) for run in runs})
    check_aligned(members.predictions)
    return members


def _check(runs: Sequence[RunFolder]) -> None:
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
        f"{run.name} is a blend; name its members instead"
        for run in runs
        if run.recipe_file.exists()
    ]
    if problems:
        raise InputError.of("members", problems)
