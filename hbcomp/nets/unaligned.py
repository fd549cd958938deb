"""What nets for signals that are not aligned share: a stem that shortens, and a mean over values.

A feature counts the same wherever it occurs, because nothing here knows a position. However long
the signals are, the nets behind the stem see a bounded number of positions, so that memory and time
grow with the stem alone.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hbcomp.nets.base import convolution

KERNEL: Final = 9  # of the stem's convolutions, twice the largest stride and more
RISES: Final = (2, 4, 8, 16, 32, 64)  # lengths in time steps, those of the paper
PEAKS: Final = (6, 12, 24, 48, 96)
MOST_AVERAGED: Final = 4  # neighbours; positions further apart than that see longer filters
MOST_FILTERED: Final = 16  # channels; assumed: 22 features of each


class Stem(nn.Module):
    """Strided convolutions beside fixed filters, and a mixture of both at each position.

    Each convolution has twice the channels of the one before, because there are fewer positions:
    at 16,000 time steps the first would take most of the memory. The input has the mask as its last
    channel.
    """

    def __init__(self, shape: tuple[int, int], width: int, n_positions: int) -> None:
        super().__init__()
        n_channels, n_timepoints = shape
        strides = strides_to(n_timepoints, n_positions) or (1,)
        widths = [max(1, width >> doublings) for doublings in reversed(range(len(strides)))]
        layers: list[nn.Module] = []
        for n_in, n_out, stride in zip((n_channels, *widths), widths, strides, strict=False):
            layers += [
                convolution(n_in, n_out, KERNEL, stride=stride),
                nn.BatchNorm2d(n_out),
                nn.ReLU(inplace=True),
            ]
            n_timepoints = -(-n_timepoints // stride)
        self.learned = nn.Sequential(*layers)
        self.stride = math.prod(strides)
        self.fixed = FixedFilters(n_channels - 1, self.stride)
        self.mix = nn.Sequential(
            convolution(width + self.fixed.n_features, width, kernel=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.n_positions = n_timepoints

    def forward(self, signals: Float[Tensor, "b c 1 t"]) -> Float[Tensor, "b w 1 s"]:
        """Return the features of each position."""
        both = torch.cat([self.learned(signals), self.fixed(signals[:, :-1])], dim=1)
        features: Tensor = self.mix(both)
        return features


def strides_to(n_timepoints: int, n_positions: int) -> tuple[int, ...]:
    """Return strides of 4, and of 2 at last, which leave at most `n_positions`; none if few."""
    strides = []
    while n_timepoints > n_positions:
        strides.append(4 if n_timepoints > 2 * n_positions else 2)
        n_timepoints = -(-n_timepoints // strides[-1])
    return tuple(strides)


def cut_to(n_positions: int, kernels: Sequence[int]) -> tuple[int, ...]:
    """Return the kernels no longer than the positions, or one longer, to be odd."""
    return tuple(min(kernel, n_positions | 1) for kernel in kernels)


class FixedFilters(nn.Module):
    """Rises, falls, peaks and valleys of several lengths in each channel, as positive numbers.

    After the hand-made filters of Ismail-Fawaz et al. 2022 (IEEE Big Data, "Deep Learning For Time
    Series Classification Using New Hand-Crafted Convolution Filters") and LITE (2023,
    arXiv:2409.02869). A rise is the mean of the second half less that of the first, not the paper's
    alternating signs. Nothing about them is learned but the scale and the offset of batch norm. Of
    more than 16 channels they see 16 mixtures.
    """

    filters: Tensor

    def __init__(self, n_channels: int, stride: int) -> None:
        super().__init__()
        n_filtered = min(n_channels, MOST_FILTERED)
        self.narrow = (
            convolution(n_channels, n_filtered, kernel=1)
            if n_filtered < n_channels
            else nn.Identity()
        )
        self.stride = max(1, stride // MOST_AVERAGED)
        self.n_averaged = stride // self.stride
        filters = fixed_filters(unit=self.stride)
        self.register_buffer("filters", filters, persistent=False)
        self.norm = nn.BatchNorm2d(n_filtered * len(filters))
        self.n_features = 2 * n_filtered * len(filters)

    def forward(self, signals: Float[Tensor, "b c 1 t"]) -> Float[Tensor, "b f 1 s"]:
        """Return the features of each position."""
        one_by_one = self.narrow(signals).flatten(0, 1)[:, None]
        padding = (0, self.filters.shape[3] // 2)
        found = F.conv2d(one_by_one, self.filters, stride=(1, self.stride), padding=padding)
        # Not len(signals), which torch.export would take for a constant.
        scaled = self.norm(found.reshape(signals.shape[0], -1, *found.shape[2:]))
        both = torch.cat([F.relu(scaled), F.relu(-scaled)], dim=1)
        if self.n_averaged == 1:  # pooling would copy them
            return both
        return F.avg_pool2d(both, (1, self.n_averaged), ceil_mode=True)


def fixed_filters(unit: int) -> Float[Tensor, "f 1 1 l"]:
    """Return the rises and the peaks, centred, each of norm 1; lengths are multiples of `unit`."""
    rises = [torch.ones(unit * length).where(_is_late(unit * length), -1.0) for length in RISES]
    filters = [*rises, *(_peak(unit * length) for length in PEAKS)]
    longest = max(map(len, filters)) | 1  # odd, to keep the length
    padded = torch.zeros(len(filters), 1, 1, longest)
    for line, values in zip(padded, filters, strict=True):
        start = (longest - len(values)) // 2
        line[..., start : start + len(values)] = values / values.norm()
    return padded


def _is_late(length: int) -> Tensor:
    return torch.arange(length) >= length // 2


def _peak(length: int) -> Tensor:
    """Return a parabolic bump, and a negative one of half its height at either side."""
    slope = torch.linspace(0, 1, length // 4 + 1)[1:].square()
    bump = torch.cat([slope, slope.flip(0)])
    return torch.cat([-bump, 2 * bump, -bump])


def share_of_values(mask: Float[Tensor, "b 1 1 t"], stride: int) -> Float[Tensor, "b 1 1 s"]:
    """Return how much of each of the `stride` wide windows has values."""
    return F.avg_pool2d(mask, (1, stride), ceil_mode=True)


def mean_of_values(
    features: Float[Tensor, "b c 1 s"], shares: Float[Tensor, "b 1 1 s"]
) -> Float[Tensor, "b c"]:
    """Return the mean of each channel where there are values; 0 of a row without any."""
    total = (features * shares).sum((2, 3))
    return total / shares.sum((2, 3)).clamp(min=torch.finfo(shares.dtype).tiny)
