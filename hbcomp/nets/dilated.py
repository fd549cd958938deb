"""A dilated net without batch norm, the kind that won the competition's first season.

Residual blocks of two dilated convolutions each, after van den Oord et al. 2016 (WaveNet,
arXiv:1609.03499) and Bai et al. 2018 (TCN, arXiv:1803.01271). What differs, and why:

- Not causal: the whole signal is known, so a convolution looks both ways.
- No normalisation at all. Weights start as He et al. 2015 (arXiv:1502.01852) draw them; each
  block's last convolution starts at zero and its first is divided by the root of the number of
  blocks, as in Fixup (Zhang et al. 2019, arXiv:1901.09321), whose scalar scales are left out.
- The stem strides and pools to a quarter of the positions, 52 for 205 time steps: four blocks
  still see the whole signal, and width costs a quarter.
- The head also sees positions (`with_positions`).
"""

from typing import Literal, TypeVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hbcomp.nets.base import (
    NetConfig,
    Shape,
    as_channels_last,
    convolution,
    halved,
    with_positions,
)
from hbcomp.nets.sizes import Dropout, Kernel, Size, Sizes

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class DilatedConfig(NetConfig):
    """One residual block per dilation, all of the same width."""

    name: Literal["dilated"] = "dilated"
    width: Size = 64
    dilations: Sizes = (1, 2, 4, 8)
    kernel: Kernel = 3
    hidden: Size = 256  # units of the head's hidden layer
    dropout: Dropout = 0.2  # before and after the hidden layer

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 985,796 parameters for 205 timepoints and 4 classes."""
        return as_channels_last(Dilated(self, shape, n_classes))


class Dilated(nn.Module):
    """A stem, dilated residual blocks, and a head with one hidden layer."""

    def __init__(self, config: DilatedConfig, shape: Shape, n_classes: int) -> None:
        super().__init__()
        n_channels, n_timepoints = shape
        width, n_blocks = config.width, len(config.dilations)
        self.stem = _he(convolution(n_channels, width, kernel=7, stride=2, has_bias=True))
        self.blocks = nn.Sequential(
            *[Block(width, config.kernel, dilation, n_blocks) for dilation in config.dilations]
        )
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            _he(nn.Linear((halved(n_timepoints, times=2) + 2) * width, config.hidden)),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, n_classes),  # smaller, as torch draws it: loss near ln k
        )

    def forward(self, signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        features = F.relu(self.stem(signals[:, :, None]), inplace=True)
        features = F.max_pool2d(features, (1, 2), ceil_mode=True)  # (b, c, 1, s)
        logits: Tensor = self.head(with_positions(self.blocks(features)))
        return logits


class Block(nn.Module):
    """Two dilated convolutions beside the identity, which a block is at first."""

    def __init__(self, width: int, kernel: int, dilation: int, n_blocks: int) -> None:
        super().__init__()
        self.conv1 = _he(convolution(width, width, kernel, dilation=dilation, has_bias=True))
        self.conv1.weight.data.mul_(n_blocks**-0.5)
        self.conv2 = convolution(width, width, kernel, dilation=dilation, has_bias=True)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Float[Tensor, "b c 1 s"]) -> Float[Tensor, "b c 1 s"]:
        """Return the block's features."""
        inner: Tensor = self.conv2(F.relu(self.conv1(features), inplace=True))
        return F.relu(inner + features, inplace=True)


def _he(layer: Layer) -> Layer:
    """Return the layer with He's initial weights for ReLU and without a bias at first."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
