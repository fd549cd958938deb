"""What a training step reads and changes: one net, or several of one shape stacked."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Generator, Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from hbcomp.nets.base import NetConfig
from hbcomp.nets.registry import build_net
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.loader import Beats, draw_order, n_batches
from hbcomp.training.optim import (
    Average,
    TrainConfig,
    ema_table,
    has_decay,
    lr_table,
    make_optimizer,
)


@dataclass(frozen=True)
class Recipe:
    """What determines a trained net beside its rows and its seed."""

    net: NetConfig
    train: TrainConfig
    augment: AugmentConfig


@dataclass(frozen=True)
class Member:
    """One net to train: its rows, its seed, and its rows' labels unless they are the beats' own."""

    train_idx: Int64[Tensor, " m"]
    seed: tuple[int, ...]
    train_labels: Int64[Tensor, " m"] | None = None

    def n_steps(self, batch_size: int) -> int:
        """Return the number of steps of an epoch."""
        return n_batches(len(self.train_idx), batch_size)

    def shape(self, batch_size: int) -> tuple[int, int]:
        """Return the steps of an epoch and the rows of each; equal ones can be stacked."""
        return self.n_steps(batch_size), min(batch_size, len(self.train_idx))

    def labels(self, beats: Beats) -> Int64[Tensor, " n"]:
        """Return the label of each of the beats as this net is taught it."""
        if self.train_labels is None:
            return beats.labels
        return beats.labels.index_copy(0, self.train_idx, self.train_labels)


@dataclass(frozen=True)
class Streams:
    """The independent random streams of one net; initialisation has used up the fourth."""

    order: Generator
    noise: Generator
    dropout: Generator


@dataclass(frozen=True)
class Weights:
    """Nets, all their tensors that change (stacked for several nets), and how to call them."""

    nets: list[nn.Module]
    tensors: list[Tensor]
    forward: Callable[[Float[Tensor, "m b t"]], Float[Tensor, "m b k"]]


@dataclass
class TrainState:
    """The nets of `m` members in training, on one device, with everything a step needs.

    All tensors keep their place in memory for the whole training, because a captured step
    reads and writes fixed addresses. `order`, `lrs` and `ema_shares` hold one epoch of `s` steps,
    and `step` counts within it.
    """

    members: Sequence[Member]
    labels: Int64[Tensor, "m n"]
    weights: Weights
    streams: list[Streams]
    predictors: list[nn.Module]  # one per member, with the weights to predict with
    average: Average | None
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    lr: Float32[Tensor, ""]  # what the optimiser reads
    lr_table: Float32[Tensor, "e s"]
    ema_table: Float32[Tensor, "e s"]
    order: Int64[Tensor, "s m b"]
    lrs: Float32[Tensor, " s"]
    ema_shares: Float32[Tensor, " s"]
    step: Int64[Tensor, " 1"]
    loss_sum: Float32[Tensor, " m"]

    @property
    def n_steps(self) -> int:
        """The number of steps of an epoch."""
        return len(self.order)

    def begin(self, epoch: int) -> None:
        """Draw the order of an epoch, counted from 1, and start counting anew."""
        for net in self.weights.nets:
            net.train()
        for position, (member, streams) in enumerate(zip(self.members, self.streams, strict=True)):
            order = draw_order(member.train_idx, self.config.batch_size, streams.order)
            self.order[:, position].copy_(order)
        self.lrs.copy_(self.lr_table[epoch - 1])
        self.ema_shares.copy_(self.ema_table[epoch - 1])
        self.step.zero_()
        self.loss_sum.zero_()


def make_state(
    recipe: Recipe, beats: Beats, members: Sequence[Member], compute: Compute
) -> TrainState:
    """Return the state before the first step; several members are stacked into one net.

    The members of a stack must have equally many steps in an epoch, of equally many rows.
    """
    device, config = beats.device, recipe.train
    (n_steps, size), *others = {member.shape(config.batch_size) for member in members}
    assert not others, "members of a stack differ in steps"
    seeds = [_seeds(member.seed) for member in members]
    nets = [
        build_net(recipe.net, beats.signals.shape[1], beats.n_classes, init).to(device)
        for init, *_ in seeds
    ]
    weights = _stacked(nets, compute) if len(nets) > 1 else _single(nets[0], compute)
    predictors, average = nets, None
    if config.ema_decay:
        predictors, average = _averaged(weights)
    lr = torch.zeros((), device=device)
    return TrainState(
        members=members,
        labels=torch.stack([member.labels(beats) for member in members]),
        weights=weights,
        streams=[_streams(device, *others) for _, *others in seeds],
        predictors=predictors,
        average=average,
        optimizer=_optimizer(weights, lr, config),
        config=config,
        lr=lr,
        lr_table=torch.tensor(lr_table(config, n_steps), device=device),
        ema_table=torch.tensor(ema_table(config, n_steps), device=device),
        order=torch.zeros(n_steps, len(members), size, dtype=torch.int64, device=device),
        lrs=torch.zeros(n_steps, device=device),
        ema_shares=torch.zeros(n_steps, device=device),
        step=torch.zeros(1, dtype=torch.int64, device=device),
        loss_sum=torch.zeros(len(members), device=device),
    )


def _seeds(seed: Sequence[int]) -> list[int]:
    # 32 bits each: what every torch generator accepts.
    return [int(word) for word in np.random.SeedSequence(list(seed)).generate_state(4)]


def _streams(device: torch.device, order: int, noise: int, dropout: int) -> Streams:
    return Streams(
        *(Generator(device).manual_seed(seed) for seed in (order, noise, dropout)),
    )


def _single(net: nn.Module, compute: Compute) -> Weights:
    called = torch.compile(net) if compute.engine == "compile" else net

    def forward(signals: Tensor) -> Tensor:
        logits: Tensor = called(signals[0])
        return logits[None]

    return Weights([net], _tensors(net), forward)


def _tensors(net: nn.Module) -> list[Tensor]:
    """Return what training changes and an average follows: not the integer step counters."""
    return [*net.parameters(), *(each for each in net.buffers() if each.is_floating_point())]


def _stacked(nets: list[nn.Module], compute: Compute) -> Weights:
    """Return the nets as one, by vmap: a convolution becomes a grouped one, a product a batched.

    The nets themselves become views of the stack, so that they always show its weights.
    """
    template = copy.deepcopy(nets[0]).to("meta")
    is_short = compute.precision == "bf16"
    shortened = _cast_by_weight(template) if is_short else frozenset()
    parameters, buffers = stack_module_state(nets)

    def one(values: dict[str, Tensor], buffers: dict[str, Tensor], signals: Tensor) -> Tensor:
        logits: Tensor = functional_call(template, (values, buffers), (signals,))
        return logits

    def forward(signals: Tensor) -> Tensor:
        values = {
            name: value.to(torch.bfloat16) if name in shortened else value
            for name, value in parameters.items()
        }
        # Dropout masks differ among members, but are drawn for all of them at once.
        logits: Tensor = vmap(one, randomness="different")(values, buffers, signals)
        return logits

    everything = [*parameters.values(), *buffers.values()]
    _show([[*net.parameters(), *net.buffers()] for net in nets], everything)
    return Weights(nets, [each for each in everything if each.is_floating_point()], forward)


def _cast_by_weight(net: nn.Module) -> frozenset[str]:
    """Let every layer cast its input to its weight; return the names that bf16 should shorten.

    autocast does not reach all layers inside vmap. Batch norm under vmap takes one precision
    only, so it stays in fp32 with its input cast back, which costs memory traffic.
    """
    products = (nn.Linear, nn.Conv1d, nn.Conv2d)
    for module in net.modules():
        if isinstance(getattr(module, "weight", None), Tensor):
            module.register_forward_pre_hook(lambda layer, args: args[0].to(layer.weight.dtype))
    return frozenset(
        f"{path}.{name}"
        for path, module in net.named_modules()
        if isinstance(module, products)
        for name, _ in module.named_parameters(recurse=False)
    )


def _show(tensors_of_nets: Sequence[Sequence[Tensor]], stack: Sequence[Tensor]) -> None:
    """Make every net's tensors views of its slice of the stack."""
    for position, tensors in enumerate(tensors_of_nets):
        for own, stacked in zip(tensors, stack, strict=True):
            own.data = stacked.detach()[position]


def _averaged(weights: Weights) -> tuple[list[nn.Module], Average]:
    """Return nets that follow the weights as an average; stacked like them."""
    nets = copy.deepcopy(weights.nets)
    sources = [tensor.detach() for tensor in weights.tensors]
    if len(nets) == 1:
        return nets, Average(sources, [tensor.detach() for tensor in _tensors(nets[0])])
    targets = [tensor.clone() for tensor in sources]
    _show([_tensors(net) for net in nets], targets)
    return nets, Average(sources, targets)


def _optimizer(weights: Weights, lr: Tensor, config: TrainConfig) -> torch.optim.Optimizer:
    # The shapes of one net decide: in a stack a bias is a matrix.
    parameters = [tensor for tensor in weights.tensors if tensor.requires_grad]
    pairs = list(zip(parameters, weights.nets[0].parameters(), strict=True))
    return make_optimizer(
        [tensor for tensor, own in pairs if has_decay(own)],
        [tensor for tensor, own in pairs if not has_decay(own)],
        lr,
        config,
    )
