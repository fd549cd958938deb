"""Convolutions that make 26 positions of 205 time steps, and self-attention among those.

After Vaswani et al. 2017 (arXiv:1706.03762), with the norm before each part (Xiong et al. 2020,
arXiv:2002.04745) and a convolutional stem (Xiao et al. 2021, arXiv:2106.14881). What differs:

- The head is that of `resnet`: every position flattened, beside mean and maximum.
- Attention is written as two products and a softmax, which autocast can shorten.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import model_validator
from torch import Tensor, nn

from hbcomp.nets.base import (
    NetConfig,
    Shape,
    as_channels_last,
    convolution,
    dense_head,
    halved,
    with_positions,
)
from hbcomp.nets.sizes import Dropout, Size, Sizes

POSITION_STD = 0.02  # of the initial position vectors, as in BERT (arXiv:1810.04805)
NEVER = -1e4  # a score whose share is 0; finite, so that a row without values has shares too


class AttentionConfig(NetConfig):
    """Strided convolutions of these widths, then layers of attention at the last one's width."""

    name: Literal["attention"] = "attention"
    widths: Sizes = (32, 48, 64)  # each halves the length
    n_layers: Size = 2
    n_heads: Size = 4
    hidden: Size = 256  # units of the head's hidden layer
    dropout: Dropout = 0.0  # before the last layer

    @model_validator(mode="after")
    def _check(self) -> "AttentionConfig":
        if self.widths[-1] % self.n_heads:
            raise ValueError(
                f"n_heads must divide the last width, {self.widths[-1]}, but got {self.n_heads}"
            )
        return self

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 552,164 parameters for 205 timepoints and 4 classes."""
        return as_channels_last(ConvolutionAttention(self, shape, n_classes))


class ConvolutionAttention(nn.Module):
    """Strided convolutions, position vectors, attention, and a head with one hidden layer."""

    def __init__(self, config: AttentionConfig, shape: Shape, n_classes: int) -> None:
        super().__init__()
        n_channels, n_timepoints = shape
        width = config.widths[-1]
        length = halved(n_timepoints, times=len(config.widths))
        layers: list[nn.Module] = []
        for n_in, n_out in zip((n_channels, *config.widths[:-1]), config.widths, strict=True):
            layers += [
                convolution(n_in, n_out, kernel=5, stride=2),
                nn.BatchNorm2d(n_out),
                nn.ReLU(inplace=True),
            ]
        self.stem = nn.Sequential(*layers)
        self.positions = nn.Parameter(torch.empty(length, width))
        nn.init.normal_(self.positions, std=POSITION_STD)
        self.layers = nn.Sequential(*[Layer(width, config.n_heads) for _ in range(config.n_layers)])
        self.head = dense_head((length + 2) * width, config.hidden, config.dropout, n_classes)

    def forward(self, signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        features = self.stem(signals[:, :, None]).flatten(2).transpose(1, 2)  # (b, s, c)
        features = self.layers(features + self.positions)
        logits: Tensor = self.head(with_positions(features.transpose(1, 2)[:, :, None]))
        return logits


class Layer(nn.Module):
    """Attention among positions, then two linear layers at each; both beside the identity."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1 = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width, bias=False)  # queries, keys and values
        self.merge = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(
        self, features: Float[Tensor, "b s c"], has_value: Bool[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b s c"]:
        """Return the layer's features; positions without a value are not attended to."""
        features = features + self._attended(self.norm1(features), has_value)
        changed: Tensor = self.narrow(F.relu(self.widen(self.norm2(features)), inplace=True))
        return features + changed

    def _attended(self, features: Tensor, has_value: Tensor | None) -> Float[Tensor, "b s c"]:
        by_head = self.project(features).unflatten(2, (3, self.n_heads, -1))  # (b, s, 3, h, d)
        queries, keys, values = by_head.permute(2, 0, 3, 1, 4)  # (b, h, s, d) each
        scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5  # (b, h, s, s)
        if has_value is not None:
            scores = scores.masked_fill(~has_value[:, None, None], NEVER)
            values = values * has_value[:, None, :, None]
        shares = self.shares(scores).to(values.dtype)
        merged: Tensor = self.merge((shares @ values).transpose(1, 2).flatten(2))
        return merged

    def shares(self, scores: Float[Tensor, "b h s s"]) -> Float[Tensor, "b h s s"]:
        """Return how much of each position's value goes to each other position."""
        return scores.softmax(-1, dtype=torch.float32)
