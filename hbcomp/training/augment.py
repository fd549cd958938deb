"""Random changes of a batch of signals that keep its labels."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from hbcomp.system.config import Section


class AugmentConfig(Section):
    """How strongly each change is applied, in the units of `signals.scale`; 0 switches it off."""

    scale: float = Field(default=0.0, ge=0)  # standard deviation of the amplitude factor around 1
    noise: float = Field(default=0.0, ge=0)  # standard deviation of the noise per time step
    shift: int = Field(default=0, ge=0)  # largest shift in time steps, either way
    channel_dropout: float = Field(default=0.0, ge=0, lt=1)  # share of channels set to rest


def augment(
    signals: Float[Tensor, "b c t"],
    config: AugmentConfig,
    generator: Generator,
    rest: Float[Tensor, "c 1"] | float = 0.0,
) -> Float[Tensor, "b c t"]:
    """Return the batch of scaled signals changed at random; NaN, which is no value, stays NaN.

    The order is shift, scale, noise, channel dropout. A shift moves a signal within its row and
    fills the gap with NaN. The channels of a row are shifted and scaled together, the amplitude
    being measured from `rest`, which a dropped channel has as its values. Noise leaves time steps
    alone at which all channels are exactly zero: on the scale `min-max` a recording is at its
    lowest or cut off there, and the scores of the heartbeat presets were measured so.
    """
    if config.shift:
        signals = _shift(signals, config.shift, generator)
    is_nonzero = (signals != 0).any(dim=1, keepdim=True)
    if config.scale:
        factors = _normal(signals[:, :1, :1], generator)
        signals = (signals - rest) * (1 + config.scale * factors) + rest
    if config.noise:
        signals = signals + config.noise * _normal(signals, generator) * is_nonzero
    if config.channel_dropout:
        draws = torch.rand(
            signals.shape[:2], generator=generator, device=signals.device, dtype=signals.dtype
        )
        is_kept = (draws >= config.channel_dropout)[:, :, None]
        signals = torch.where(is_kept | signals.isnan(), signals, rest)
    return signals


def _normal(like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _shift(signals: Tensor, largest: int, generator: Generator) -> Tensor:
    n_rows, _, n_timepoints = signals.shape
    steps = torch.randint(
        -largest, largest + 1, (n_rows, 1), generator=generator, device=signals.device
    )
    source = torch.arange(n_timepoints, device=signals.device) - steps  # (b, t)
    is_inside = (source >= 0) & (source < n_timepoints)
    places = source.clamp(0, n_timepoints - 1)[:, None].expand(signals.shape)
    return signals.gather(2, places).where(is_inside[:, None], torch.nan)
