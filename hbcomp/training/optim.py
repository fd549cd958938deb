"""Optimisers, learning-rate schedules and averaged weights."""

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hbcomp.config import Section

FINAL_FRACTION = 1e-3  # of the peak, where one-cycle ends; at exactly 0 the last step is wasted


class TrainConfig(Section):
    """One fixed schedule from the first step to the last; nothing looks at validation rows."""

    n_epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=256, ge=2)  # batch norm needs two rows
    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(default=4e-3, gt=0)  # the peak of the schedule
    weight_decay: float = Field(default=0.01, ge=0)
    schedule: Literal["one-cycle", "linear", "step"] = "one-cycle"
    warmup: float = Field(default=0.25, ge=0, lt=1)  # share of all steps (one-cycle, linear)
    step_epochs: int = Field(default=100, ge=1)  # epochs between two decays (step)
    step_gamma: float = Field(default=0.5, gt=0, le=1)  # factor of each decay (step)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)  # per step; 0 keeps the last weights
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _refuse_options_that_do_nothing(self) -> "TrainConfig":
        unused = {
            "step": {"warmup"},
            "one-cycle": {"step_epochs", "step_gamma"},
            "linear": {"step_epochs", "step_gamma"},
        }[self.schedule] & self.model_fields_set
        if unused:
            raise ValueError(f"schedule {self.schedule!r} does not use {', '.join(sorted(unused))}")
        return self


def lr_at(config: TrainConfig, step: int, n_steps: int) -> float:
    """Return the learning rate of one of `n_steps` steps, counted from 0.

    one-cycle: half a cosine up to the peak and one down to a thousandth (Smith & Topin 2018,
    arXiv:1708.07120); linear: straight up and straight down to zero; step: the peak times
    gamma to the number of decays so far, as in the reference solution.
    """
    if config.schedule == "step":
        epoch = step * config.n_epochs // n_steps
        return config.lr * config.step_gamma ** (epoch // config.step_epochs)
    n_warmup = config.warmup * n_steps
    if step < n_warmup:
        progress = (step + 1) / (n_warmup + 1)
        rise = progress if config.schedule == "linear" else _half_cosine(progress)
        return config.lr * rise
    remaining = (n_steps - step) / (n_steps - n_warmup)
    if config.schedule == "linear":
        return config.lr * remaining
    return config.lr * (FINAL_FRACTION + (1 - FINAL_FRACTION) * _half_cosine(remaining))


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
    return kinds[config.optimizer](groups, lr=config.lr, fused=True)


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
