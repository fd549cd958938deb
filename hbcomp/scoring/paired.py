"""Is one column of answers worse than another, on the same rows, beyond chance?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from hbcomp.scoring.metrics import ROWS_OF_THE_LEADERBOARD

# Two standard errors: about 1 in 40 of equal pairs would look better by chance.
N_ERRORS_BEYOND_NOISE = 2.0


@dataclass(frozen=True)
class Difference:
    """How much more the first costs than the second, per 20k rows, and its standard error."""

    per_20k: float
    standard_error: float

    @property
    def is_worse(self) -> bool:
        """The first costs more, by more than chance explains."""
        return self.per_20k > N_ERRORS_BEYOND_NOISE * self.standard_error


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
