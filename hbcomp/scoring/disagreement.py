"""What differs between two sets of answers to the same rows."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from hbcomp.scoring.metrics import Metric, largest_change
from hbcomp.scoring.row_metrics import predicted_class


@dataclass(frozen=True)
class ClassChange:
    """How many rows change their predicted class from one to another; -1 is no class at all."""

    before: int
    after: int
    n_rows: int


@dataclass(frozen=True, eq=False)
class Changes:
    """The rows that two sets of answers do not answer alike.

    Whatever the labels are, the two scores differ by at most `max_difference`, if it is known.
    """

    n_rows: int
    changed_idx: Int64[np.ndarray, " c"]
    class_changes: tuple[ClassChange, ...]
    max_difference: float | None

    @property
    def n_class_changes(self) -> int:
        """The number of rows whose predicted class differs."""
        return sum(change.n_rows for change in self.class_changes)

    def to_json(self) -> dict[str, int | float | None]:
        """Return the counts and the largest difference as plain JSON values."""
        return {
            "n_rows": self.n_rows,
            "n_changed": len(self.changed_idx),
            "n_class_changes": self.n_class_changes,
            "max_difference": self.max_difference,
        }


def changes(
    metric: Metric, before: Float64[np.ndarray, "n k"], after: Float64[np.ndarray, "n k"]
) -> Changes:
    """Return what changes from one set of answers to the other; the commonest changes first."""
    old, new = predicted_class(before), predicted_class(after)
    is_other = old != new
    pairs = zip(old[is_other].tolist(), new[is_other].tolist(), strict=True)
    counts = sorted(Counter(pairs).items(), key=lambda item: (-item[1], item[0]))
    return Changes(
        n_rows=len(before),
        changed_idx=np.flatnonzero((before != after).any(axis=1)).astype(np.int64),
        class_changes=tuple(ClassChange(*pair, n_rows) for pair, n_rows in counts),
        max_difference=largest_change(metric, before, after),
    )
