"""Logistic regression: one linear layer.

Without batch norm before it, although features differ in scale: the running statistics of its last
few batches cost the lines ten rows of a hundred (measured, experiments/LOG.md).
"""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from hbcomp.nets.base import NetConfig, Shape


class LinearConfig(NetConfig):
    """The linear net, which has no options."""

    sees_mask: ClassVar[bool] = False

    name: Literal["linear"] = "linear"

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 824 parameters for 205 timepoints and 4 classes."""
        layer = Linear(shape[0] * shape[1], n_classes)
        nn.init.zeros_(layer.weight)
        return layer


class Linear(nn.Linear):
    """A linear layer on the values of all channels."""

    def forward(self, signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        return super().forward(signals.flatten(1))
