"""The competition's score, abs-sum, and the usual measures beside it. Lower abs-sum is better."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

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
