"""Optimisers, learning-rate schedules and averaged weights."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hbcomp.config import Section

Beta = Annotated[float, Field(ge=0, lt=1)]

FINAL_FRACTION = 1e-3  # of the peak, where one-cycle ends; at exactly 0 the last step is wasted


class OneCycle(Section):
    """Half a cosine up to the peak and half a cosine down to a thousandth of it.

    Smith & Topin 2018, arXiv:1708.07120.
    """

    kind: Literal["one-cycle"] = "one-cycle"
    warmup: float = Field(default=0.25, ge=0, lt=1)  # share of all steps

    def factor(self, progress: float, step_share: float) -> float:
        """Return the share of the peak at this progress; the first step is not at zero."""
        if progress < self.warmup:
            return _half_cosine((progress + step_share) / (self.warmup + step_share))
        falling = _half_cosine((1 - progress) / (1 - self.warmup))
        return FINAL_FRACTION + (1 - FINAL_FRACTION) * falling


class Linear(Section):
    """Straight up to the peak and straight down towards zero."""

    kind: Literal["linear"] = "linear"
    warmup: float = Field(default=0.25, ge=0, lt=1)  # share of all steps

    def factor(self, progress: float, step_share: float) -> float:
        """Return the share of the peak at this progress; no step is at zero."""
        if progress < self.warmup:
            return (progress + step_share) / (self.warmup + step_share)
        return (1 - progress) / (1 - self.warmup)


class StepDecay(Section):
    """The peak, multiplied by `gamma` after every `every` epochs, as in the reference solution."""

    kind: Literal["step"] = "step"
    every: int = Field(default=100, ge=1)  # epochs
    gamma: float = Field(default=0.5, gt=0, le=1)


class TrainConfig(Section):
    """One fixed schedule from the first step to the last; nothing looks at validation rows."""

    n_epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=256, ge=2)  # batch norm needs two rows
    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(default=4e-3, gt=0)  # the peak of the schedule
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(default=0.01, ge=0)
    schedule: OneCycle | Linear | StepDecay = Field(default=OneCycle(), discriminator="kind")
    ema_decay: float = Field(default=0.0, ge=0, lt=1)  # per step; 0 keeps the last weights
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


def lr_at(config: TrainConfig, step: int, n_steps: int) -> float:
    """Return the learning rate of one of `n_steps` steps, counted from 0."""
    schedule = config.schedule
    if isinstance(schedule, StepDecay):
        epoch = step * config.n_epochs // n_steps
        return config.lr * schedule.gamma ** (epoch // schedule.every)
    return config.lr * schedule.factor(step / n_steps, 1 / n_steps)


def _half_cosine(progress: float) -> float:
    return (1 - math.cos(math.pi * progress)) / 2


def make_optimizer(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser; norms and biases, which are vectors, have no weight decay."""
    kinds: dict[str, type[torch.optim.AdamW | torch.optim.Adam]] = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
    }
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in parameters if parameter.ndim > 1],
            "weight_decay": config.weight_decay,
        },
        {
            "params": [parameter for parameter in parameters if parameter.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]
    return kinds[config.optimizer](groups, lr=config.lr, betas=config.betas, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def averaged_weights(net: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of the net that follows it as an exponential moving average, buffers too.

    The decay starts small and reaches `decay` after about `10 / (1 - decay)` steps, so the
    average forgets the random start soon enough even in a short run.
    """

    def average(averaged: Tensor, current: Tensor, n_averaged: Tensor | int) -> Tensor:
        count = float(n_averaged)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        return averaged + (current - averaged) * weight

    return AveragedModel(net, avg_fn=average, use_buffers=True)
