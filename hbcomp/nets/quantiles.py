"""Quantiles of dyadic intervals of a signal, its differences and its spectrum, as in QUANT.

Dempster, Schmidt and Webb, "QUANT: A Minimalist Interval Method for Time Series Classification",
DMKD 2024 (arXiv:2308.00928), written from the paper. Halving a signal again and again gives dyadic
intervals; from the first halving on, the same ones shifted by half their length (rounded up) are
added. An interval of m values has 1 + (m - 1) // 4 quantiles, evenly spaced from minimum to
maximum, and from every second one the interval's mean is subtracted. All of this is done for the
signal, its smoothed first difference, its second difference, and the magnitudes of its Fourier
transform.
"""

from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor

MAX_DEPTH: Final = 6  # of the dyadic intervals: up to 32 of them side by side
DIVISOR: Final = 4  # values of an interval for each quantile
SMOOTHING: Final = 5  # first differences of which the mean is taken


def quantile_features(signals: Float32[Tensor, "n c t"]) -> Float32[Tensor, "n f"]:
    """Return the quantiles of all intervals of all representations of each row."""
    found: list[Tensor] = []
    for seen in representations(signals):
        found += [
            interval_quantiles(seen[:, :, start:end]).flatten(1)
            for start, end in intervals(seen.shape[2])
        ]
    return torch.cat(found, dim=1)


def representations(signals: Float32[Tensor, "n c t"]) -> list[Float32[Tensor, "n c _"]]:
    """Return the signal, its smoothed first difference, its second one, and its spectrum.

    A signal of fewer than three time steps has no differences.
    """
    found = [signals]
    if signals.shape[2] > 2:
        difference = signals.diff(dim=2)
        edge = SMOOTHING // 2
        padded = F.pad(difference, (edge, edge), mode="replicate")
        found += [F.avg_pool1d(padded, SMOOTHING, 1), difference.diff(dim=2)]
    return [*found, torch.fft.rfft(signals, dim=2).abs()]


def intervals(n_steps: int) -> list[tuple[int, int]]:
    """Return the start and the end of every interval, none of them empty."""
    found: list[tuple[int, int]] = []
    for depth in range(min(MAX_DEPTH, n_steps.bit_length())):
        n_parts = 2**depth
        edges = [n_steps * place // n_parts for place in range(n_parts + 1)]
        found += pairwise(edges)
        if n_parts > 1 and n_steps // n_parts > 1:
            half = -(-n_steps // (2 * n_parts))
            found += [(start + half, end + half) for start, end in found[-n_parts:-1]]
    return found


def interval_quantiles(values: Float32[Tensor, "n c m"]) -> Float32[Tensor, "n c q"]:
    """Return the quantiles of an interval, every second one less the interval's mean.

    A single one is the median.
    """
    n_values = values.shape[2]
    n_quantiles = 1 + (n_values - 1) // DIVISOR
    if n_quantiles == 1:
        places = torch.tensor([(n_values - 1) / 2])
    else:
        places = torch.linspace(0, n_values - 1, n_quantiles, dtype=torch.float64)
    lower = places.long()
    share = (places - lower).to(values)
    ordered = values.sort(dim=2).values
    below, above = (
        ordered[:, :, each.to(values.device)]
        for each in (lower, (lower + 1).clamp(max=n_values - 1))
    )
    quantiles = below + share * (above - below)
    quantiles[:, :, 1::2] -= values.mean(dim=2, keepdim=True)
    return quantiles
