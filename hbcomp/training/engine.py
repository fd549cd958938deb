"""The training loop: values in, nets out; no files, and never a validation beat."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from hbcomp.system.errors import InputError
from hbcomp.training.device import Compute, synchronize
from hbcomp.training.loader import Beats
from hbcomp.training.optim import lr_at
from hbcomp.training.state import Member, Recipe, TrainState, make_state
from hbcomp.training.step import N_EAGER_STEPS, EagerSteps, GraphSteps, train_step


class DivergedError(InputError):
    """The loss is no longer a number; `position` is that of the member."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True)
class Epoch:
    """The state of one member at the end of an epoch; `net` holds the weights to predict with.

    `loss` is the mean over the epoch's steps of the training loss. `seconds` were spent training
    since the epoch began and `seconds_preparing` before that, on building nets and on the first
    steps, in which kernels are chosen, compiled or captured; both are this member's share.
    """

    epoch: int
    loss: float
    lr: float
    seconds: float
    seconds_preparing: float
    net: nn.Module


def train_epochs(
    recipe: Recipe, beats: Beats, members: Sequence[Member], compute: Compute
) -> Iterator[list[Epoch]]:
    """Train all members at the same time, yielding them after every epoch; the last is the result.

    Notes
    -----
    Same recipe, rows, seed, device and threads: same bits, whatever trains beside it.
    Initialisation, batch order, augmentation and dropout each draw from a stream of their own.
    What the consumer does with `Epoch.net` between two epochs (predicting included) does not
    influence the training. A loss that is not finite is a DivergedError naming the epoch.

    """
    start = time.perf_counter()
    lanes = make_lanes(recipe, beats, members, compute)
    n_preparing = 1 + N_EAGER_STEPS * (compute.engine == "graph")
    seconds_preparing = 0.0
    for epoch in range(1, recipe.train.n_epochs + 1):
        for lane in lanes:
            lane.steps.begin(lane.state, epoch)
        for step in range(max(lane.state.n_steps for lane in lanes)):
            take_step(lanes, step)
            if epoch == 1 and step + 1 == n_preparing:
                synchronize(beats.device)
                seconds_preparing = time.perf_counter() - start
                start = time.perf_counter()
        synchronize(beats.device)  # lanes have streams of their own
        epochs = [_read(lane.state, epoch) for lane in lanes]
        seconds = time.perf_counter() - start
        for position, (loss, _, _) in enumerate(epochs):
            _check_finite(loss, epoch, position, recipe)
        share = 1 / len(members)
        yield [
            Epoch(epoch, loss, lr, seconds * share, seconds_preparing * share, net)
            for loss, lr, net in epochs
        ]
        seconds_preparing = 0.0
        start = time.perf_counter()


@dataclass(frozen=True)
class Lane:
    """A state and the way its steps are taken."""

    state: TrainState
    steps: EagerSteps | GraphSteps


def make_lanes(
    recipe: Recipe, beats: Beats, members: Sequence[Member], compute: Compute
) -> list[Lane]:
    """Return one lane for each member; on a GPU each has a stream of its own."""
    kind = GraphSteps if compute.engine == "graph" else EagerSteps
    states = [make_state(recipe, beats, member, compute) for member in members]
    return [
        Lane(state, kind(partial(train_step, state, recipe, beats, compute), state))
        for state in states
    ]


def take_step(lanes: Sequence[Lane], step: int) -> None:
    """Send one step of every lane that still has one in this epoch."""
    for lane in lanes:
        if step < lane.state.n_steps:
            lane.steps()


def _read(state: TrainState, epoch: int) -> tuple[float, float, nn.Module]:
    loss = (state.loss_sum / state.n_steps).item()
    lr = lr_at(state.config, epoch * state.n_steps - 1, state.config.n_epochs * state.n_steps)
    return loss, lr, state.predictor


def _check_finite(loss: float, epoch: int, position: int, recipe: Recipe) -> None:
    if not np.isfinite(loss):
        raise DivergedError(
            f"epoch {epoch}: the loss must be finite, but is {loss}; "
            f"try a smaller train.lr (now {recipe.train.lr:g}) or compute.precision fp32",
            position,
        )
