"""The state of one net in training on one device: all that a training step reads and changes."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Generator, Tensor, nn

from hbcomp.nets.base import NetConfig
from hbcomp.nets.registry import ScaledNet, build_net
from hbcomp.nets.signal_input import Scale
from hbcomp.nets.signals import SignalsConfig
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.loader import DeviceData, draw_order, n_batches
from hbcomp.training.optim import (
    Average,
    TrainConfig,
    ema_table,
    lr_table,
    make_optimizer,
)


@dataclass(frozen=True)
class Recipe:
    """The configuration of a net and its training, without rows and seed.

    `signals` is None for a net that is trained on features.
    """

    net: NetConfig
    train: TrainConfig
    augment: AugmentConfig
    signals: SignalsConfig | None = field(default_factory=SignalsConfig)


@dataclass(frozen=True)
class Replica:
    """One of the nets that are trained from a recipe: its rows and its seed.

    It learns `train_labels`, or else the labels of the data.
    """

    train_idx: Int64[Tensor, " m"]
    seed: tuple[int, ...]
    train_labels: Int64[Tensor, " m"] | None = None

    def labels(self, data: DeviceData) -> Int64[Tensor, " n"]:
        """Return the labels of all rows as this net learns them."""
        if self.train_labels is None:
            return data.labels
        return data.labels.index_copy(0, self.train_idx, self.train_labels)


@dataclass(frozen=True)
class Streams:
    """The independent random streams of one net; initialisation has used up the fourth."""

    order: Generator
    noise: Generator
    dropout: Generator


@dataclass
class TrainState:
    """A net in training, on one device, with everything that a step needs.

    All tensors keep their address in memory for the whole training, because a captured step
    reads and writes fixed addresses. `order`, `lrs` and `ema_shares` hold one epoch of `s` steps,
    and `step` counts within it.
    """

    replica: Replica
    labels: Int64[Tensor, " n"]
    net: ScaledNet
    forward: Callable[[Tensor], Tensor]  # from scaled signals to logits, compiled if requested
    streams: Streams
    predictor: nn.Module  # with the weights to predict with
    average: Average | None
    optimizer: torch.optim.Optimizer
    config: TrainConfig  # the schedule for this replica's rows
    lr: Float32[Tensor, ""]  # what the optimiser reads
    lr_table: Float32[Tensor, "e s"]
    ema_table: Float32[Tensor, "e s"]
    order: Int64[Tensor, "s b"]
    lrs: Float32[Tensor, " s"]
    ema_shares: Float32[Tensor, " s"]
    step: Int64[Tensor, " 1"]
    loss_sum: Float32[Tensor, ""]

    @property
    def n_steps(self) -> int:
        """The number of steps of an epoch."""
        return len(self.order)

    def begin(self, epoch: int) -> None:
        """Draw the order of an epoch, counted from 1, and start counting anew."""
        self.net.train()
        rows = self.replica.train_idx
        self.order.copy_(draw_order(rows, self.config.batch_size, self.streams.order))
        self.lrs.copy_(self.lr_table[epoch - 1])
        self.ema_shares.copy_(self.ema_table[epoch - 1])
        self.step.zero_()
        self.loss_sum.zero_()


def make_state(recipe: Recipe, data: DeviceData, replica: Replica, compute: Compute) -> TrainState:
    """Return the state of a net before its first step."""
    device, config = data.device, recipe.train.for_rows(len(replica.train_idx))
    n_steps = n_batches(len(replica.train_idx), config.batch_size)
    init, *others = _seeds(replica.seed)
    net = build_net(recipe.net, data.shape, data.n_classes, init, recipe.signals).to(device)
    if isinstance(net.scale, Scale):
        net.scale.fit(data.signals, replica.train_idx)
    predictor, average = net, None
    if config.ema_decay:
        predictor = copy.deepcopy(net)
        average = Average(_tensors(net), _tensors(predictor))
    lr = torch.zeros((), device=device)
    return TrainState(
        replica=replica,
        labels=replica.labels(data),
        net=net,
        forward=torch.compile(net.net) if compute.engine == "compile" else net.net,
        streams=_streams(device, *others),
        predictor=predictor,
        average=average,
        optimizer=make_optimizer(net, lr, config),
        config=config,
        lr=lr,
        lr_table=torch.tensor(lr_table(config, n_steps), device=device),
        ema_table=torch.tensor(ema_table(config, n_steps), device=device),
        order=torch.zeros(n_steps, config.batch_size, dtype=torch.int64, device=device),
        lrs=torch.zeros(n_steps, device=device),
        ema_shares=torch.zeros(n_steps, device=device),
        step=torch.zeros(1, dtype=torch.int64, device=device),
        loss_sum=torch.zeros((), device=device),
    )


def _seeds(seed: Sequence[int]) -> list[int]:
    # 32 bits each: what every torch generator accepts.
    return [int(word) for word in np.random.SeedSequence(list(seed)).generate_state(4)]


def _streams(device: torch.device, order: int, noise: int, dropout: int) -> Streams:
    return Streams(
        *(Generator(device).manual_seed(seed) for seed in (order, noise, dropout)),
    )


def _tensors(net: nn.Module) -> list[Tensor]:
    """Return the tensors to average: all that training changes except integer step counters."""
    changing = [*net.parameters(), *(each for each in net.buffers() if each.is_floating_point())]
    return [tensor.detach() for tensor in changing]
