"""InceptionTime for signals that are not aligned, small enough for a CPU.

After Ismail Fawaz et al. 2020 (arXiv:1909.04939): modules of three long kernels side by side, a
shortcut over every third module, and a head that sees nothing but the mean of each channel. It has
the modules of `inception`, whose head sees positions. What differs from the paper, and why:

- A strided stem, and averages of pairs before each three modules, so that these work at 64 and 32
  positions at most: the cost of a long signal is that of its stem. Kernels are no longer than the
  positions.
- The stem also has fixed filters, as H-InceptionTime and LITE (arXiv:2409.02869) have.
- The mean is over time steps that have values.
- One net is one model: the paper's mean of five is left to seeds.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from hbcomp.nets.base import NetConfig, Shape, as_channels_last, halved
from hbcomp.nets.inception import Group
from hbcomp.nets.sizes import Dropout, Kernels, Size
from hbcomp.nets.unaligned import Stem, cut_to, mean_of_values, share_of_values


class InceptionTimeConfig(NetConfig):
    """Groups of three modules behind the stem; a module has `width` channels in each branch."""

    name: Literal["inception-time"] = "inception-time"
    n_positions: Size = 128  # of the stem's output, at most
    n_groups: Size = 2
    width: Size = 16
    kernels: Kernels = (39, 19, 9)
    dropout: Dropout = 0.0  # before the last layer

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 113,946 parameters for 205 timepoints and 4 classes."""
        return as_channels_last(InceptionTime(self, shape, n_classes))


class InceptionTime(nn.Module):
    """A stem, groups of modules with a shortcut each, the mean over time, and a linear layer."""

    def __init__(self, config: InceptionTimeConfig, shape: Shape, n_classes: int) -> None:
        super().__init__()
        width = config.width * (len(config.kernels) + 1)
        self.stem = Stem(shape, width, config.n_positions)
        groups = []
        for place in range(config.n_groups):
            n_positions = halved(self.stem.n_positions, times=place + 1)
            groups.append(Group(config.width, cut_to(n_positions, config.kernels)))
        self.groups = nn.Sequential(*groups)
        self.stride = self.stem.stride << config.n_groups
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, n_classes))

    def forward(self, signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        line = signals[:, :, None]
        features = self.groups(self.stem(line))  # (b, c, 1, s)
        logits: Tensor = self.head(
            mean_of_values(features, share_of_values(line[:, -1:], self.stride))
        )
        return logits
