"""The training loop: values in, nets out; no files, and never a validation beat."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Generator, Tensor, nn

from hbcomp.errors import InputError
from hbcomp.nets.base import NetConfig
from hbcomp.nets.registry import build_net
from hbcomp.training.augment import AugmentConfig, augment
from hbcomp.training.device import Compute
from hbcomp.training.loader import Beats, batches, n_batches
from hbcomp.training.optim import TrainConfig, averaged_weights, lr_at, make_optimizer, set_lr


class DivergedError(InputError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Epoch:
    """The state at the end of an epoch; `net` holds the weights to predict with.

    `loss` is the mean over the epoch's steps of the training loss, `seconds` the time spent
    training since the epoch began.
    """

    epoch: int
    loss: float
    lr: float
    seconds: float
    net: nn.Module


@dataclass(frozen=True)
class Recipe:
    """What determines a trained net beside its rows and its seed."""

    net: NetConfig
    train: TrainConfig
    augment: AugmentConfig


def train_epochs(
    recipe: Recipe,
    beats: Beats,
    train_idx: Int64[Tensor, " m"],
    seed: Sequence[int],
    compute: Compute,
) -> Iterator[Epoch]:
    """Train on the rows of `train_idx`, yielding after every epoch; the last one is the result.

    Notes
    -----
    Same recipe, rows, seed, device and threads: same bits. Initialisation, batch order,
    augmentation and dropout each draw from a stream of their own. What the consumer does with
    `Epoch.net` between two epochs (predicting included) does not influence the training.
    A loss that is not finite is a DivergedError naming the epoch.

    """
    config = recipe.train
    init_seed, order_seed, augment_seed, dropout_seed = _streams(seed)
    net = build_net(recipe.net, beats.signals.shape[1], beats.n_classes, init_seed)
    net.to(beats.device)
    optimizer = make_optimizer(net, config)
    average = averaged_weights(net, config.ema_decay) if config.ema_decay else None
    order = Generator(beats.device).manual_seed(order_seed)
    noise = Generator(beats.device).manual_seed(augment_seed)
    steps_per_epoch = n_batches(len(train_idx), config.batch_size)
    n_steps = steps_per_epoch * config.n_epochs
    step = 0
    for epoch in range(1, config.n_epochs + 1):
        start = time.perf_counter()
        net.train()
        loss_sum = torch.zeros((), device=beats.device)
        with _global_generator_seeded(beats.device, dropout_seed + epoch):
            for batch_idx in batches(train_idx, config.batch_size, order):
                lr = lr_at(config, step, n_steps)
                set_lr(optimizer, lr)
                signals = augment(beats.signals[batch_idx], recipe.augment, noise)
                with compute.autocast:
                    logits = net(signals)
                loss = F.cross_entropy(
                    logits.float(),
                    beats.labels[batch_idx],
                    label_smoothing=config.label_smoothing,
                )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
                optimizer.step()
                if average is not None:
                    average.update_parameters(net)
                loss_sum += loss.detach()
                step += 1
        # .item() waits for the device; once per epoch, not once per step.
        mean_loss = loss_sum.item() / steps_per_epoch
        if not np.isfinite(mean_loss):
            raise DivergedError(
                f"epoch {epoch}: the loss must be finite, but is {mean_loss}; "
                f"try a smaller train.lr (now {config.lr:g}) or compute.precision fp32"
            )
        seconds = time.perf_counter() - start
        yield Epoch(epoch, mean_loss, lr, seconds, average.module if average else net)


def _streams(seed: Sequence[int]) -> list[int]:
    # 32 bits each: what every torch generator accepts. The dropout stream is the last, because
    # an epoch's number is added to it.
    return [int(state) for state in np.random.SeedSequence(list(seed)).generate_state(4)]


@contextmanager
def _global_generator_seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the device's global generator and put it back afterwards: nn.Dropout takes no other."""
    # Not torch.random.fork_rng, which knows no mps.
    module = torch.random if device.type == "cpu" else torch.get_device_module(device)
    state = module.get_rng_state()
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        module.manual_seed(seed)
    try:
        yield
    finally:
        module.set_rng_state(state)
