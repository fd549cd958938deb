"""A small residual net that also looks at positions: the default, made for the CPU.

After He et al. 2016 (arXiv:1512.03385) and Wang et al. 2017 (arXiv:1611.06455), who applied it to
signals. What differs, and why (measured in experiments/LOG.md):

- The convolutions are two-dimensional with height 1 and channels last in memory (`convolution`).
- The head sees the flattened features beside their mean and maximum (`with_positions`).
- A shortcut that changes shape averages neighbours and pads channels with zeros: no parameters,
  and no 1x1 convolution, which costs more time than it computes.
"""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from hbcomp.nets.base import (
    NetConfig,
    Shape,
    as_channels_last,
    convolution,
    dense_head,
    with_positions,
)
from hbcomp.nets.sizes import Dropout, Kernel, Size, Sizes

Features = Float[Tensor, "b c 1 s"]


class ResNetConfig(NetConfig):
    """One residual block per width, each with the stride of its first convolution."""

    name: Literal["resnet"] = "resnet"
    widths: Sizes = (32, 64, 96)
    strides: Sizes = (2, 2, 2)
    kernel: Kernel = 3
    hidden: Size = 256  # units of the head's hidden layer
    dropout: Dropout = 0.0  # before the last layer

    @model_validator(mode="after")
    def _check(self) -> "ResNetConfig":
        if list(self.widths) != sorted(self.widths):
            raise ValueError(f"widths must not decrease, but got {list(self.widths)}")
        if len(self.strides) != len(self.widths):
            raise ValueError(
                f"strides must be one for each of {len(self.widths)} widths, "
                f"but got {list(self.strides)}"
            )
        return self

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 442,116 parameters for 205 timepoints and 4 classes."""
        return as_channels_last(ResNet(self, shape, n_classes))


class ResNet(nn.Module):
    """A strided stem, residual blocks, and a head with one hidden layer."""

    def __init__(self, config: ResNetConfig, shape: Shape, n_classes: int) -> None:
        super().__init__()
        n_channels, n_timepoints = shape
        widths = config.widths
        self.stem = nn.Sequential(
            convolution(n_channels, widths[0], kernel=7, stride=2),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(
            *[
                Block(n_in, n_out, config.kernel, stride)
                for n_in, n_out, stride in zip(
                    (widths[0], *widths[:-1]), widths, config.strides, strict=True
                )
            ]
        )
        length = n_timepoints
        for stride in (2, *config.strides):
            length = -(-length // stride)  # rounded up
        self.head = dense_head((length + 2) * widths[-1], config.hidden, config.dropout, n_classes)

    def forward(self, signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        features = self.blocks(self.stem(signals[:, :, None]))  # (b, c, 1, s)
        logits: Tensor = self.head(with_positions(features))
        return logits


class Block(nn.Module):
    """Two convolutions beside a shortcut without parameters.

    The last scale starts at zero, so that each block starts as its shortcut (Goyal et al. 2017,
    arXiv:1706.02677).
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.n_new = n_out - n_in
        self.conv1 = convolution(n_in, n_out, kernel, stride=stride)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = convolution(n_out, n_out, kernel)
        self.norm2 = nn.BatchNorm2d(n_out)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, features: Float[Tensor, "b c 1 s"]) -> Float[Tensor, "b d 1 r"]:
        """Return the block's features."""
        inner = F.relu(self.norm1(self.conv1(features)), inplace=True)
        summed: Tensor = self.norm2(self.conv2(inner)) + self._shortcut(features)
        return F.relu(summed, inplace=True)

    def _shortcut(self, features: Float[Tensor, "b c 1 s"]) -> Float[Tensor, "b d 1 r"]:
        if self.stride > 1:
            features = F.avg_pool2d(features, (1, self.stride), ceil_mode=True)
        return F.pad(features, (0, 0, 0, 0, 0, self.n_new)) if self.n_new else features
