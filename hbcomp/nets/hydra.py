"""Counts of which of a group's random kernels fits best at each time step: Hydra.

Dempster, Schmidt and Webb, "HYDRA: Competing convolutional kernels for fast and accurate time
series classification", DMKD 2023 (arXiv:2203.13652), written from the paper. In every group of
eight random kernels of length 9, at each dilation that is a power of 2, the kernel with the largest
output at a time step gains that output, and the one with the smallest output gains one count. Half
of the groups look at the signal, half at its first difference. A feature is the square root of a
kernel's gain. Kernels that tie all gain.

With several channels each group sees a random subset of them, as in MiniRocket.
"""

import math
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32
from torch import Generator, Tensor, nn

from hbcomp.nets.minirocket import LENGTH, draw_channels
from hbcomp.nets.multirocket import differences

N_COMPETING: Final = 8  # kernels of a group
N_GROUPS: Final = 32  # that look at the signal, and as many at its difference
CHUNK_VALUES: Final = 2**19  # convolution outputs at a time: 2 MiB, which caches hold


class Hydra(nn.Module):
    """The transform from signals to features; `fit` draws its kernels, whatever the rows are."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        n_channels, n_steps = shape
        # So that a kernel fits the signal, if it does at all.
        self.n_dilations = 1 + int(math.log2(max(1, (n_steps - 1) // (LENGTH - 1))))
        kernels = torch.zeros(2, self.n_dilations, N_GROUPS * N_COMPETING, LENGTH)
        channels = torch.ones(2, self.n_dilations, N_GROUPS, n_channels, dtype=torch.bool)
        self.register_buffer("kernels", kernels)
        self.register_buffer("channels", channels)
        self.kernels: Tensor
        self.channels: Tensor

    @property
    def n_features(self) -> int:
        """The number of features of a row."""
        return 2 * 2 * self.n_dilations * N_GROUPS * N_COMPETING

    @torch.no_grad()
    def fit(self, signals: Float32[Tensor, "n c t"], generator: Generator) -> None:
        """Draw the kernels, of mean 0 and absolute sum 1, and the channels of each group."""
        drawn = torch.randn(self.kernels.shape, generator=generator)
        drawn -= drawn.mean(dim=3, keepdim=True)
        self.kernels.copy_(drawn / drawn.abs().sum(dim=3, keepdim=True))
        for of_view in self.channels:
            for seen in of_view:
                seen.copy_(draw_channels(signals.shape[1], generator, N_GROUPS))

    def forward(self, signals: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b f"]:
        """Return the features of each row."""
        chunk = max(1, CHUNK_VALUES // (N_GROUPS * N_COMPETING * signals.shape[2]))
        return torch.cat([self._features(some) for some in torch.split(signals, chunk)])

    def _features(self, signals: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b f"]:
        views = (signals, differences(signals))
        return torch.cat(
            [
                competition(outputs_of_groups(seen, kernels, channels, 2**exponent))
                for seen, of_view, seen_channels in zip(
                    views, self.kernels, self.channels, strict=True
                )
                for exponent, (kernels, channels) in enumerate(
                    zip(of_view, seen_channels, strict=True)
                )
            ],
            dim=1,
        )


def outputs_of_groups(
    signals: Float32[Tensor, "b c t"],
    kernels: Float32[Tensor, "h 9"],
    channels: Bool[Tensor, "g c"],
    dilation: int,
) -> Float32[Tensor, "g 8 b t"]:
    """Return the convolutions of each group's kernels with the sum of its channels."""
    n_rows, n_channels, n_steps = signals.shape
    pad = dilation * (LENGTH // 2)
    if n_channels == 1:
        summed = signals[:, 0][None]  # (1, b, t), the same for all groups
    else:
        summed = torch.einsum("bct,gc->gbt", signals, channels.to(signals.dtype))
    padded = F.pad(summed, (pad, pad))
    shifted = padded.as_strided(
        (len(summed), LENGTH, n_rows, n_steps), (padded.stride(0), dilation, padded.stride(1), 1)
    ).flatten(2)  # (1 or g, 9, b t)
    outputs = kernels.view(N_GROUPS, N_COMPETING, LENGTH) @ shifted
    return outputs.view(N_GROUPS, N_COMPETING, n_rows, n_steps)


def competition(outputs: Float32[Tensor, "g 8 b t"]) -> Float32[Tensor, "b f"]:
    """Return the square roots of what every kernel gains by largest and by smallest outputs."""
    ones = outputs.new_ones(outputs.shape[3])
    largest, smallest = outputs.amax(1, keepdim=True), outputs.amin(1, keepdim=True)
    # Truth values as numbers in one place: 3 times as fast on a CPU (measured).
    is_best = torch.eq(outputs, largest, out=torch.empty_like(outputs))
    won = is_best.mul_(largest) @ ones  # (g, 8, b)
    lost = torch.eq(outputs, smallest, out=is_best) @ ones
    return torch.stack([won, lost]).clamp(min=0).sqrt().flatten(0, 2).T
