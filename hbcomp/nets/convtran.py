"""Long kernels, then attention that knows distances: ConvTran, for signals that are not aligned.

After Foumani et al. 2023 (arXiv:2305.16642): convolutions, sinusoidal position vectors whose
frequencies fit the number of positions and the width (tAPE), and attention with a learned number
for each distance and head, added after the softmax (eRPE). What differs, and why:

- The convolutions are the stem and the first group of `inception-time`: on few rows attention
  behind the stem alone was far worse (experiments/LOG.md).
- So attention is among 64 positions at most: its cost grows with their square.
- The norm comes before each part (Xiong et al. 2020, arXiv:2002.04745), as in `attention`.
- Positions without values are not attended to, and the mean over time leaves them out.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from hbcomp.nets.attention import Layer
from hbcomp.nets.base import NetConfig, Shape, as_channels_last, halved
from hbcomp.nets.inception import Group
from hbcomp.nets.sizes import Dropout, Kernels, Size
from hbcomp.nets.unaligned import Stem, cut_to, mean_of_values, share_of_values

# Of the position vectors. At 1, as in the paper, they outweigh the features of few rows: OSULeaf
# has .82 instead of .89, ArrowHead .83 instead of .87 (one net each).
POSITION_SCALE = 0.1


class ConvTranConfig(NetConfig):
    """A stem and a group of modules with `width` channels in each branch, then attention."""

    name: Literal["convtran"] = "convtran"
    n_positions: Size = 128  # of the stem's output, at most; attention sees half of them
    width: Size = 16
    kernels: Kernels = (39, 19, 9)
    n_layers: Size = 1
    n_heads: Size = 8
    dropout: Dropout = 0.0  # before the last layer

    @model_validator(mode="after")
    def _check(self) -> "ConvTranConfig":
        if self.n_channels % 2 or self.n_channels % self.n_heads:
            raise ValueError(
                f"the branches together must have an even number of channels that n_heads, "
                f"{self.n_heads}, divides, but got {self.n_channels}"
            )
        return self

    @property
    def n_channels(self) -> int:
        """The channels of all branches of a module."""
        return self.width * (len(self.kernels) + 1)

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 99,282 parameters for 205 timepoints and 4 classes."""
        return as_channels_last(ConvTran(self, shape, n_classes))


class ConvTran(nn.Module):
    """A stem, a group of modules, attention, the mean over time, and a linear layer."""

    positions: Tensor

    def __init__(self, config: ConvTranConfig, shape: Shape, n_classes: int) -> None:
        super().__init__()
        width = config.n_channels
        self.stem = Stem(shape, width, config.n_positions)
        self.stride = 2 * self.stem.stride
        n_positions = halved(self.stem.n_positions, times=1)
        self.group = Group(config.width, cut_to(n_positions, config.kernels))
        vectors = POSITION_SCALE * position_vectors(n_positions, width)
        self.register_buffer("positions", vectors, persistent=False)
        self.layers = nn.ModuleList(
            [RelativeLayer(width, config.n_heads, n_positions) for _ in range(config.n_layers)]
        )
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, n_classes))

    def forward(self, signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        line = signals[:, :, None]
        shares = share_of_values(line[:, -1:], self.stride)
        convolved = self.group(self.stem(line))  # (b, c, 1, s)
        features = convolved.flatten(2).transpose(1, 2) + self.positions  # (b, s, c)
        for layer in self.layers:
            features = layer(features, shares[:, 0, 0] > 0)
        by_channel = features.transpose(1, 2)[:, :, None]
        logits: Tensor = self.head(mean_of_values(by_channel, shares))
        return logits


def position_vectors(n_positions: int, width: int) -> Float[Tensor, "s w"]:
    """Return sines and cosines of each position, the fastest with `width / n_positions` radians.

    So the product of two vectors falls with the distance of their positions, however many there are
    (tAPE); with 1 radian it is alike for all but the nearest of many.
    """
    places = torch.arange(n_positions, dtype=torch.float32)[:, None] * (width / n_positions)
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = places * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class RelativeLayer(Layer):
    """A layer of attention with a number for each distance and head added to the shares (eRPE)."""

    def __init__(self, width: int, n_heads: int, n_positions: int) -> None:
        super().__init__(width, n_heads)
        self.n_positions = n_positions
        self.of_distance = nn.Parameter(torch.zeros(n_heads, 2 * n_positions - 1))

    def shares(self, scores: Float[Tensor, "b h s s"]) -> Float[Tensor, "b h s s"]:
        """Return how much of each position's value goes to each other position."""
        # The number of j - i stands at j - i + s - 1: windows of s numbers, the first one of the
        # last position. Not by indexing, whose gradient a GPU adds up in any order.
        by_position = self.of_distance.unfold(1, self.n_positions, 1).flip(1)  # (h, s, s)
        return super().shares(scores) + by_position
