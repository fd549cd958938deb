"""One training step, and the same step captured as a CUDA graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from hbcomp.training.augment import augment
from hbcomp.training.device import Compute
from hbcomp.training.loader import Beats
from hbcomp.training.state import Recipe, TrainState

N_EAGER_STEPS = 3  # before the capture, as PyTorch's notes on CUDA graphs ask for


def train_step(state: TrainState, recipe: Recipe, beats: Beats, compute: Compute) -> None:
    """Take the next step of the epoch: augment, forward, loss, backward, optimiser, average.

    Everything is read from and written to the device; the host never waits.
    """
    rows = _this(state.order, state)  # (b,)
    state.lr.copy_(_this(state.lrs, state))
    signals = augment(beats.signals[rows], recipe.augment, state.streams.noise)
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
        state.average.update(_this(state.ema_shares, state))
    state.loss_sum += loss.detach()
    state.step += 1


def _this(table: Tensor, state: TrainState) -> Tensor:
    """Return the row of the current step, without asking the device which one that is."""
    return table.index_select(0, state.step)[0]


class EagerSteps:
    """Steps that the host sends to the device one operation at a time."""

    def __init__(self, step: Callable[[], None], state: TrainState) -> None:
        self._step = step
        self._dropout = state.streams.dropout

    def begin(self, state: TrainState, epoch: int) -> None:
        """Start an epoch."""
        state.begin(epoch)

    def __call__(self) -> None:
        """Take a step."""
        with drawing_from(self._dropout):
            self._step()


class GraphSteps:
    """Steps on a stream of their own, which the host sends as one captured graph.

    The first ones run eagerly, as real steps; the capture itself computes nothing. Steps of
    several states, each in its stream, run at the same time where the device has room.
    """

    def __init__(self, step: Callable[[], None], state: TrainState) -> None:
        self._step = step
        self._streams = state.streams
        self._n_taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream())

    def begin(self, state: TrainState, epoch: int) -> None:
        """Start an epoch, in this stream."""
        self._stream.wait_stream(torch.cuda.current_stream())  # where nets are read in between
        with torch.cuda.stream(self._stream):
            state.begin(epoch)

    def __call__(self) -> None:
        """Take a step."""
        with torch.cuda.stream(self._stream):
            if self._graph:
                self._graph.replay()
            elif self._n_taken < N_EAGER_STEPS:
                with drawing_from(self._streams.dropout):
                    self._step()
            else:
                self._graph = self._capture()
                self._graph.replay()
        self._n_taken += 1

    def _capture(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # A replay then draws on from where the stream is; the default generator, which
        # stands for the dropout stream here, is registered by the capture itself.
        graph.register_generator_state(self._streams.noise)
        with (
            drawing_from(self._streams.dropout),
            torch.cuda.graph(graph, stream=self._stream),
        ):
            self._step()
        return graph


@contextmanager
def drawing_from(generator: Generator) -> Iterator[None]:
    """Let the device's default generator draw from this stream: nn.Dropout takes no other."""
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
