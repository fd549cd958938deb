"""The score that a submission can be expected to get, from out-of-fold rows and unlabelled tests.

An out-of-fold row is answered by the nets that did not train on it, a test row by the mean of the
nets of all folds, which is better: for the Brier score B by exactly the variance of the nets'
probabilities, because B of a mean is the mean B less that variance (Krogh & Vedelsby, "Neural
network ensembles, cross validation, and active learning", 1995). Other metrics have no identity,
but the same cause: the nets disagree, which is seen on the test rows without a label. So the gain
is computed there. Labels are drawn from the mean's probabilities, softened or sharpened until the
nets of one fold score the Brier that they have out of fold, and both the nets of one fold and the
mean of all are scored on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int64

from hbcomp.scoring.calibration import Temperature
from hbcomp.scoring.metrics import Metric
from hbcomp.scoring.paired import N_ERRORS_OF_NOISE, RowScores

N_DRAWS: Final = 20  # of labels; paired, so their noise in the gain is far below that of the rows
LOG_TEMPERATURES: Final = (-3.0, 3.0)  # searched
# The standard error of the row sample is too small for a cross-validated score, because the nets of
# all folds share training rows (Bengio & Grandvalet 2004, JMLR 5:1089; Bates, Hastie & Tibshirani
# 2024, JASA 119:1434). By how much was chosen on 18 draws of rows and held on the others.
OOF_INFLATION: Final = 1.25
SHARE_OF_GAIN: Final = 0.3  # one standard error of the gain, as a share of it; see docs/results.md

Probs = Float[np.ndarray, "m k"]
Answer = Callable[[Probs], Float64[np.ndarray, "m k"]]


@dataclass(frozen=True)
class ExpectedScore:
    """A score that is expected of test answers, and what its uncertainty is made of.

    `gain` is how much higher it is than the out-of-fold score. The standard errors are those of
    the out-of-fold rows, of the test rows and of the gain.
    """

    out_of_fold: float
    gain: float
    of_oof_rows: float
    of_test_rows: float
    of_gain: float

    @property
    def value(self) -> float:
        """The expected score."""
        return self.out_of_fold + self.gain

    @property
    def standard_error(self) -> float:
        """How far the score will typically lie from it."""
        return float(np.hypot(np.hypot(self.of_oof_rows, self.of_test_rows), self.of_gain))

    @property
    def interval(self) -> tuple[float, float]:
        """The interval that is to contain 95 % of such scores."""
        reach = N_ERRORS_OF_NOISE * self.standard_error
        return self.value - reach, self.value + reach


def expected_score(
    metric: Metric,
    rows: RowScores,
    oof_brier: float,
    of_folds: Sequence[Probs],
    mean: Probs,
    answer: Answer,
    n_test: int,
    seed: int = 0,
) -> ExpectedScore:
    """Return the score that is expected of the answers to `n_test` test rows, or of a sample's.

    `rows` are the cross-fitted contributions of the out-of-fold rows and `oof_brier` the Brier
    score of their probabilities. `of_folds` are probabilities of the test rows, each as an
    out-of-fold row has them (by the nets without one fold), `mean` those that are submitted, and
    `answer` is the decision rule. Without `of_folds` no gain is known, so none is counted.
    """
    truth = matched(mean, of_folds or [mean], oof_brier)
    rng = np.random.default_rng(seed)
    answers, alone = answer(mean), [answer(part) for part in of_folds]
    drawn = [draw_labels(truth, rng) for _ in range(N_DRAWS)]
    # Of one draw: a jackknife of a metric that a user wrote in Python may take seconds.
    contributions = metric.contributions(answers, drawn[0])
    gains = [
        metric.score(answers, labels) - np.mean([metric.score(each, labels) for each in alone])
        for labels in drawn
        if alone
    ]
    gain = float(np.mean(gains)) if alone else 0.0
    return ExpectedScore(
        out_of_fold=rows.score,
        gain=gain,
        of_oof_rows=OOF_INFLATION * row_noise(rows.values, metric) / len(rows.values) ** 0.5,
        of_test_rows=row_noise(contributions, metric) / n_test**0.5,
        of_gain=SHARE_OF_GAIN * abs(gain),
    )


def row_noise(values: Float64[np.ndarray, " n"], metric: Metric) -> float:
    """Return the standard deviation of contributions, with two more rows at each bound, if finite.

    Without them rows that are all right would have no noise; of an accuracy this is the interval of
    Agresti & Coull 1998, Am. Stat. 52:119.
    """
    if np.isfinite(metric.bounds).all():
        values = np.concatenate([values, metric.bounds, metric.bounds])
    return float(values.std(ddof=1))


def matched(mean: Probs, of_folds: Sequence[Probs], oof_brier: float) -> Float64[np.ndarray, "m k"]:
    """Return the mean at the temperature where the expected Brier score of folds is `oof_brier`.

    At the nearest temperature of those searched if none gives it.
    """
    from scipy.optimize import brentq  # which takes long to import

    def excess(log_temperature: float) -> float:
        truth = _softened(mean, log_temperature)
        return float(np.mean([expected_brier(part, truth) for part in of_folds])) - oof_brier

    low, high = LOG_TEMPERATURES
    if excess(low) >= 0:
        return _softened(mean, low)
    if excess(high) <= 0:
        return _softened(mean, high)
    return _softened(mean, brentq(excess, low, high, xtol=1e-3))


def _softened(probs: Probs, log_temperature: float) -> Float64[np.ndarray, "m k"]:
    return Temperature(temperature=float(np.exp(log_temperature))).apply(probs.astype(np.float64))


def expected_brier(probs: Probs, truth: Float64[np.ndarray, "m k"]) -> float:
    """Return the Brier score that probabilities have where labels follow `truth`."""
    return float((np.square(probs) - 2 * probs * truth + truth).sum(axis=1).mean())


def draw_labels(
    truth: Float64[np.ndarray, "m k"], rng: np.random.Generator
) -> Int64[np.ndarray, " m"]:
    """Return a label for each row, drawn from its probabilities."""
    edges = truth.cumsum(axis=1)
    edges /= edges[:, -1:]
    labels: Int64[np.ndarray, " m"] = (rng.random(len(truth))[:, None] > edges).sum(axis=1)
    return labels
