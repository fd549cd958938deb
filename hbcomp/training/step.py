"""One training step, the loop over all epochs, and the step captured as a CUDA graph."""

import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hbcomp.system.errors import InputError
from hbcomp.training.augment import augment
from hbcomp.training.device import Compute, synchronize
from hbcomp.training.loader import DeviceData
from hbcomp.training.optim import lr_at
from hbcomp.training.state import Recipe, Replica, TrainState, make_state

N_EAGER_STEPS = 3  # before the capture, as PyTorch's notes on CUDA graphs ask for


def train_step(state: TrainState, recipe: Recipe, data: DeviceData, compute: Compute) -> None:
    """Take the next step of the epoch: scale, augment, forward, loss, backward, optimiser, average.

    Everything is read from and written to the device; the host never waits, except for the row
    numbers of a batch that is streamed.
    """
    rows = _current(state.order, state)  # (b,)
    state.lr.copy_(_current(state.lrs, state))
    scaled = state.net.scale(data.signals[rows])
    signals = augment(scaled, recipe.augment, state.streams.noise, state.net.rest)
    with compute.autocast:
        logits = state.forward(signals)  # (b, k)
    losses = F.cross_entropy(
        logits.float(),
        state.labels[rows],
        label_smoothing=recipe.train.label_smoothing,
        reduction="none",
    )
    loss = losses.mean()
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    state.optimizer.step()
    if state.average:
        state.average.update(_current(state.ema_shares, state))
    state.loss_sum += loss.detach()
    state.step += 1


def _current(table: Tensor, state: TrainState) -> Tensor:
    """Return the row of the current step, whose number only the device knows."""
    return table.index_select(0, state.step)[0]


class DivergedError(InputError):
    """The loss or a probability is no longer a number; `position` is that of the replica."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True)
class Epoch:
    """The state of one replica at the end of an epoch; `net` holds the weights to predict with.

    `position` is that of the replica among those that train at the same time.
    `loss` is the mean over the epoch's steps of the training loss. `seconds` were spent training
    since the epoch began and `seconds_preparing` before that, on building nets and on the first
    steps, in which kernels are chosen, compiled or captured; both are this replica's share.
    """

    epoch: int
    loss: float
    lr: float
    seconds: float
    seconds_preparing: float
    net: nn.Module
    position: int = 0


def train_epochs(
    recipe: Recipe,
    data: DeviceData,
    replicas: Sequence[Replica],
    compute: Compute,
    stopped: Container[int] = frozenset(),
) -> Iterator[list[Epoch]]:
    """Train all replicas at the same time, yielding them after every epoch; the last is the result.

    A replica that has had its epochs takes no further steps and is no longer yielded, and neither
    is one whose position the consumer adds to `stopped` between two epochs.

    Notes
    -----
    The same recipe, rows, seed, device and threads give the same bits, whatever trains beside it.
    Initialisation, batch order, augmentation and dropout each draw from a stream of their own.
    What the consumer does with `Epoch.net` between two epochs (predicting included) does not
    influence the training. A loss that is not finite is a DivergedError naming the epoch.

    """
    start = time.perf_counter()
    steps_of_replica = make_steps(recipe, data, replicas, compute)
    n_preparing = 1 + N_EAGER_STEPS * (compute.engine == "graph")
    seconds_preparing = 0.0
    for epoch in range(1, max(steps.state.config.n_epochs for steps in steps_of_replica) + 1):
        training = {
            position: steps
            for position, steps in enumerate(steps_of_replica)
            if epoch <= steps.state.config.n_epochs and position not in stopped
        }
        if not training:
            return
        for steps in training.values():
            steps.begin(epoch)
        for step in range(max(steps.state.n_steps for steps in training.values())):
            for steps in training.values():
                if step < steps.state.n_steps:
                    steps()
            if epoch == 1 and step + 1 == n_preparing:
                synchronize(data.device)
                seconds_preparing = time.perf_counter() - start
                start = time.perf_counter()
        synchronize(data.device)  # captured steps run in streams of their own
        losses = [(each.state.loss_sum / each.state.n_steps).item() for each in training.values()]
        seconds = time.perf_counter() - start
        for position, loss in zip(training, losses, strict=True):
            _check_finite(loss, epoch, position, recipe)
        share = 1 / len(training)
        yield [
            Epoch(
                epoch,
                loss,
                _last_lr(steps.state, epoch),
                seconds * share,
                seconds_preparing * share,
                steps.state.predictor,
                position,
            )
            for (position, steps), loss in zip(training.items(), losses, strict=True)
        ]
        seconds_preparing = 0.0
        start = time.perf_counter()


def _last_lr(state: TrainState, epoch: int) -> float:
    """Return the learning rate of the last step of an epoch."""
    return lr_at(state.config, epoch * state.n_steps - 1, state.config.n_epochs * state.n_steps)


def _check_finite(loss: float, epoch: int, position: int, recipe: Recipe) -> None:
    if not np.isfinite(loss):
        raise DivergedError(
            f"epoch {epoch}: the loss must be finite, but is {loss}; "
            f"try a smaller train.lr (now {recipe.train.lr:g}) or compute.precision fp32",
            position,
        )


class EagerSteps:
    """Steps that the host sends to the device one operation at a time."""

    def __init__(self, step: Callable[[], None], state: TrainState) -> None:
        self.state = state
        self._step = step

    def begin(self, epoch: int) -> None:
        """Start an epoch."""
        self.state.begin(epoch)

    def __call__(self) -> None:
        """Take a step."""
        with drawing_from(self.state.streams.dropout):
            self._step()


class GraphSteps:
    """Steps on a stream of their own, which the host sends as one captured graph.

    The first ones run eagerly, as real steps; the capture itself computes nothing. Steps of
    several states, each in its stream, run at the same time where the device has room.
    """

    def __init__(self, step: Callable[[], None], state: TrainState) -> None:
        self.state = state
        self._step = step
        self._n_taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream())

    def begin(self, epoch: int) -> None:
        """Start an epoch, in this stream."""
        self._stream.wait_stream(torch.cuda.current_stream())  # where nets are read in between
        with torch.cuda.stream(self._stream):
            self.state.begin(epoch)

    def __call__(self) -> None:
        """Take a step."""
        with torch.cuda.stream(self._stream):
            if self._graph:
                self._graph.replay()
            elif self._n_taken < N_EAGER_STEPS:
                with drawing_from(self.state.streams.dropout):
                    self._step()
            else:
                self._graph = self._capture()
                self._graph.replay()
        self._n_taken += 1

    def _capture(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # A replay then draws on from where the stream is; the default generator, which
        # stands for the dropout stream here, is registered by the capture itself.
        graph.register_generator_state(self.state.streams.noise)
        with (
            drawing_from(self.state.streams.dropout),
            torch.cuda.graph(graph, stream=self._stream),
        ):
            self._step()
        return graph


def make_steps(
    recipe: Recipe, data: DeviceData, replicas: Sequence[Replica], compute: Compute
) -> list[EagerSteps | GraphSteps]:
    """Return the steps of each replica; on a GPU each has a stream of its own."""
    # A captured step reads from fixed addresses of the device, where streamed rows have none.
    is_captured = compute.engine == "graph" and isinstance(data.signals, Tensor)
    kind = GraphSteps if is_captured else EagerSteps
    states = [make_state(recipe, data, replica, compute) for replica in replicas]
    return [kind(partial(train_step, state, recipe, data, compute), state) for state in states]


@contextmanager
def drawing_from(generator: Generator) -> Iterator[None]:
    """Let the default generator, the only one that nn.Dropout uses, draw from this stream."""
    device = generator.device
    if device.type == "cuda":
        default = torch.cuda.default_generators[device.index]
        former = default.graphsafe_get_state()
        default.graphsafe_set_state(generator)
        try:
            yield
        finally:
            default.graphsafe_set_state(former)
        return
    module = torch.random if device.type == "cpu" else torch.get_device_module(device)
    state = module.get_rng_state()
    module.set_rng_state(generator.get_state())
    try:
        yield
        generator.set_state(module.get_rng_state())
    finally:
        module.set_rng_state(state)
