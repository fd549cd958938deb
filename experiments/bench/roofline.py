"""The least time a training step can take on a device, from what it computes and what it moves.

After Williams, Waterman & Patterson 2009, "Roofline", doi:10.1145/1498765.1498785. The ceilings are
measured on the spot; what a data sheet promises is not reached by anything.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hbcomp.nets.base import NetConfig
from hbcomp.nets.registry import build_net, count_parameters
from hbcomp.nets.signals import SignalsConfig
from hbcomp.training.device import Compute, Precision, synchronize

PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d)
# Per parameter and step, all in fp32: the gradient is written; Adam reads it, the weight and both
# moments, and writes the last three back.
OPTIMIZER_BYTES = 4 * (1 + 4 + 3)

N_TRIES = 5
# Sizes: beyond any cache, and large enough for full speed in a fraction of a second (assumed).
COPY_BYTES = {"cpu": 1 << 28, "gpu": 1 << 30}
PRODUCT_SIDE = {"cpu": 2048, "gpu": 8192}


@dataclass(frozen=True)
class Work:
    """What one training step on `n_rows` rows computes and moves at least."""

    n_rows: int
    forward_flops: int
    flops: int
    n_bytes: int


@dataclass(frozen=True)
class Ceilings:
    """What the device reached: FLOP/s of a matrix product, bytes/s of a copy, read and written."""

    flops_per_second: float
    bytes_per_second: float


@dataclass(frozen=True)
class Floor:
    """The least seconds of a step: computing and moving overlap wholly, or not at all."""

    seconds: float
    serial_seconds: float

    def per_cent(self, work: Work, rows_per_second: float) -> float:
        """Return the floor with overlap in per cent of the time that a step really takes."""
        return 100 * self.seconds * rows_per_second / work.n_rows


def floor_of(work: Work, ceilings: Ceilings) -> Floor:
    """Return the floor of a step under these ceilings."""
    computing = work.flops / ceilings.flops_per_second
    moving = work.n_bytes / ceilings.bytes_per_second
    return Floor(max(computing, moving), computing + moving)


def count_work(
    config: NetConfig, n_timepoints: int, n_classes: int, n_rows: int, precision: Precision
) -> Work:
    """Return the work of one training step of a net; nothing is computed, only shapes are.

    FLOPs are those of convolutions and matrix products, forward and backward. Bytes are

    - the activations that those layers cannot avoid: forward they read their input and write
      their output, backward they read both again (the gradient of the output, the input) and write
      the gradient of the input, unless that is the signals themselves;
    - the weights, read forward and backward, and what Adam reads and writes.

    Norms, ReLUs, poolings and sums count as fused into their neighbours, so this is a lower
    bound of the traffic as long as a step's activations do not stay in a cache.
    """
    net = build_net(config, (1, n_timepoints), n_classes, 0, SignalsConfig()).to("meta").train()
    signals = torch.zeros(n_rows, 1, n_timepoints, device="meta")
    labels = torch.zeros(n_rows, dtype=torch.int64, device="meta")
    elements: list[int] = []
    for module in net.modules():
        if isinstance(module, PRODUCTS):
            module.register_forward_hook(lambda _, args, out: elements.append(_moved(args[0], out)))
    with FlopCounterMode(display=False) as forward:
        logits = net(signals)
    with FlopCounterMode(display=False) as backward:
        F.cross_entropy(logits, labels).backward()
    size = 2 if precision == "bf16" else 4
    per_parameter = 2 * size + OPTIMIZER_BYTES
    return Work(
        n_rows=n_rows,
        forward_flops=forward.get_total_flops(),
        flops=forward.get_total_flops() + backward.get_total_flops(),
        n_bytes=size * sum(elements) + per_parameter * count_parameters(net),
    )


def _moved(features: Tensor, output: Tensor) -> int:
    """Return the elements that a product moves, forward and backward."""
    return (3 if features.requires_grad else 2) * features.numel() + 2 * output.numel()


def measure_ceilings(compute: Compute) -> Ceilings:
    """Return what a matrix product in the precision of `compute` and a copy reach, the best try."""
    compute.enter()
    device = torch.device(compute.device)
    kind = "cpu" if device.type == "cpu" else "gpu"
    dtype = torch.bfloat16 if compute.precision == "bf16" else torch.float32
    return Ceilings(
        flops_per_second=_product_rate(PRODUCT_SIDE[kind], dtype, device),
        bytes_per_second=_copy_rate(COPY_BYTES[kind], device),
    )


def _product_rate(side: int, dtype: torch.dtype, device: torch.device) -> float:
    # Random numbers: a GPU multiplies ones with less power, hence faster.
    factor = torch.rand(side, side, device=device).to(dtype)
    product = torch.empty_like(factor)
    return 2 * side**3 / _best_seconds(lambda: torch.mm(factor, factor, out=product), device)


def _copy_rate(n_bytes: int, device: torch.device) -> float:
    source = torch.ones(n_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * n_bytes / _best_seconds(lambda: target.copy_(source), device)  # read and written


def _best_seconds(action: Callable[[], Any], device: torch.device) -> float:
    seconds = []
    for _ in range(1 + N_TRIES):
        synchronize(device)
        start = time.perf_counter()
        action()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])  # the first one warms up
