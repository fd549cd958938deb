"""What stands between the signals of the files and a net: their scale, and where they have values.

NaN is "no value": the padding of a shorter row, or a missing value. A net gets numbers only, and
a mask beside them, so that a signal which really ends in zeros is not taken for a shorter one.
"""

from collections.abc import Iterator
from typing import Any, Final, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from hbcomp.nets.signals import SignalsConfig

FIT_VALUES: Final = 1 << 20  # at once: 8 MB of float64
# A channel whose deviation is rounding noise of its offset is constant: eight times float32's.
LEAST_DEVIATION: Final = 1e-6


@runtime_checkable
class Rows(Protocol):
    """Signals of the shape `(n, c, t)` that are taken by their rows: a tensor, or streamed ones."""

    @property
    def shape(self) -> Any:
        """The rows, the channels and the time steps."""

    def __getitem__(self, rows: Any, /) -> Tensor:
        """Return these rows as a tensor."""


class Scale(nn.Module):
    """The scale of each channel as buffers, which are stored with a net's weights."""

    offset: Tensor
    unit: Tensor

    def __init__(self, config: SignalsConfig, n_channels: int) -> None:
        super().__init__()
        self.name = config.scale
        self.register_buffer("offset", torch.zeros(n_channels, 1))
        self.register_buffer("unit", torch.ones(n_channels, 1))

    def fit(self, signals: Rows, rows: Int64[Tensor, " r"]) -> None:
        """Learn the scale from these rows alone; a channel that does not vary keeps its unit.

        In float64 on the CPU, so that all devices have the same numbers.
        """
        fits = {"min-max": _range, "standardise": _mean_and_deviation}
        if self.name not in fits:
            return
        offset, unit = fits[self.name](signals, rows)
        self.offset.copy_(offset[:, None])
        self.unit.copy_(unit[:, None])

    @property
    def rest(self) -> Float32[Tensor, "c 1"]:
        """The value on this scale from which a channel's amplitude is measured.

        On `min-max` it is the file's zero, or the end of the range that is nearest to it; elsewhere
        it is 0, a mean or again the file's zero.
        """
        if self.name != "min-max":
            return torch.zeros_like(self.offset)
        return (-self.offset / self.unit).clamp(0, 1)

    def forward(self, signals: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b c t"]:
        """Return the signals on this scale; NaN stays NaN."""
        offset, unit = _of_each_row(signals) if self.name == "per-row" else (self.offset, self.unit)
        return (signals - offset) / unit


class NetInput(nn.Module):
    """From scaled signals to numbers without NaN, with the mask as a last channel if asked for.

    `min-max` is stretched from [0, 1] to [-1, 3], because the values of such signals lie mostly
    near 0.25; where there is no value it has -1, and every other scale has 0.
    """

    def __init__(self, config: SignalsConfig, *, has_mask: bool) -> None:
        super().__init__()
        self.factor, self.shift = (4.0, -1.0) if config.scale == "min-max" else (1.0, 0.0)
        self.has_mask = has_mask

    def forward(self, signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b d t"]:
        """Return the input of a net; the mask is 1 where any channel has a value."""
        is_value = ~signals.isnan()
        filled = torch.where(is_value, signals * self.factor + self.shift, self.shift)
        if not self.has_mask:
            return filled
        mask = is_value.any(1).to(filled.dtype)
        by_step = torch.cat([filled.transpose(1, 2), mask[:, :, None]], dim=2)
        return by_step.transpose(1, 2)  # channels last in memory


def _chunks(signals: Rows, rows: Tensor) -> Iterator[Tensor]:
    n_values = signals.shape[1] * signals.shape[2]
    for some in torch.split(rows, max(1, FIT_VALUES // n_values)):
        yield signals[some].cpu()


def _range(signals: Rows, rows: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.full((signals.shape[1],), torch.inf, dtype=torch.float64)
    high = -low
    for some in _chunks(signals, rows):
        is_none = some.isnan()
        # In place, because small tensors that stay keep malloc from joining the freed chunks.
        torch.minimum(low, some.masked_fill(is_none, torch.inf).amin((0, 2)).double(), out=low)
        torch.maximum(high, some.masked_fill(is_none, -torch.inf).amax((0, 2)).double(), out=high)
    return low.masked_fill(low > high, 0), _unit(high - low, high.abs())


def _mean_and_deviation(signals: Rows, rows: Tensor) -> tuple[Tensor, Tensor]:
    n, total, squares = torch.zeros(3, signals.shape[1], dtype=torch.float64)
    for some in _chunks(signals, rows):
        n += (~some.isnan()).sum((0, 2))
        total += some.double().nansum((0, 2))
    mean = total / n.clamp(min=1)
    for some in _chunks(signals, rows):
        squares += (some.double() - mean[:, None]).square().nansum((0, 2))
    return mean, _unit((squares / n.clamp(min=1)).sqrt(), mean.abs())


def _of_each_row(signals: Tensor) -> tuple[Tensor, Tensor]:
    count = (~signals.isnan()).sum(2, keepdim=True).clamp(min=1)
    mean = signals.nansum(2, keepdim=True) / count
    deviation = ((signals - mean).square().nansum(2, keepdim=True) / count).sqrt()
    return mean, _unit(deviation, mean.abs())


def _unit(spread: Tensor, size: Tensor) -> Tensor:
    """Return the spread of each channel, or 1 where the values do not vary."""
    return torch.where(spread > LEAST_DEVIATION * size, spread, 1.0)
