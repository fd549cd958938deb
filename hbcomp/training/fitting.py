"""The fit of nets that are not trained in steps, in the form that training has: of one epoch."""

import time
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hbcomp.nets.base import FittedNetConfig
from hbcomp.nets.registry import ScaledNet
from hbcomp.nets.signal_input import Scale
from hbcomp.training.device import synchronize
from hbcomp.training.loader import DeviceData
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import Epoch

N_LOSS_ROWS = 1_024  # of which the training loss is the mean; one batch of prediction


def fit_nets(
    recipe: Recipe, data: DeviceData, replicas: Sequence[Replica]
) -> Iterator[list[Epoch]]:
    """Fit the nets one after another, each on its own rows, and yield all of them once.

    The same rows, seed, device and threads give the same bits. The loss is the mean over the first
    `N_LOSS_ROWS` training rows.
    """
    yield [_fit(recipe, data, replica, place) for place, replica in enumerate(replicas)]


@torch.no_grad()
def _fit(recipe: Recipe, data: DeviceData, replica: Replica, position: int) -> Epoch:
    start = time.perf_counter()
    rows = replica.train_idx
    signals, labels = data.signals[rows], replica.labels(data)[rows]
    scale: nn.Module = nn.Identity()
    if recipe.signals is not None:
        scale = Scale(recipe.signals, data.shape[0]).to(data.device)
        scale.fit(data.signals, rows)
    (seed,) = np.random.SeedSequence(list(replica.seed)).generate_state(1)
    config = cast(FittedNetConfig, recipe.net)
    net = ScaledNet(scale, config.fit(scale(signals), labels, data.n_classes, int(seed))).eval()
    logits = net(signals[:N_LOSS_ROWS])
    loss = F.cross_entropy(logits, labels[:N_LOSS_ROWS]).item()
    synchronize(data.device)
    return Epoch(1, loss, 0.0, time.perf_counter() - start, 0.0, net, position)
