"""Shares of positive values of many small fixed convolutions: MiniRocket, and MultiRocket's more.

Dempster, Schmidt and Webb, "MiniRocket: A Very Fast (Almost) Deterministic Transform for Time
Series Classification", KDD 2021 (arXiv:2012.08791), written from the paper. All 84 kernels of
length 9 whose weights are -1 six times and 2 three times, at dilations spread evenly on a
logarithmic scale up to the length of the signal, with biases that are quantiles of the convolutions
of training rows. A feature is the share of positions at which the convolution exceeds its bias.

Tan, Dempster, Bergmeir and Webb, "MultiRocket: multiple pooling operators and transformations for
fast and effective time series classification", DMKD 2022 (arXiv:2102.00457), also convolves the
first difference, and pools in three further ways.

With several channels each pair of kernel and dilation sees a random subset of them, whose size is
2^u of a uniform u: few channels often, many sometimes.
"""

import math
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32
from torch import Generator, Tensor, nn

LENGTH: Final = 9  # of a kernel
N_TWOS: Final = 3  # weights of 2 in it, the others being -1: the sum is 0
N_KERNELS: Final = math.comb(LENGTH, N_TWOS)
MAX_DILATIONS: Final = 32  # of each kernel
MAX_CHANNELS: Final = 9  # of a subset
GOLDEN: Final = (math.sqrt(5) + 1) / 2  # multiples of it fill [0, 1) evenly, however many
CHUNK_VALUES: Final = 2**19  # convolution outputs at a time: 2 MiB, which caches hold


class MiniRocket(nn.Module):
    """The transform from signals to features; `fit` draws what is random or depends on rows."""

    def __init__(self, shape: tuple[int, int], n_features: int) -> None:
        super().__init__()
        n_channels, n_steps = shape
        self.n_biases = max(1, n_features // N_KERNELS)  # of a kernel
        self.dilations = spread_dilations(n_steps, self.n_biases)
        n_dilations = len(self.dilations)
        self.register_buffer(
            "channels", torch.ones(n_dilations, N_KERNELS, n_channels, dtype=torch.bool)
        )
        self.register_buffer("biases", torch.zeros(N_KERNELS, self.n_biases))
        self.channels: Tensor
        self.biases: Tensor

    @property
    def n_features(self) -> int:
        """The number of features of a row, a multiple of 84."""
        return N_KERNELS * self.n_biases

    @torch.no_grad()
    def fit(self, signals: Float32[Tensor, "n c t"], generator: Generator) -> None:
        """Draw the channels, and the biases from convolutions of these rows; no labels are needed.

        Each pair of kernel and dilation takes the quantiles of one row.
        """
        n_rows, n_channels, n_steps = signals.shape
        shares = quantile_shares(self.n_biases).to(signals.device)
        weights = kernel_weights().to(signals.device)
        for place, (dilation, biases) in enumerate(self._parts()):
            self.channels[place] = draw_channels(n_channels, generator)
            rows = torch.randint(n_rows, (N_KERNELS,), generator=generator)
            seen = signals[rows.to(signals.device)] * self.channels[place][:, :, None]
            # Each row with its own kernel alone.
            own = (shifted(seen.sum(1), dilation) * weights.T[:, :, None]).sum(0)  # (84, t)
            for kernels, inside in padded_and_not(dilation, n_steps):
                levels = torch.quantile(own[kernels, inside], shares[biases], dim=1)
                self.biases[kernels, biases] = levels.T

    def forward(self, signals: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b f"]:
        """Return the features of each row, from 0 to 1."""
        chunk = max(1, CHUNK_VALUES // (N_KERNELS * signals.shape[2]))
        return torch.cat([self._features(some) for some in torch.split(signals, chunk)])

    def _features(self, signals: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b f"]:
        found = []
        for place, (dilation, biases) in enumerate(self._parts()):
            outputs = convolve(signals, dilation, self.channels[place])  # (84, b, t)
            for kernels, inside in padded_and_not(dilation, signals.shape[2]):
                pooled = self._pool(outputs[kernels, :, inside], self.biases[kernels, biases])
                found += [each.permute(2, 1, 0).flatten(1) for each in pooled]
        return torch.cat(found, dim=1)

    def _pool(
        self, outputs: Float32[Tensor, "k b p"], biases: Float32[Tensor, "k m"]
    ) -> list[Float32[Tensor, "m k b"]]:
        return [shares_above(outputs, biases)]

    def _parts(self) -> Iterator[tuple[int, slice]]:
        """Yield every dilation with the place of its biases among those of a kernel."""
        start = 0
        for dilation, n_biases in self.dilations:
            yield dilation, slice(start, start + n_biases)
            start += n_biases


def shares_above(
    outputs: Float32[Tensor, "k b p"], biases: Float32[Tensor, "k m"]
) -> Float32[Tensor, "m k b"]:
    """Return the share of positions at which each kernel's output exceeds each of its biases."""
    is_above = torch.empty_like(outputs, memory_format=torch.contiguous_format)
    mean = outputs.new_full((outputs.shape[2],), 1 / outputs.shape[2])
    found = []
    for bias in biases.T:
        # Truth values as numbers, whose sums are products with ones: 7 times as fast on a CPU as
        # the mean of truth values (measured).
        torch.gt(outputs, bias[:, None, None], out=is_above)
        found.append(is_above @ mean)
    return torch.stack(found)


@cache
def kernel_weights() -> Float32[Tensor, "84 9"]:
    """Return the 84 kernels, which nobody may change."""
    weights = torch.full((N_KERNELS, LENGTH), -1.0)
    for kernel, places in zip(weights, combinations(range(LENGTH), N_TWOS), strict=True):
        kernel[list(places)] = 2.0
    return torch.cat([weights[::2], weights[1::2]])  # every other one looks beyond the ends


def convolve(
    signals: Float32[Tensor, "b c t"], dilation: int, channels: Bool[Tensor, "84 c"]
) -> Float32[Tensor, "84 b t"]:
    """Return each kernel's convolution with the sum of its channels, as long as the signal.

    Beyond its ends a signal is taken to be 0.
    """
    weights = kernel_weights().to(signals.device)
    n_rows, n_channels, n_steps = signals.shape
    if n_channels > 1:
        summed = torch.einsum("bct,kc->bkt", signals, channels.to(signals.dtype))
        pad = dilation * (LENGTH // 2)
        outputs = F.conv1d(
            summed, weights[:, None], padding=pad, dilation=dilation, groups=N_KERNELS
        )
        return outputs.transpose(0, 1)
    # One product with nine shifted copies: 3 times as fast on a CPU as conv1d (measured).
    copies = shifted(signals[:, 0], dilation).reshape(LENGTH, -1)
    return (weights @ copies).view(N_KERNELS, n_rows, n_steps)


def shifted(signals: Float32[Tensor, "b t"], dilation: int) -> Float32[Tensor, "9 b t"]:
    """Return the values that each weight of a kernel meets at every position, 0 beyond the ends."""
    pad = dilation * (LENGTH // 2)
    padded = F.pad(signals, (pad, pad))
    return padded.as_strided((LENGTH, *signals.shape), (dilation, padded.stride(0), 1))


def padded_and_not(dilation: int, n_steps: int) -> Iterator[tuple[slice, slice]]:
    """Yield which kernels look at which positions: half of them only where they fit inside.

    Which ones alternates with the dilation's parity in the paper; here it is the same kernels at
    every dilation, which makes no difference to how many they are.
    """
    edge = dilation * (LENGTH // 2)
    yield slice(0, N_KERNELS // 2), slice(None)
    fits = n_steps > 2 * edge
    yield slice(N_KERNELS // 2, None), slice(edge, n_steps - edge) if fits else slice(None)


def spread_dilations(n_steps: int, n_biases: int) -> list[tuple[int, int]]:
    """Return the dilations and how many of a kernel's biases each has.

    The exponents go evenly from 0 to that of the largest dilation at which a kernel still fits the
    signal; equal dilations are joined, and together the dilations have all `n_biases`. A signal
    that is too short for a kernel has dilation 1 alone.
    """
    n_dilations = min(n_biases, MAX_DILATIONS)
    largest = math.log2(max(1.0, (n_steps - 1) / (LENGTH - 1)))
    # The last power rounds to just below an integer at some lengths.
    exponents = [largest * place / max(1, n_dilations - 1) for place in range(n_dilations)]
    rounded = [int(2**exponent + 1e-9) for exponent in exponents]
    counts = {dilation: rounded.count(dilation) for dilation in sorted({*rounded})}
    found = {dilation: n * n_biases // n_dilations for dilation, n in counts.items()}
    for place in range(n_biases - sum(found.values())):  # what rounding down has left over
        found[sorted(found)[place % len(found)]] += 1
    return list(found.items())


def quantile_shares(n_shares: int) -> Float32[Tensor, " m"]:
    """Return the quantiles that biases are, a low-discrepancy sequence in (0, 1)."""
    return torch.tensor([(place * GOLDEN) % 1.0 for place in range(1, n_shares + 1)])


def draw_channels(
    n_channels: int, generator: Generator, n_subsets: int = N_KERNELS
) -> Bool[Tensor, "s c"]:
    """Return random subsets of the channels; of a single one, the channel itself."""
    if n_channels == 1:
        return torch.ones(n_subsets, 1, dtype=torch.bool)
    most = math.log2(min(n_channels, MAX_CHANNELS) + 1)
    sizes = (2 ** (torch.rand(n_subsets, generator=generator) * most)).int()
    order = torch.rand(n_subsets, n_channels, generator=generator).argsort(dim=1).argsort(dim=1)
    return order < sizes[:, None]
