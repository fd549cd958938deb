"""The configuration that every net has, and the layers that several nets share."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from hbcomp.system.config import Section

Shape = tuple[int, int]  # channels and time steps of a signal


class NetConfig(Section):
    """The configuration of a net; `build` turns it into a module from (b, c, t) to logits (b, k).

    A net computes from the signals whatever else it needs (a mask, differences), so that training
    and prediction cannot prepare their input differently.
    """

    # True where matrix products dominate: such a net gains from bf16 on a CPU that has it.
    is_compute_bound: ClassVar[bool] = False
    # True if `fit` finds the weights, instead of an optimiser that takes steps.
    is_fitted: ClassVar[bool] = False

    name: str

    @abstractmethod
    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return a freshly initialised net, drawing from torch's global generator."""


class FittedNetConfig(NetConfig):
    """The configuration of a net that is not trained in steps, but fitted in one go.

    `build` returns what weights can be loaded into: nothing is known of a net but the shape of its
    signals, its classes and its weights. Such a net computes in its own precision, whatever
    autocast says.
    """

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


def without_padding(signals: Float32[Tensor, "n c t"]) -> Float32[Tensor, "n c t"]:
    """Return the signals with 0 where a value is missing (NaN)."""
    return torch.where(signals.isnan(), 0.0, signals)


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


def with_mask(signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b d 1 t"]:
    """Return the signals, stretched to [-1, 3], and 1 up to the last nonzero time step, 0 after it.

    The zeros at a row's end are padding; without the mask a net must infer where they begin.
    Values of [0, 1] lie mostly near 0.25, so the stretch centres them.
    """
    is_signal = signals.ne(0).any(1).flip(1).cummax(1).values.flip(1)  # (b, t)
    by_step = torch.cat(
        [(signals * 4 - 1).transpose(1, 2), is_signal.to(signals.dtype)[:, :, None]], dim=2
    )
    return by_step[:, None].permute(0, 3, 1, 2)  # channels last in memory


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
