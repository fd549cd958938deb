"""Early stopping: watched rows, which a net does not train on, choose the epoch it is taken from.

Prechelt 1998, "Early stopping - but when?", in Neural Networks: Tricks of the Trade.

Which rows are watched decides what the score means. An inner split of the net's own training rows
leaves the held-out fold untouched, so its score stays honest; the net learns from fewer rows. A net
that watches the very fold it is scored on has chosen its epoch by that score, which is too good.
"""

import copy
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import nn

from hbcomp.system.config import Section


class EarlyStopping(Section):
    """Stop after `patience` epochs without a lower log loss of the watched rows; 0 is off.

    `inner` watches a `share` of the net's own training rows, which it then does not train on.
    `scored-fold` watches the held-out fold, and the score is marked as too good.
    """

    patience: int = Field(default=0, ge=0)  # epochs
    watch: Literal["inner", "scored-fold"] = "inner"
    share: float = Field(default=0.1, gt=0, le=0.5)

    @property
    def is_on(self) -> bool:
        """Whether any rows are watched."""
        return self.patience > 0

    @property
    def is_on_scored_fold(self) -> bool:
        """Whether the epochs are chosen by the rows that the net is scored on."""
        return self.is_on and self.watch == "scored-fold"


@dataclass
class BestEpoch:
    """The epoch of the lowest log loss of the watched rows so far, and the net as it was then.

    Not the competition's metric: few watched rows give many epochs the same accuracy, while the
    log loss orders them. The first of equal epochs is kept.
    """

    epoch: int = 0
    loss: float = float("inf")
    net: nn.Module | None = None

    def update(self, epoch: int, loss: float, net: nn.Module) -> None:
        """Keep a copy of the net if its loss is the lowest so far."""
        if loss < self.loss:
            self.epoch, self.loss, self.net = epoch, loss, copy.deepcopy(net)
