"""The score of a competition: what a metric is, and every metric by its name.

A new one is a `RowMetric` if each row has a score of its own, a `ClassMetric` if the confusion
matrix decides, and otherwise anything with the members of `Metric`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int, Int64
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


ROWS_OF_THE_LEADERBOARD = 20_000  # testA of the first competition; public scores are sums over it


@dataclass(frozen=True)
class Score:
    """A sum of per-row costs over `n_rows` rows; lower is better."""

    total: float
    n_rows: int

    @property
    def mean(self) -> float:
        """Cost per row."""
        return self.total / self.n_rows

    @property
    def per_20k(self) -> float:
        """The sum scaled to 20,000 rows, comparable with public leaderboard scores."""
        return self.total * ROWS_OF_THE_LEADERBOARD / self.n_rows

    def to_json(self) -> dict[str, float]:
        """Return sum, mean, per 20k and the number of rows under those names."""
        return {
            "sum": self.total,
            "mean": self.mean,
            "per_20k": self.per_20k,
            "n_rows": self.n_rows,
        }


def row_costs(
    answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Return what each row costs: sum over the classes of |answer - onehot|."""
    wide = answers.astype(np.float64)
    # |a - 0| everywhere, then the true class swaps |a| for |a - 1|: no one-hot matrix is built.
    at_truth = wide[np.arange(len(labels)), labels]
    costs: Float64[np.ndarray, " n"] = (
        np.abs(wide).sum(axis=1) - np.abs(at_truth) + np.abs(at_truth - 1.0)
    )
    return costs


def score_of(costs: Float64[np.ndarray, " n"]) -> Score:
    """Return the score of rows with these costs."""
    return Score(float(costs.sum()), len(costs))


def abs_sum(answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> Score:
    """Return the competition's score, sum over rows and classes of |answer - onehot|."""
    return score_of(row_costs(answers, labels))


@dataclass(frozen=True)
class ClassScore:
    """The part of the score that the rows of one true class pay."""

    label: int
    n_rows: int
    total: float
    mean: float
    recall: float
    n_none: int = 0  # not counted by reports from before it was


def abs_sum_by_class(
    answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> list[ClassScore]:
    """Return the cost of each true class; the totals add up to the whole score.

    Recall is the share of a class's rows that are called it, `n_none` how many are called none;
    see `called_class`.
    """
    costs, called = row_costs(answers, labels), called_class(answers)
    is_hit = called == labels
    rows = []
    for label in range(answers.shape[1]):
        of_class = labels == label
        n_rows = int(of_class.sum())
        total = float(costs[of_class].sum())
        recall = float(is_hit[of_class].mean()) if n_rows else 0.0
        n_none = int((called[of_class] < 0).sum())
        rows.append(ClassScore(label, n_rows, total, total / max(n_rows, 1), recall, n_none))
    return rows


def called_class(answers: Float[np.ndarray, "n k"]) -> Int64[np.ndarray, " n"]:
    """Return the class of the largest answer of each row, and -1 for an all-zero row."""
    return np.where(answers.any(axis=1), answers.argmax(axis=1), -1).astype(np.int64)


def class_name(called: int) -> str:
    """Return a called class in words."""
    return "none" if called < 0 else str(called)


def confusion(
    answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> Int64[np.ndarray, "k k+1"]:
    """Return the counts of (true class, called class); rows are the truth.

    The last column counts the all-zero rows, which are called none, so every row is counted once.
    """
    n_classes = answers.shape[1]
    called = called_class(answers)
    cells = labels * (n_classes + 1) + np.where(called < 0, n_classes, called)
    counts = np.bincount(cells, minlength=n_classes * (n_classes + 1))
    return counts.reshape(n_classes, n_classes + 1).astype(np.int64)


def accuracy(answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """Return the share of rows that are called their true class; none is never right."""
    return float((called_class(answers) == labels).mean())


def describe(answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> dict[str, object]:
    """Return score, accuracy, per-class scores and confusion as plain JSON values."""
    return {
        **abs_sum(answers, labels).to_json(),
        "accuracy": accuracy(answers, labels),
        "by_class": [asdict(row) for row in abs_sum_by_class(answers, labels)],
        "confusion": confusion(answers, labels).tolist(),
    }
