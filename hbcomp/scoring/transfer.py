"""Are the test rows' probabilities like the out-of-fold ones, and which rules survive if not?

An out-of-fold row is answered by one net, a test row by the mean of all nets. A mean is smoother:
fewer probabilities near 0 and 1, so a threshold fitted out of fold cuts elsewhere on the test rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from hbcomp.scoring.choice import RuleResult, choose
from hbcomp.scoring.decision import ArgMax, DecisionRule, Half
from hbcomp.scoring.metrics import ROWS_OF_THE_LEADERBOARD
from hbcomp.scoring.paired import Difference, is_beyond_noise, paired_difference
from hbcomp.system.errors import InputError

OofProbs = Float64[np.ndarray, "n k"]
TestProbs = Float64[np.ndarray, "m k"]


@dataclass(frozen=True)
class Comparison:
    """A mean over the out-of-fold rows, one over the test rows, and their difference's error."""

    oof: float
    test: float
    standard_error: float

    @property
    def difference(self) -> float:
        """How much larger it is on the test rows."""
        return self.test - self.oof

    @property
    def is_beyond_noise(self) -> bool:
        """The two differ by more than chance explains."""
        return is_beyond_noise(self.difference, self.standard_error)


@dataclass(frozen=True)
class Shift:
    """How the confidences, the largest probability of each row, differ on the test rows."""

    confidence: Comparison
    share_below_90: Comparison  # of the rows: no class above 0.9
    share_below_50: Comparison  # of the rows: no class above 0.5, rule `half` answers zeros
    ks_distance: float  # two-sample Kolmogorov-Smirnov: the largest gap of the distributions

    @property
    def is_beyond_noise(self) -> bool:
        """The mean confidence differs by more than chance explains."""
        return self.confidence.is_beyond_noise


@dataclass(frozen=True)
class Transfer:
    """What a rule gains over the better fixed one, and how much of it the test rows can take back.

    All per 20k rows. `gain` is cross-fitted. `reach` is how far the rule's answers lie from the
    fixed one's, |rule - fixed| summed over rows and classes, which no labels are needed for.
    """

    name: str
    is_fixed: bool
    gain: Difference
    reach: Comparison

    @property
    def is_safe(self) -> bool:
        """The rule is fixed, reaches as far on the test rows, or gains more than the gap.

        An answer costs at most as much more or less than another as the two lie apart, so a rule
        gains at most its reach. Where it reaches further on the test rows than out of fold, the
        surplus was never scored and may be lost in full; where less far, what is missing may be
        what the gain came from. If the common part gains as before, the gain on the test rows is
        at least gain - |reach.difference|.
        """
        is_like_oof = not self.reach.is_beyond_noise
        return self.is_fixed or is_like_oof or self.gain.per_20k > abs(self.reach.difference)


def measure_shift(oof_probs: OofProbs, test_probs: TestProbs) -> Shift:
    """Return how the test rows' confidences differ from the out-of-fold rows'."""
    from scipy.stats import ks_2samp  # which takes long to import

    oof, test = oof_probs.max(axis=1), test_probs.max(axis=1)
    return Shift(
        confidence=_compare(oof, test),
        share_below_90=_compare(oof <= 0.9, test <= 0.9),
        share_below_50=_compare(oof <= 0.5, test <= 0.5),
        ks_distance=float(ks_2samp(oof, test, method="asymp").statistic),
    )


def measure_transfers(
    results: Sequence[RuleResult], oof_probs: OofProbs, test_probs: TestProbs
) -> list[Transfer]:
    """Return for each rule whether the test rows are like what it was chosen on.

    `half` and `argmax` are the fixed rules: neither knows how sharp the probabilities are. The
    one that is cheaper cross-fitted is what the others must gain on; the results must hold it.
    """
    fixed = min(filter(_is_fixed, results), key=lambda result: result.cross_fitted.total)
    return [
        Transfer(
            name=result.name,
            is_fixed=_is_fixed(result),
            gain=paired_difference(fixed.costs, result.costs),
            reach=_compare(
                _distances(result.rule, fixed.rule, oof_probs),
                _distances(result.rule, fixed.rule, test_probs),
            ),
        )
        for result in results
    ]


def choose_safe_rule(
    results: Sequence[RuleResult],
    oof_probs: OofProbs,
    test_probs: TestProbs,
    wanted: str = "auto",
) -> RuleResult:
    """Return what `choose` does, among the rules whose gain the test rows cannot take back.

    With fewer than two test rows nothing can be compared, and all rules count.
    """
    if wanted != "auto" or len(test_probs) < 2:
        return choose(results, wanted)
    transfers = measure_transfers(results, oof_probs, test_probs)
    return choose([each for each, by in zip(results, transfers, strict=True) if by.is_safe])


def _is_fixed(result: RuleResult) -> bool:
    return isinstance(result.rule, Half | ArgMax)


def _distances(
    rule: DecisionRule, fixed: DecisionRule, probs: Float64[np.ndarray, "n k"]
) -> Float64[np.ndarray, " n"]:
    """Return how far the two rules' answers lie apart in each row, scaled to 20k rows."""
    gaps: Float64[np.ndarray, " n"] = np.abs(rule.apply(probs) - fixed.apply(probs)).sum(axis=1)
    return gaps * ROWS_OF_THE_LEADERBOARD


def _compare(oof: np.ndarray, test: np.ndarray) -> Comparison:
    if min(len(oof), len(test)) < 2:
        raise InputError(
            "a shift is measured between two rows or more each, out of fold and of the test file, "
            f"but there are {len(oof)} and {len(test)}"
        )
    variance = float(oof.var(ddof=1)) / len(oof) + float(test.var(ddof=1)) / len(test)
    return Comparison(float(oof.mean()), float(test.mean()), variance**0.5)
