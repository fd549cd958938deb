"""The configuration that every net has, and the layers that several nets share."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Float32, Int64
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
    # True if `fit` finds the weights, instead of an optimiser that takes steps.
    is_fitted: ClassVar[bool] = False

    name: str

    @abstractmethod
    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return a freshly initialised net for input of this shape, the mask included.

        It draws from torch's global generator.
        """


class FittedNetConfig(NetConfig):
    """The configuration of a net that is not trained in steps, but fitted in one go.

    It gets scaled signals without a mask, with NaN where a row has no value. `build` returns what
    weights can be loaded into: nothing is known of a net but the shape of its signals, its classes
    and its weights. Such a net computes in its own precision, whatever autocast says.
    """

    sees_mask: ClassVar[bool] = False
    is_fitted: ClassVar[bool] = True

    @abstractmethod
    def fit(
        self,
        signals: Float32[Tensor, "n c t"],
        labels: Int64[Tensor, " n"],
        n_classes: int,
        seed: int,
    ) -> nn.Module:
        """Return the net fitted on these rows, on their device; it depends on nothing else."""


def without_gaps(signals: Float32[Tensor, "n c t"]) -> Float32[Tensor, "n c t"]:
    """Return the signals with numbers where they have no value (NaN).

    A gap between two values is bridged by a straight line. Before the first value of a channel and
    after its last one there are zeros: measured on 10 UCR sets of unequal lengths, rocket has more
    right answers with them on 8 than with the last value held, and fewer on 2.
    """
    is_gap = signals.isnan()
    if not is_gap.any():
        return signals
    n_steps = signals.shape[2]
    steps = torch.arange(n_steps, device=signals.device)
    before = torch.where(is_gap, -1, steps).cummax(2).values  # the step of the value before it
    after = torch.where(is_gap, n_steps, steps).flip(2).cummin(2).values.flip(2)
    first = signals.gather(2, before.clamp(min=0))
    last = signals.gather(2, after.clamp(max=n_steps - 1))
    share = (steps - before) / (after - before).clamp(min=1)
    is_inside = (before >= 0) & (after < n_steps)
    return torch.where(is_inside, first + share * (last - first), 0.0)


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
