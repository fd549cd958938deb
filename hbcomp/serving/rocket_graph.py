"""The net `rocket` in operations that ONNX has: those of `hbcomp.nets`, which are fast, are not.

Features are compared with thresholds, so a difference of rounding can move a position from one side
to the other: probabilities of the two differ more than those of other nets.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from hbcomp.nets.hydra import N_COMPETING, N_GROUPS, Hydra
from hbcomp.nets.minirocket import LENGTH, MiniRocket, kernel_weights, padded_and_not
from hbcomp.nets.multirocket import differences
from hbcomp.nets.rocket import Rocket


class RocketGraph(nn.Module):
    """A rocket net with minirocket's and hydra's features, and no others."""

    def __init__(self, net: Rocket) -> None:
        super().__init__()
        self.net = net

    def forward(self, signals: Float32[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        bridged = without_gaps(signals)
        found = []
        for transform in self.net.transforms.values():
            if isinstance(transform, MiniRocket):
                found.append(minirocket(transform, bridged))
            else:
                found.append(hydra(cast(Hydra, transform), bridged))
        logits: Tensor = self.net.head(torch.cat(found, dim=1))
        return logits


def without_gaps(signals: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b c t"]:
    """Return what `hbcomp.nets.base.without_gaps` returns, without a cumulative maximum."""
    is_gap, n_steps = signals.isnan(), signals.shape[2]
    steps = torch.arange(n_steps, dtype=signals.dtype)
    before = running_max(torch.where(is_gap, -1.0, steps))
    after = -running_max(torch.where(is_gap, -float(n_steps), -steps).flip(2)).flip(2)
    first = signals.gather(2, before.clamp(min=0).long())
    last = signals.gather(2, after.clamp(max=n_steps - 1).long())
    share = (steps - before) / (after - before).clamp(min=1)
    is_inside = (before >= 0) & (after < n_steps)
    return torch.where(is_inside, first + share * (last - first), 0.0)


def running_max(values: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b c t"]:
    """Return the maximum up to each step, in as many operations as the length has bits."""
    shift, n_steps = 1, values.shape[2]
    while shift < n_steps:
        earlier = F.pad(values[:, :, :-shift], (shift, 0), value=-torch.inf)
        values, shift = torch.maximum(values, earlier), 2 * shift
    return values


def minirocket(net: MiniRocket, signals: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b f"]:
    """Return the shares of positions above each bias, in the order of the net."""
    found, start = [], 0
    for channels, (dilation, n_biases) in zip(net.channels, net.dilations, strict=True):
        outputs = convolutions(signals, channels, kernel_weights(), dilation)
        biases = net.biases[:, start : start + n_biases]
        for kernels, inside in padded_and_not(dilation, signals.shape[2]):
            # All biases at once: an operation of each would take minutes to write.
            is_above = outputs[:, kernels, None, inside] > biases[kernels, :, None]
            found.append(is_above.float().mean(3).flatten(1))
        start += n_biases
    return torch.cat(found, dim=1)


def hydra(net: Hydra, signals: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b f"]:
    """Return the roots of what every kernel gains, in the order of the net."""
    found = []
    views = (signals, differences(signals))
    for seen, of_view, seen_channels in zip(views, net.kernels, net.channels, strict=True):
        for exponent, (kernels, channels) in enumerate(zip(of_view, seen_channels, strict=True)):
            of_kernels = channels.repeat_interleave(N_COMPETING, dim=0)
            outputs = convolutions(seen, of_kernels, kernels, 2**exponent)
            groups = torch.unflatten(outputs, 1, (N_GROUPS, N_COMPETING))  # (b, g, 8, t)
            largest, smallest = groups.amax(2, keepdim=True), groups.amin(2, keepdim=True)
            won = ((groups == largest).float() * largest).sum(3)
            lost = (groups == smallest).float().sum(3)
            gains = torch.stack([won, lost], dim=1).clamp(min=0)
            found.append(gains.sqrt().flatten(1))
    return torch.cat(found, dim=1)


def convolutions(
    signals: Float32[Tensor, "b c t"],
    channels: Bool[Tensor, "k c"],
    weights: Float32[Tensor, "k 9"],
    dilation: int,
) -> Float32[Tensor, "b k t"]:
    """Return each kernel's convolution with the sum of its channels, as long as the signal."""
    n_groups, seen = 1, signals
    if signals.shape[1] > 1:
        n_groups = len(weights)
        seen = torch.einsum("bct,kc->bkt", signals, channels.to(signals.dtype))
    pad = dilation * (LENGTH // 2)
    return F.conv1d(seen, weights[:, None], padding=pad, dilation=dilation, groups=n_groups)
