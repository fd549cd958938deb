"""What differs between two sets of answers to the same rows, and what it can cost at most."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from hbcomp.scoring.metrics import ROWS_OF_THE_LEADERBOARD, called_class


@dataclass(frozen=True)
class Recall:
    """How many rows were called one class and are now called another; -1 is no class at all."""

    before: int
    after: int
    n_rows: int


@dataclass(frozen=True, eq=False)
class Changes:
    """The rows that two sets of answers do not answer alike.

    `at_stake` is the sum over rows and classes of |a - b|. Whatever the labels are, the two
    scores differ by no more: ||a - y| - |b - y|| <= |a - b| for every element.
    """

    n_rows: int
    changed_idx: Int64[np.ndarray, " c"]
    at_stake: float
    recalled: tuple[Recall, ...]

    @property
    def n_called_otherwise(self) -> int:
        """The number of rows whose called class differs."""
        return sum(recall.n_rows for recall in self.recalled)

    @property
    def at_stake_per_20k(self) -> float:
        """The points at stake, scaled to 20,000 rows."""
        return self.at_stake * ROWS_OF_THE_LEADERBOARD / self.n_rows

    def to_json(self) -> dict[str, int | float]:
        """Return the counts and the points at stake as plain JSON values."""
        return {
            "n_rows": self.n_rows,
            "n_changed": len(self.changed_idx),
            "n_called_otherwise": self.n_called_otherwise,
            "at_stake": self.at_stake,
            "at_stake_per_20k": self.at_stake_per_20k,
        }


def changes(before: Float64[np.ndarray, "n k"], after: Float64[np.ndarray, "n k"]) -> Changes:
    """Return what changes from one set of answers to the other; the commonest recalls first."""
    gaps = np.abs(before - after).sum(axis=1)
    called, recalled = called_class(before), called_class(after)
    is_other = called != recalled
    pairs = zip(called[is_other].tolist(), recalled[is_other].tolist(), strict=True)
    counts = sorted(Counter(pairs).items(), key=lambda item: (-item[1], item[0]))
    return Changes(
        n_rows=len(before),
        changed_idx=np.flatnonzero((before != after).any(axis=1)).astype(np.int64),
        at_stake=float(gaps.sum()),
        recalled=tuple(Recall(*pair, n_rows) for pair, n_rows in counts),
    )
