"""Is one column of answers worse than another, on the same rows, beyond chance?"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from hbcomp.scoring.metrics import Metric

# The one notion of noise, of every sentence and every interval that is drawn. Two standard errors:
# about 1 in 40 of equal pairs would look better by chance.
N_ERRORS_OF_NOISE: Final = 2.0
LEVEL_OF_NOISE: Final = 2 * NormalDist().cdf(N_ERRORS_OF_NOISE) - 1  # of the interval: 95.4 %
NOISE: Final = f"{N_ERRORS_OF_NOISE:g} standard errors"
LEAST_SUM: Final = 4.0  # assumed: a log-loss is rarely above, a sum over rows rarely below
BLOCK_VALUES = 2**22  # counts drawn at a time, 32 MiB


def is_beyond_noise(difference: float, standard_error: float) -> bool:
    """Return whether a difference is larger than chance explains."""
    return abs(difference) > N_ERRORS_OF_NOISE * standard_error


@dataclass(frozen=True, eq=False)
class RowScores:
    """What each row contributes to a score, as `Metric.contributions` returns it."""

    values: Float64[np.ndarray, " n"]
    greater_is_better: bool

    @property
    def score(self) -> float:
        """The score of all rows."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """How far the score of other rows of this kind would typically lie from it."""
        return _standard_error(self.values)

    @property
    def losses(self) -> Float64[np.ndarray, " n"]:
        """How much worse each row is than the best one, or than 0 where that is the best score."""
        return self.values.max() - self.values if self.greater_is_better else self.values

    def is_better_than(self, other: "RowScores") -> bool:
        """Return whether this score is better than the other, by however little."""
        return is_better(self.score, other.score, self.greater_is_better)


def is_better(score: float, other: float, greater_is_better: bool) -> bool:
    """Return whether the first score is better."""
    return score > other if greater_is_better else score < other


def as_text(score: float, sign: str = "") -> str:
    """Return a score or a difference with as many digits as tell: 123.4, but 0.9321.

    Sums have one decimal, shares and losses of a row four; zero is 0 in either.
    """
    if abs(score) >= LEAST_SUM:
        return f"{score:{sign}.1f}"
    text = f"{score:{sign}.4f}"
    return text if float(text) else f"{0:{sign}}"


def with_interval(value: float, low: float, high: float) -> str:
    """Return a score with its interval in words."""
    return f"{as_text(value)} ({as_text(low)} to {as_text(high)})"


def measure(
    metric: Metric, answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> RowScores:
    """Return what each row of answers contributes to the score."""
    return RowScores(metric.contributions(answers, labels), metric.greater_is_better)


@dataclass(frozen=True)
class Difference:
    """How much higher the first score is than the second, in the metric's unit and direction."""

    value: float
    standard_error: float
    greater_is_better: bool

    @property
    def is_worse(self) -> bool:
        """The first is worse, by more than chance explains."""
        return self.is_beyond_noise and is_better(0.0, self.value, self.greater_is_better)

    @property
    def is_better(self) -> bool:
        """The first is better, by more than chance explains."""
        return self.is_beyond_noise and not self.is_worse

    @property
    def is_beyond_noise(self) -> bool:
        """The two differ by more than chance explains."""
        return is_beyond_noise(self.value, self.standard_error)


def paired_difference(first: RowScores, second: RowScores) -> Difference:
    """Return the difference of two scores of the same rows.

    Pairing removes what makes rows easy or hard for both: the standard error is that of the
    per-row differences, not of the two scores.
    """
    gaps = first.values - second.values
    return Difference(float(gaps.mean()), _standard_error(gaps), first.greater_is_better)


def _standard_error(values: Float64[np.ndarray, " n"]) -> float:
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def bootstrap_interval(
    first: RowScores,
    second: RowScores,
    *,
    seed: int = 0,
    n_resamples: int = 2000,
    level: float = LEVEL_OF_NOISE,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the paired difference.

    Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979. The rows are resampled as
    pairs. A resample is drawn as the number of times each distinct difference occurs, which is
    multinomial: hard answers have few, so it costs next to nothing; raw ones have one a row,
    which takes seconds at 100,000 rows.
    """
    gaps, counts = np.unique(first.values - second.values, return_counts=True)
    n_rows = int(counts.sum())
    rng = np.random.default_rng(seed)
    means: list[np.ndarray] = []
    n_left = n_resamples
    while n_left:
        n_drawn = min(n_left, max(1, BLOCK_VALUES // len(gaps)))
        draws = rng.multinomial(n_rows, counts / n_rows, size=n_drawn)
        means.append(draws @ gaps / n_rows)
        n_left -= n_drawn
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class McNemar:
    """On how many rows only the first is right, only the second, and how likely that is by chance.

    `p_value` is the chance that equally good answers part at least as far.
    """

    n_only_first: int
    n_only_second: int
    p_value: float


def mcnemar(is_right: Bool[np.ndarray, " n"], other_is_right: Bool[np.ndarray, " n"]) -> McNemar:
    """Return McNemar's test of two columns of right and wrong answers of the same rows.

    McNemar, "Note on the sampling error of the difference between correlated proportions", 1947,
    in its exact two-sided form: among rows that one of the two gets right, each is as likely.
    """
    from scipy.stats import binom  # which takes long to import

    n_only_first = int(np.count_nonzero(is_right & ~other_is_right))
    n_only_second = int(np.count_nonzero(other_is_right & ~is_right))
    at_most = binom.cdf(min(n_only_first, n_only_second), n_only_first + n_only_second, 0.5)
    return McNemar(n_only_first, n_only_second, min(1.0, 2 * float(at_most)))
