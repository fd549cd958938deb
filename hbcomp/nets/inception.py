"""A net of parallel kernels of several lengths, InceptionTime's, small enough for a CPU.

After Ismail Fawaz et al. 2020 (arXiv:1909.04939): each module narrows its input by a 1x1
convolution and looks at it through three kernel lengths at once, beside a branch of max pooling; a
shortcut passes over every third module. What differs, and why:

- A strided stem, and averages of pairs before each three modules, so that these work at 52 and 26
  positions of 205 time steps: six modules at full length would see five times as many.
- Kernels 19, 9, 5 instead of 39, 19, 9: at a quarter of the positions they span twice as much.
- Maxima are taken of the narrowed input, not narrowed afterwards: a quarter of their cost.
- The head also sees positions (`with_positions`). One net is one model: the paper's mean of five
  is left to seeds.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
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
from hbcomp.nets.sizes import Dropout, Kernels, Size


class InceptionConfig(NetConfig):
    """Groups of three modules; a module has `width` channels in each of its branches."""

    name: Literal["inception"] = "inception"
    n_groups: Size = 2
    width: Size = 16
    kernels: Kernels = (19, 9, 5)
    hidden: Size = 256  # units of the head's hidden layer
    dropout: Dropout = 0.0  # before the last layer

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 525,060 parameters for 205 timepoints and 4 classes."""
        return as_channels_last(Inception(self, shape, n_classes))


class Inception(nn.Module):
    """A strided stem, groups of modules with a shortcut each, and a head with a hidden layer."""

    def __init__(self, config: InceptionConfig, shape: Shape, n_classes: int) -> None:
        super().__init__()
        n_channels, n_timepoints = shape
        width = config.width * (len(config.kernels) + 1)
        self.stem = nn.Sequential(
            convolution(n_channels, width, kernel=7, stride=2),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.groups = nn.Sequential(
            *[Group(config.width, config.kernels) for _ in range(config.n_groups)]
        )
        length = halved(n_timepoints, times=1 + config.n_groups)
        self.head = dense_head((length + 2) * width, config.hidden, config.dropout, n_classes)

    def forward(self, signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        features = self.groups(self.stem(signals[:, :, None]))  # (b, c, 1, s)
        logits: Tensor = self.head(with_positions(features))
        return logits


class Group(nn.Module):
    """Neighbours averaged in pairs, then three modules beside a shortcut without parameters.

    The last scale starts at zero, so that each group starts as its shortcut (Goyal et al. 2017,
    arXiv:1706.02677).
    """

    def __init__(self, width: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.first = InceptionModule(width, kernels)
        self.second = InceptionModule(width, kernels)
        self.third = InceptionModule(width, kernels)
        nn.init.zeros_(self.third.norm.weight)

    def forward(self, features: Float[Tensor, "b c 1 s"]) -> Float[Tensor, "b c 1 r"]:
        """Return the group's features at half the positions."""
        halves = F.avg_pool2d(features, (1, 2), ceil_mode=True)
        inner = F.relu(self.first(halves), inplace=True)
        inner = F.relu(self.second(inner), inplace=True)
        return F.relu(self.third(inner) + halves, inplace=True)


class InceptionModule(nn.Module):
    """Convolutions of several lengths side by side with the maxima of neighbours; batch norm.

    The branches see the input through 1x1 convolutions, which narrow it to their own width.
    """

    def __init__(self, width: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        n_channels = width * (len(kernels) + 1)
        self.narrow = convolution(n_channels, width, kernel=1)
        self.convs = nn.ModuleList([convolution(width, width, kernel) for kernel in kernels])
        self.to_pool = convolution(n_channels, width, kernel=1)
        self.norm = nn.BatchNorm2d(n_channels)

    def forward(self, features: Float[Tensor, "b c 1 s"]) -> Float[Tensor, "b c 1 s"]:
        """Return the branches side by side, normalised."""
        narrow = self.narrow(features)
        branches = [conv(narrow) for conv in self.convs]
        branches.append(_maxima(self.to_pool(features)))
        normalised: Tensor = self.norm(torch.cat(branches, dim=1))
        return normalised


def _maxima(features: Float[Tensor, "b c 1 s"]) -> Float[Tensor, "b c 1 s"]:
    """Return the maximum of each position and its neighbours; beyond the ends there are zeros.

    Not by max pooling: where windows overlap, a GPU adds up its gradient in any order.
    """
    padded = F.pad(features, (1, 1))
    pairs = _maximum(padded[..., 1:], padded[..., :-1])
    return _maximum(pairs[..., 1:], pairs[..., :-1])


def _maximum(one: Tensor, other: Tensor) -> Tensor:
    # torch.maximum takes three times as long, mostly to share gradients between ties (measured).
    return one + F.relu(other - one)
