"""Logistic regression: one linear layer.

Without batch norm before it, although features differ in scale: the running statistics of its last
few batches cost the lines ten rows of a hundred (measured, experiments/LOG.md).
"""

from typing import Literal

from torch import nn

from hbcomp.nets.base import NetConfig


class LinearConfig(NetConfig):
    """The linear net, which has no options."""

    name: Literal["linear"] = "linear"

    def build(self, n_timepoints: int, n_classes: int) -> nn.Module:
        """Return the net; 824 parameters for 205 timepoints and 4 classes."""
        layer = nn.Linear(n_timepoints, n_classes)
        nn.init.zeros_(layer.weight)
        return layer
