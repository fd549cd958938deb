"""When a trial of a search is pruned: it is worse than the best one so far, row by row.

After each fold, and at chosen epochs, the summed gap S over the rows answered so far is held
against a boundary; a row's gap is how much more the incumbent's answer contributes to a score that
is better if greater, or how much less to one that is better if lower. Contributions to a metric
that is no mean over rows are taken within each fold. Four things make the boundary larger than one
test's:

Flipped rows. Two runs of one configuration differ on single rows in both directions, so S has the
variance sum of squared gaps, as in McNemar's test (1947) if rows are right or wrong.

Nets. All rows of a fold are answered by one net, which is a little good or bad as a whole. A
trial's one to five nets cannot show that variance, so it is a factor w measured beforehand on
nets of one configuration: the variance of S is Q = sum(w * gap**2).

Interim checks. S is tested after every fold but the last. The constant of Pocock (Biometrika 64,
1977) is the same at every check, which prunes early; O'Brien and Fleming's (1979) would save its
alpha for the last checks, where little is left to save. Checks at epochs raise it, see
`check_constant`.

Selection bias. The incumbent is the least of m = `n_candidates` sums. If all were of one
configuration, it would be below their mean by E[max of m normals] standard deviations of one sum,
that is E * sqrt(variance of the full gap / 2). The share of it on a part t of all rows is t * that,
or E * sqrt(t / 2) standard errors of the gap on these rows. Candidates that truly differ give a
smaller bias, so the boundary errs towards keeping a trial.

With z = constant + E * sqrt(t / 2) a trial is pruned when

    S > z * max(sqrt(Q), z * w * largest gap),    w the largest among the rows compared.

The floor asks for z**2 * w wrong rows more than the incumbent's, however few rows differ. It
makes the verdict monotone: the derivative of S - z * sqrt(Q) by one gap is 1 - z * w * gap /
sqrt(Q), which cannot be negative while sqrt(Q) >= z * w * gap.
"""

from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from hbcomp.scoring.metrics import Metric
from hbcomp.scoring.paired import RowScores

# Measured: the variance of a net's sum over that of its row flips, rule half, equal folds and
# other seeds. Quickstart on the bundled beats, 27 nets of two folds (25 degrees of freedom):
# 1.2 after 8 epochs, but 5.0, 3.5, 1.7, 2.3, 1.0 after 3, 4, 5, 6, 7. The resnet preset on 100,000
# rows, by the 5 folds of either seed against the other: 1.0 and 1.4.
OVERDISPERSION = 1.5  # above all of these, as a factor from few nets is itself uncertain
EPOCH_OVERDISPERSION = 5.0  # from 3/8 of the epochs on; earlier was not measured
N_DRAWS = 400_000  # the constants are exact to 0.01 after 10 ms a check


@dataclass(frozen=True)
class Verdict:
    """How much worse a trial is than the incumbent on the same rows, and how much is too much.

    All in units of the score. The boundary is for one check of many against a selected incumbent,
    so it is further out than two standard errors.
    """

    deficit: float
    standard_error: float
    boundary: float

    @property
    def is_behind(self) -> bool:
        """The trial is worse by more than noise, repeated checks and selection bias explain."""
        return self.deficit > self.boundary


@dataclass(frozen=True)
class PruningRule:
    """The rule of a study: prune a trial that is worse than the incumbent beyond noise.

    Notes
    -----
    A trial of the incumbent's configuration is pruned with a chance of at most `alpha` over all
    checks together, also when the incumbent is the best of `n_candidates` such trials. No trial is
    pruned while it is not worse, and none is kept for being worse.

    The chance is for scores under one fixed rule, the same rows of the same folds, at an epoch the
    incumbent's after the same epoch, and noise within the factors: were the overdispersion 2
    instead of 1.5, 8 % would be pruned by a given incumbent. Another configuration may be worse
    at an epoch and better at the end: only checks of whole folds say what the score will be.

    """

    n_rows: int  # of all folds together
    n_folds: int  # nets of a whole trial
    largest_gap: float  # that one row can have; 0 if unknown, then the largest that it has
    n_epoch_checks: int = 0  # within each fold, before its end
    alpha: float = 0.05
    overdispersion: float = OVERDISPERSION
    epoch_overdispersion: float = EPOCH_OVERDISPERSION  # of a fold still in training

    def __post_init__(self) -> None:
        if self.n_folds - 1 + self.n_epoch_checks < 1:
            raise ValueError("pruning needs two folds or a check at an epoch, but got neither")
        if not (0 < self.alpha < 0.5 and 1 <= self.overdispersion <= self.epoch_overdispersion):
            raise ValueError(
                "0 < alpha < 0.5 and 1 <= overdispersion <= epoch_overdispersion must hold, but "
                f"got {self.alpha}, {self.overdispersion}, {self.epoch_overdispersion}"
            )

    def compare(
        self,
        rows: RowScores,
        incumbent: RowScores,
        n_candidates: int,
        n_unfinished: int = 0,
    ) -> Verdict:
        """Return the verdict on the rows answered so far, the fold still in training last.

        `n_unfinished` is how many rows that fold has. `n_candidates` is from how many trials the
        incumbent was chosen, itself and pruned ones included; 1 if it was given beforehand.
        """
        n_compared = len(rows.values)
        if not (0 < n_compared <= self.n_rows and 0 <= n_unfinished <= n_compared):
            raise ValueError(
                f"1 to {self.n_rows} rows must be compared, none to all of them unfinished, "
                f"but got {n_compared} and {n_unfinished}"
            )
        gaps = rows.values - incumbent.values
        gaps = -gaps if rows.greater_is_better else gaps
        weights = np.full(n_compared, self.overdispersion)
        weights[n_compared - n_unfinished :] = self.epoch_overdispersion
        bias = expected_maximum(n_candidates) * (n_compared / self.n_rows / 2) ** 0.5
        z = check_constant(self.n_folds, self.n_epoch_checks, self.alpha) + bias
        error = float(np.sum(weights * gaps**2)) ** 0.5
        floor = z * float(weights.max()) * max(self.largest_gap, float(np.abs(gaps).max()))
        return Verdict(
            deficit=float(gaps.sum()) / n_compared,
            standard_error=error / n_compared,
            boundary=z * max(error, floor) / n_compared,
        )


def largest_gap(metric: Metric) -> float:
    """Return how far the contributions of one row's answers can lie apart, or 0 if unknown."""
    low, high = metric.bounds
    return high - low if np.isfinite(high - low) else 0.0


@cache
def check_constant(n_folds: int, n_epoch_checks: int, alpha: float) -> float:
    """Return how many standard errors the gap of equals exceeds at any check with chance alpha.

    One-sided, by a seeded simulation. After the folds the gap is a random walk, and the constant
    Pocock's for n_folds - 1 checks. Those at epochs are taken to be independent of all others, the
    worst case among checks that are not negatively correlated (Slepian, 1962).
    """
    rng = np.random.default_rng(0)
    walk, highest = np.zeros(N_DRAWS), np.full(N_DRAWS, -np.inf)
    for fold in range(1, n_folds):
        walk += rng.standard_normal(N_DRAWS)
        np.maximum(highest, walk / fold**0.5, out=highest)
    for _ in range(n_folds * n_epoch_checks):
        np.maximum(highest, rng.standard_normal(N_DRAWS), out=highest)
    return float(np.quantile(highest, 1 - alpha))


def expected_maximum(n_draws: int) -> float:
    """Return about how far the largest of n standard normals lies above 0 on average.

    Blom's approximation (1958): 0 for one draw, else within 0.03 of the integral.
    """
    return NormalDist().inv_cdf((n_draws - 0.375) / (n_draws + 0.25))
