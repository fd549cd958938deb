"""Optimisers, learning-rate schedules and averaged weights."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor, nn

from hbcomp.system.config import Section
from hbcomp.training.early_stopping import EarlyStopping
from hbcomp.training.loader import n_batches

Beta = Annotated[float, Field(ge=0, lt=1)]

# Of rows in a batch, where a net has few rows. Measured on 8 small UCR sets: experiments/LOG.md.
MIN_BATCH = 16
FINAL_FRACTION = 1e-3  # of the peak, where one-cycle ends; at exactly 0 the last step is wasted


class OneCycle(Section):
    """A rate that rises to the peak along half a cosine and falls along another to a thousandth.

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
    """A rate that rises linearly to the peak and falls linearly towards zero."""

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
    """One fixed schedule from the first step to the last, which early stopping may cut off.

    It fits few rows as well as many: `for_rows` makes the batch smaller, so that an epoch has
    `min_steps_per_epoch`, and adds epochs until there are `min_steps`.
    """

    n_epochs: int = Field(default=10, ge=1)
    min_steps: int = Field(default=0, ge=0)  # of all epochs together; 0 adds no epochs
    batch_size: int = Field(default=256, ge=2)  # batch norm needs two rows
    # The batch is reduced to no fewer than MIN_BATCH rows. 12, so that a batch of 256 is whole from
    # 3,072 rows on: four fifths of the bundled 4,000 are 3,200.
    min_steps_per_epoch: int = Field(default=12, ge=1)
    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(default=4e-3, gt=0)  # the peak of the schedule
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(default=0.01, ge=0)
    schedule: OneCycle | Linear | StepDecay = Field(default=OneCycle(), discriminator="kind")
    ema_decay: float = Field(default=0.0, ge=0, lt=1)  # per step; 0 keeps the last weights
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    early_stopping: EarlyStopping = EarlyStopping()

    def for_rows(self, n_rows: int) -> "TrainConfig":
        """Return the schedule of a net of so many training rows: its own batch and epochs.

        The schedule of a schedule of the same rows is itself.
        """
        fitting = max(MIN_BATCH, n_rows // self.min_steps_per_epoch)
        batch_size = min(self.batch_size, fitting, n_rows)
        n_epochs = max(self.n_epochs, -(-self.min_steps // n_batches(n_rows, batch_size)))
        return self.model_copy(update={"batch_size": batch_size, "n_epochs": n_epochs})

    def n_steps(self, n_rows: int) -> int:
        """Return the steps of all epochs of a net of so many training rows."""
        schedule = self.for_rows(n_rows)
        return schedule.n_epochs * n_batches(n_rows, schedule.batch_size)

    def deviations(self, n_rows: int) -> list[str]:
        """Return in words how few rows change the batch and the epochs; nothing where neither."""
        schedule = self.for_rows(n_rows)
        n_steps = n_batches(n_rows, schedule.batch_size)
        said = []
        if schedule.batch_size < self.batch_size:
            said.append(
                f"batches of {schedule.batch_size} rows instead of {self.batch_size}, because a "
                f"net has {n_rows:,} training rows"
            )
        if schedule.n_epochs > self.n_epochs:
            steps = "1 step" if n_steps == 1 else f"{n_steps} steps"
            said.append(
                f"{schedule.n_epochs:,} epochs of {steps} instead of {self.n_epochs}, because "
                f"train.min_steps asks for {self.min_steps:,} steps"
            )
        return said


def lr_at(config: TrainConfig, step: int, n_steps: int) -> float:
    """Return the learning rate of one of `n_steps` steps, counted from 0."""
    schedule = config.schedule
    if isinstance(schedule, StepDecay):
        epoch = step * config.n_epochs // n_steps
        return config.lr * schedule.gamma ** (epoch // schedule.every)
    return config.lr * schedule.factor(step / n_steps, 1 / n_steps)


def _half_cosine(progress: float) -> float:
    return (1 - math.cos(math.pi * progress)) / 2


def lr_table(config: TrainConfig, n_steps: int) -> Float32[np.ndarray, "e s"]:
    """Return the learning rate of every step of every epoch of `n_steps` steps."""
    total = n_steps * config.n_epochs
    rates = [lr_at(config, step, total) for step in range(total)]
    return np.array(rates, dtype=np.float32).reshape(config.n_epochs, n_steps)


def ema_table(config: TrainConfig, n_steps: int) -> Float32[np.ndarray, "e s"]:
    """Return how far the average moves towards the weights at every step of every epoch.

    All the way at first, and by `1 - ema_decay` after about `10 / (1 - ema_decay)` steps: the
    average forgets the random start soon enough even in a short run.
    """
    count = np.arange(n_steps * config.n_epochs)
    share = 1 - np.minimum(config.ema_decay, (1 + count) / (10 + count))
    share[0] = 1
    return share.astype(np.float32).reshape(config.n_epochs, n_steps)


def make_optimizer(net: nn.Module, lr: Tensor, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser of a net's parameters, which reads `lr` as it steps.

    The rate is a tensor on the device, so that a captured step can change it.
    """
    kinds: dict[str, type[torch.optim.AdamW | torch.optim.Adam]] = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
    }
    parameters = list(net.parameters())
    groups = [
        {
            "params": [each for each in parameters if has_decay(each)],
            "weight_decay": config.weight_decay,
        },
        {"params": [each for each in parameters if not has_decay(each)], "weight_decay": 0.0},
    ]
    return kinds[config.optimizer](
        groups, lr=lr, betas=config.betas, fused=True, capturable=lr.is_cuda
    )


def has_decay(parameter: Tensor) -> bool:
    """Return whether weight decay applies: not to norms and biases, which are vectors."""
    return parameter.ndim > 1


@dataclass(frozen=True)
class Average:
    """Tensors that follow others as an exponential moving average.

    Not torch's AveragedModel, which reads its step counter from the device, once per tensor and
    step: the host would wait for the GPU every time.
    """

    sources: list[Tensor]
    targets: list[Tensor]

    @torch.no_grad()
    def update(self, share: Tensor) -> None:
        """Move every target by `share`, a scalar on the device, towards its source."""
        change = torch._foreach_sub(self.sources, self.targets)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(self.targets, change)
