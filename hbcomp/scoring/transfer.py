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
from hbcomp.scoring.metrics import Metric
from hbcomp.scoring.paired import is_beyond_noise, paired_difference
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

    `gain` is cross-fitted, positive if the rule is better. `disagreement` is how far the rule's
    answers lie from the fixed one's, in units of the score; no labels are needed for it.
    """

    name: str
    is_fixed: bool
    gain: float
    gain_standard_error: float
    disagreement: Comparison

    @property
    def is_accepted(self) -> bool:
        """The rule is fixed, disagrees as much on the test rows, or gains more than the difference.

        A rule gains at most its disagreement. Where that is larger on the test rows than out of
        fold, the surplus was never scored and may be lost in full; where it is smaller, what is
        missing may be what the gain came from. If the common part gains as before, the gain on the
        test rows is at least gain - |disagreement.difference|.
        """
        is_like_oof = not self.disagreement.is_beyond_noise
        return self.is_fixed or is_like_oof or self.gain > abs(self.disagreement.difference)


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
    metric: Metric, results: Sequence[RuleResult], oof_probs: OofProbs, test_probs: TestProbs
) -> list[Transfer]:
    """Return for each rule whether the test rows are like what it was chosen on.

    Threshold 0.5 and argmax are the fixed rules, or the first rule where a metric has neither:
    nothing of them depends on how sharp the probabilities are. The better one, cross-fitted, is
    what the others must gain on.
    """
    fixed = [result for result in results if _is_fixed(result)] or list(results[:1])
    best = fixed[0]
    for result in fixed[1:]:
        best = result if result.rows.is_better_than(best.rows) else best
    return [
        _transfer(metric, result, best, oof_probs, test_probs, is_fixed=result in fixed)
        for result in results
    ]


def _transfer(
    metric: Metric,
    result: RuleResult,
    fixed: RuleResult,
    oof_probs: OofProbs,
    test_probs: TestProbs,
    *,
    is_fixed: bool,
) -> Transfer:
    difference = paired_difference(result.rows, fixed.rows)
    return Transfer(
        name=result.name,
        is_fixed=is_fixed,
        gain=difference.value if metric.greater_is_better else -difference.value,
        gain_standard_error=difference.standard_error,
        disagreement=_compare(
            _distances(metric, result.rule, fixed.rule, oof_probs),
            _distances(metric, result.rule, fixed.rule, test_probs),
        ),
    )


def choose_accepted_rule(
    metric: Metric,
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
    transfers = measure_transfers(metric, results, oof_probs, test_probs)
    return choose([each for each, by in zip(results, transfers, strict=True) if by.is_accepted])


def _is_fixed(result: RuleResult) -> bool:
    return isinstance(result.rule, Half | ArgMax)


def _distances(
    metric: Metric, rule: DecisionRule, fixed: DecisionRule, probs: Float64[np.ndarray, "n k"]
) -> Float64[np.ndarray, " n"]:
    """Return how far the two rules' answers lie apart in each row, in units of the score.

    For abs-sum, accuracy and costs no row's score differs by more. For other metrics it is half
    the summed difference of the answers times the range of the score, a measure and no bound.
    """
    gaps: Float64[np.ndarray, " n"] = np.abs(rule.apply(probs) - fixed.apply(probs)).sum(axis=1)
    low, high = metric.bounds
    return gaps * (high - low if np.isfinite(high - low) else 1.0) / 2


def _compare(oof: np.ndarray, test: np.ndarray) -> Comparison:
    if min(len(oof), len(test)) < 2:
        raise InputError(
            "a shift is measured between two rows or more each, out of fold and of the test file, "
            f"but there are {len(oof)} and {len(test)}"
        )
    variance = float(oof.var(ddof=1)) / len(oof) + float(test.var(ddof=1)) / len(test)
    return Comparison(float(oof.mean()), float(test.mean()), variance**0.5)
