"""A metric that is any function of answers and labels; nothing else is known of it.

Contributions come from the delete-a-block jackknife: with the score S of all rows and S' of all
but block g of G, the pseudo-value of a block is G * S - (G - 1) * S', and sd / sqrt(G) of the
pseudo-values is the standard error (Shao and Tu, "The Jackknife and Bootstrap", 1995, 2.3). Spread
over the rows of the block and scaled by sqrt(n / G), sd / sqrt(n) of the rows is the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from hbcomp.scoring.row_metrics import Answers, Labels, RowScores

N_BLOCKS: Final = 200  # the standard error of 200 pseudo-values is itself within 5 %


@dataclass(frozen=True)
class OwnMetric:
    """The user's own function as a metric."""

    name: str
    function: Callable[[Answers, Labels], float]
    greater_is_better: bool
    answers: str
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules whose answers the function takes."""
        is_of_labels = self.answers == "labels"
        return ("argmax", "argmax of p / prior") if is_of_labels else ("raw", "temperature")

    def score(self, answers: Answers, labels: Labels) -> float:
        """Return what the function returns."""
        return float(self.function(answers, labels))

    def contributions(self, answers: Answers, labels: Labels) -> RowScores:
        """Return the scaled pseudo-value of each row's block; their mean is the score."""
        score, n = self.score(answers, labels), len(labels)
        block_of_row = np.random.default_rng(0).permutation(n) % N_BLOCKS
        n_blocks = min(n, N_BLOCKS)
        if n_blocks < 2:
            return np.full(n, score)
        without = [
            self.score(answers[block_of_row != block], labels[block_of_row != block])
            for block in range(n_blocks)
        ]
        pseudo = n_blocks * score - (n_blocks - 1) * np.array(without)
        deviations = (pseudo - pseudo.mean())[block_of_row] * (n / n_blocks) ** 0.5
        contributions: RowScores = score + deviations - deviations.mean()
        return contributions
