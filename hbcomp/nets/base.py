"""The configuration that every net has, and the layers that several nets share."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hbcomp.system.config import Section

Shape = tuple[int, int]  # channels and time steps


class NetConfig(Section):
    """The configuration of a net; `build` turns it into a module from (b, c, t) to logits (b, k).

    It gets numbers on a common scale (`SignalsConfig`) and, if it `sees_mask`, as a last channel 1
    where a row has values and 0 where it has none.
    """

    # True where matrix products dominate: such a net gains from bf16 on a CPU that has it.
    is_compute_bound: ClassVar[bool] = False
    # False for a net that takes the channels of the signals and nothing else.
    sees_mask: ClassVar[bool] = True

    name: str

    @abstractmethod
    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return a freshly initialised net for input of this shape, the mask included.

        It draws from torch's global generator.
        """


def convolution(
    n_in: int,
    n_out: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    has_bias: bool = False,
) -> nn.Conv2d:
    """Return a one-dimensional convolution, written as a two-dimensional one of height 1.

    torch has channels-last kernels for those only, which are 1.3 to 1.6 times as fast on a CPU
    for most layers of 32 to 128 channels (measured, experiments/LOG.md). A bias before batch norm
    is left out: its true gradient is zero, and Adam makes drift of the rounding noise.
    """
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        n_in, n_out, (1, kernel), (1, stride), (0, padding), (1, dilation), bias=has_bias
    )


def as_channels_last(net: nn.Module) -> nn.Module:
    """Return the net with its convolution weights laid out for channels-last input."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def with_positions(features: Float[Tensor, "b c 1 s"]) -> Float[Tensor, "b d"]:
    """Return the mean and the maximum of each channel, then its values at every position.

    All heartbeats begin at the same point of the cycle, so a position has a meaning.
    """
    pooled = [features.mean((2, 3)), features.amax((2, 3)), features.flatten(1)]
    return torch.cat(pooled, dim=1)


def dense_head(n_features: int, hidden: int, dropout: float, n_classes: int) -> nn.Sequential:
    """Return two linear layers with batch norm, ReLU and dropout between them."""
    return nn.Sequential(
        nn.Linear(n_features, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, n_classes),
    )


def halved(n_positions: int, times: int) -> int:
    """Return the positions left after strides of 2, each rounded up: at least one is."""
    return -(-n_positions // (1 << times))
