"""The score of a competition: what a metric is, and every metric by its name.

A new one is a `RowMetric` if each row has a score of its own, a `ClassMetric` if the confusion
matrix decides, and otherwise anything with the members of `Metric`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int
from pydantic import Field, model_validator

from hbcomp.scoring import row_metrics
from hbcomp.scoring.auc import RocAuc
from hbcomp.scoring.class_metrics import CLASS_METRICS, ClassMetric, f1_of_class
from hbcomp.scoring.row_metrics import RowMetric
from hbcomp.system.config import Section
from hbcomp.system.errors import InputError, check_name


@runtime_checkable  # the tests check types as they run
class Metric(Protocol):
    """A score of answers, and what each row contributes to it."""

    @property
    def name(self) -> str:
        """What competition.toml calls it."""

    @property
    def greater_is_better(self) -> bool:
        """Its direction."""

    @property
    def answers(self) -> str:
        """`labels`, where only the largest answer of each row counts, or `probabilities`."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The decision rules that may suit it, simple ones first."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest score that there can be."""

    def score(self, answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
        """Return the score of answers to rows with these labels."""

    def contributions(
        self, answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        """Return a value for each row: the mean is the score, sd / sqrt(n) its standard error."""


class MetricConfig(Section):
    """The [metric] of a competition.toml."""

    name: str = "abs-sum"  # or "FILE.py:FUNCTION"
    scale_rows: int = Field(default=1, ge=1)  # the leaderboard shows a sum over so many rows
    positive: str | None = None  # the class that `f1` and `roc-auc` are about
    k: int = Field(default=3, ge=1)  # of top-k
    costs: Path | None = None  # a CSV of what predicting each class costs, true classes in rows
    # Of a function of one's own:
    greater_is_better: bool | None = None
    answers: Literal["labels", "probabilities"] | None = None
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether it names a function in a file."""
        return ".py:" in self.name

    @model_validator(mode="after")
    def _check(self) -> "MetricConfig":
        if not self.is_own:
            check_name("metric.name", self.name, NAMES)
        allowed = {"name"} | (KEYS_OF_OWN if self.is_own else KEYS_OF.get(self.name, frozenset()))
        if others := sorted(self.model_fields_set - allowed):
            raise ValueError(f"metric {self.name} has no keys {', '.join(others)}")
        needed = {"greater_is_better", "answers"} if self.is_own else NEEDED.get(self.name, set())
        if missing := sorted(key for key in needed if getattr(self, key) is None):
            raise ValueError(f"metric {self.name} needs the keys {', '.join(missing)}")
        return self


class MetricSpec(Section):
    """All that a metric is made from: what a report keeps, so that others score as it did.

    `file` and its hash are those of one's own function.
    """

    config: MetricConfig
    classes: tuple[str, ...]
    costs: tuple[tuple[float, ...], ...] | None = None
    file: Path | None = None
    sha256: str | None = None


PROBABILITY_RULES: Final = ("raw", "temperature", "vector scaling", "floor")
ABS_SUM: Final = RowMetric(
    name="abs-sum",
    greater_is_better=False,
    answers="probabilities",
    # `half` is optimal for calibrated probabilities; `raw` is the last of those without a
    # parameter, because averaging nets softens the test probabilities, which makes raw answers
    # cost more on the test rows than out of fold.
    rules=("half", "argmax", "raw", "clip 0.1/0.9", "tuned", "tuned per class"),
    score_rows=row_metrics.abs_sum_of_rows,
    row_bounds=(0.0, 2.0),
)
LOG_LOSS: Final = RowMetric(
    name="log-loss",
    greater_is_better=False,
    answers="probabilities",
    rules=PROBABILITY_RULES,
    score_rows=row_metrics.log_loss_of_rows,
    row_bounds=(0.0, np.inf),
)
BRIER: Final = RowMetric(
    name="brier",
    greater_is_better=False,
    answers="probabilities",
    rules=PROBABILITY_RULES,
    score_rows=row_metrics.brier_of_rows,
    row_bounds=(0.0, 2.0),
)
ACCURACY: Final = RowMetric(
    name="accuracy",
    greater_is_better=True,
    answers="labels",
    rules=("argmax",),
    score_rows=row_metrics.hits,
    row_bounds=(0.0, 1.0),
)

# What makes each metric from its configuration and the classes. A new one is a line here.
Maker = Callable[[MetricConfig, Sequence[str], Float64[np.ndarray, "k k"] | None], Metric]


def _made(metric: Metric) -> Maker:
    return lambda _config, _classes, _costs: metric


MAKERS: Mapping[str, Maker] = {
    "abs-sum": lambda config, _classes, _costs: replace(ABS_SUM, scale=float(config.scale_rows)),
    "log-loss": lambda config, _classes, _costs: replace(LOG_LOSS, scale=float(config.scale_rows)),
    "brier": lambda config, _classes, _costs: replace(BRIER, scale=float(config.scale_rows)),
    "accuracy": _made(ACCURACY),
    "cost-matrix": lambda config, classes, costs: _cost_matrix(config, classes, costs),
    "top-k": lambda config, classes, _costs: _top_k(config.k, len(classes)),
    "f1": lambda config, classes, _costs: _binary_f1(_index(config, classes)),
    "roc-auc": lambda config, classes, _costs: RocAuc("roc-auc", _index(config, classes)),
    "macro-roc-auc": _made(RocAuc("macro-roc-auc", None)),
    **{name: _made(metric) for name, metric in CLASS_METRICS.items()},
}
NAMES: Final = tuple(sorted(MAKERS))
KEYS_OF: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("abs-sum", "log-loss", "brier"), frozenset({"scale_rows"})),
    "cost-matrix": frozenset({"scale_rows", "costs"}),
    "top-k": frozenset({"k"}),
    **dict.fromkeys(("f1", "roc-auc"), frozenset({"positive"})),
}
KEYS_OF_OWN: Final = frozenset({"greater_is_better", "answers", "params"})
NEEDED: Mapping[str, set[str]] = {"cost-matrix": {"costs"}}


def make_metric(
    config: MetricConfig,
    classes: Sequence[str],
    costs: Float64[np.ndarray, "k k"] | None = None,
) -> Metric:
    """Return a built-in metric for these classes; `costs` is the matrix that its file holds."""
    return MAKERS[config.name](config, classes, costs)


def describe_metric(metric: Metric) -> str:
    """Return the name and the direction, as `accuracy (higher is better)`."""
    scale = getattr(metric, "scale", 1.0)
    per = f" per {scale:,.0f} rows" if scale != 1 else ""
    return f"{metric.name}{per} ({'higher' if metric.greater_is_better else 'lower'} is better)"


def _cost_matrix(
    config: MetricConfig, classes: Sequence[str], costs: Float64[np.ndarray, "k k"] | None
) -> RowMetric:
    assert costs is not None, "who reads competition.toml reads the matrix"
    if costs.shape != (len(classes), len(classes)) or not np.isfinite(costs).all():
        raise InputError(
            f"{config.costs}: a cost matrix must have a finite cost for each pair of "
            f"{len(classes)} classes, but it has the shape {costs.shape}"
        )
    return RowMetric(
        name="cost-matrix",
        greater_is_better=False,
        answers="labels",
        rules=("argmax", "least cost"),
        score_rows=row_metrics.costs_of_rows(costs),
        row_bounds=(float(costs.min()), float(costs.max())),
        scale=float(config.scale_rows),
    )


def _top_k(k: int, n_classes: int) -> RowMetric:
    if k >= n_classes:
        raise InputError(f"top-k needs k below the number of classes, {n_classes}, but got {k}")
    return RowMetric(
        name="top-k",
        greater_is_better=True,
        answers="probabilities",
        rules=("raw",),
        score_rows=row_metrics.top_k_hits(k),
        row_bounds=(0.0, 1.0),
    )


def _binary_f1(positive: int) -> ClassMetric:
    return ClassMetric("f1", lambda counts: f1_of_class(counts, positive))


def _index(config: MetricConfig, classes: Sequence[str]) -> int:
    """Return the number of the positive class: the one that is named, else the second of two."""
    if config.positive is not None:
        return classes.index(check_name("metric.positive", config.positive, classes))
    if len(classes) != 2:
        raise InputError(
            f"metric {config.name} is about one class: with {len(classes)} classes, name it in "
            "metric.positive, or take a macro average"
        )
    return 1


def score_bounds(metric: Metric, answers: Float[np.ndarray, "n k"]) -> tuple[float, float]:
    """Return the least and the greatest score that these answers can have, whatever the labels.

    Of a metric that is no mean over rows they are those of any answers.
    """
    if not isinstance(metric, RowMetric):
        return metric.bounds
    n_rows, n_classes = answers.shape
    of_label = np.stack(
        [metric.contributions(answers, np.full(n_rows, label)) for label in range(n_classes)]
    )
    return float(of_label.min(axis=0).mean()), float(of_label.max(axis=0).mean())


def largest_change(
    metric: Metric, before: Float[np.ndarray, "n k"], after: Float[np.ndarray, "n k"]
) -> float | None:
    """Return how far apart the scores of two sets of answers can be, whatever the labels are.

    For abs-sum that is the mean over the rows of |a - b| summed over the classes, because
    ||a - y| - |b - y|| <= |a - b|; for accuracy and costs the share of rows of another class, times
    the largest cost. None for a metric that is not a mean over rows or that knows no bound.
    """
    if not isinstance(metric, RowMetric) or not np.isfinite(metric.bounds).all():
        return None
    low, high = metric.bounds
    if metric.answers == "labels":
        return float((before.argmax(axis=1) != after.argmax(axis=1)).mean()) * (high - low)
    return float(np.abs(before - after).sum(axis=1).mean()) * (high - low) / 2
