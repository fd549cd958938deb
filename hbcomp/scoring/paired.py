"""Is one column of answers worse than another, on the same rows, beyond chance?"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64

from hbcomp.scoring.metrics import ROWS_OF_THE_LEADERBOARD

# The one notion of noise, of every sentence and every interval that is drawn. Two standard errors:
# about 1 in 40 of equal pairs would look better by chance.
N_ERRORS_OF_NOISE: Final = 2.0
LEVEL_OF_NOISE: Final = 2 * NormalDist().cdf(N_ERRORS_OF_NOISE) - 1  # of the interval: 95.4 %
NOISE: Final = f"{N_ERRORS_OF_NOISE:g} standard errors"
BLOCK_VALUES = 2**22  # counts drawn at a time, 32 MiB


def is_beyond_noise(difference: float, standard_error: float) -> bool:
    """Return whether a difference is larger than chance explains."""
    return abs(difference) > N_ERRORS_OF_NOISE * standard_error


@dataclass(frozen=True)
class Difference:
    """How much more the first costs than the second, per 20k rows, and its standard error."""

    per_20k: float
    standard_error: float

    @property
    def is_worse(self) -> bool:
        """The first costs more, by more than chance explains."""
        return self.per_20k > 0 and self.is_beyond_noise

    @property
    def is_beyond_noise(self) -> bool:
        """The two differ by more than chance explains."""
        return is_beyond_noise(self.per_20k, self.standard_error)


def paired_difference(
    costs: Float64[np.ndarray, " n"], other_costs: Float64[np.ndarray, " n"]
) -> Difference:
    """Return the difference of two costs of the same rows.

    Pairing removes what makes rows easy or hard for both: the standard error is that of the
    per-row differences, not of the two sums.
    """
    gaps = costs - other_costs
    deviation = float(gaps.std(ddof=1)) if len(gaps) > 1 else 0.0
    return Difference(
        per_20k=float(gaps.mean()) * ROWS_OF_THE_LEADERBOARD,
        standard_error=deviation / len(gaps) ** 0.5 * ROWS_OF_THE_LEADERBOARD,
    )


def bootstrap_interval(
    costs: Float64[np.ndarray, " n"],
    other_costs: Float64[np.ndarray, " n"],
    *,
    seed: int = 0,
    n_resamples: int = 2000,
    level: float = LEVEL_OF_NOISE,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the paired difference, per 20k rows.

    Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979. The rows are resampled as
    pairs. A resample is drawn as the number of times each distinct difference occurs, which is
    multinomial: hard answers have five, so it costs next to nothing; raw ones have one a row,
    which takes seconds at 100,000 rows.
    """
    gaps, counts = np.unique(costs - other_costs, return_counts=True)
    rng = np.random.default_rng(seed)
    means: list[np.ndarray] = []
    n_left = n_resamples
    while n_left:
        n_drawn = min(n_left, max(1, BLOCK_VALUES // len(gaps)))
        draws = rng.multinomial(len(costs), counts / len(costs), size=n_drawn)
        means.append(draws @ gaps / len(costs))
        n_left -= n_drawn
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low) * ROWS_OF_THE_LEADERBOARD, float(high) * ROWS_OF_THE_LEADERBOARD


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
