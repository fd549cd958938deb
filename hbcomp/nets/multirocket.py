"""Four ways of pooling MiniRocket's convolutions, of the signal and of its difference: MultiRocket.

Tan, Dempster, Bergmeir and Webb, "MultiRocket: multiple pooling operators and transformations for
fast and effective time series classification", DMKD 2022 (arXiv:2102.00457), written from the
paper. Beside the share of positions above a bias there are the mean of how far they lie above it,
the mean of their positions, and the longest stretch of them.
"""

from functools import cache
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Generator, Tensor, nn

from hbcomp.nets.minirocket import MiniRocket

N_POOLINGS: Final = 4
WORD: Final = 16  # positions at a time in the search for the longest stretch


class MultiRocket(nn.Module):
    """The transform from signals to features, of two sets of convolutions."""

    def __init__(self, shape: tuple[int, int], n_features: int) -> None:
        super().__init__()
        n_channels, n_steps = shape
        n_convolved = n_features // (2 * N_POOLINGS)
        self.of_signal = PooledRocket((n_channels, n_steps), n_convolved)
        self.of_difference = PooledRocket((n_channels, max(1, n_steps - 1)), n_convolved)

    @property
    def n_features(self) -> int:
        """The number of features of a row, a multiple of 672."""
        return N_POOLINGS * (self.of_signal.n_features + self.of_difference.n_features)

    def fit(self, signals: Float32[Tensor, "n c t"], generator: Generator) -> None:
        """Draw the channels and the biases of both sets."""
        self.of_signal.fit(signals, generator)
        self.of_difference.fit(differences(signals), generator)

    def forward(self, signals: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b f"]:
        """Return the features of each row."""
        return torch.cat([self.of_signal(signals), self.of_difference(differences(signals))], dim=1)


class PooledRocket(MiniRocket):
    """MiniRocket's convolutions, pooled in four ways."""

    def _pool(
        self, outputs: Float32[Tensor, "k b p"], biases: Float32[Tensor, "k m"]
    ) -> list[Float32[Tensor, "m k b"]]:
        outputs = outputs.contiguous()
        pooled = [four_poolings(outputs - bias[:, None, None]) for bias in biases.T]
        return [torch.stack(each) for each in zip(*pooled, strict=True)]


def differences(signals: Float32[Tensor, "n c t"]) -> Float32[Tensor, "n c _"]:
    """Return the differences of neighbouring time steps; a single step has the difference 0."""
    return signals.diff(dim=2) if signals.shape[2] > 1 else torch.zeros_like(signals)


def four_poolings(above: Float32[Tensor, "k b p"]) -> tuple[Float32[Tensor, "k b"], ...]:
    """Return the share of positive values, their mean, their mean position, the longest stretch.

    Without a positive value the mean value is 0 and the mean position -1. Positions and stretches
    are in time steps.
    """
    n_positions = above.shape[2]
    is_positive = (above > 0).to(above.dtype)
    places = torch.arange(n_positions, device=above.device, dtype=above.dtype)
    count, of_places = (is_positive @ torch.stack([torch.ones_like(places), places], 1)).unbind(2)
    some = count.clamp(min=1)
    mean_value = (above.clamp_(min=0) @ torch.ones_like(places)) / some
    mean_place = torch.where(count > 0, of_places / some, -1.0)
    return count / n_positions, mean_value, mean_place, longest_stretch(is_positive)


def longest_stretch(is_positive: Float32[Tensor, "k b p"]) -> Float32[Tensor, "k b"]:
    """Return how many neighbouring positions are 1 at most.

    Sixteen positions are one number, whose stretches stand in tables: 3 times as fast on a CPU as
    a cumulative maximum (measured).
    """
    padded = F.pad(is_positive, (0, -is_positive.shape[2] % WORD))
    powers = 2.0 ** torch.arange(WORD, device=padded.device)
    words = (padded.view(*padded.shape[:2], -1, WORD) @ powers).int().unbind(2)
    first, last, inside = (table.to(padded.device) for table in stretches_of_words())
    running = longest = torch.zeros(padded.shape[:2], device=padded.device)
    for word in words:
        at_start, at_end = first[word], last[word]
        longest = torch.maximum(longest, torch.maximum(running + at_start, inside[word]))
        running = torch.where(at_start == WORD, running, 0.0) + at_end
    return longest


@cache
def stretches_of_words() -> tuple[Tensor, Tensor, Tensor]:
    """Return the stretch at the start, at the end and the longest one of every word of 16 bits."""
    bits = (torch.arange(2**WORD)[:, None] >> torch.arange(WORD) & 1).float()  # (w, 16)
    longest = running = torch.zeros(2**WORD)
    for bit in bits.T:
        running = (running + 1) * bit
        longest = torch.maximum(longest, running)
    return bits.cumprod(1).sum(1), running, longest
