"""Device, threads and processes of a cross-validation, chosen by timing a few training steps."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.resume import read_run
from hbcomp.system.command import console
from hbcomp.system.environment import n_cores
from hbcomp.system.memory import SHARE, available_bytes
from hbcomp.training.device import (
    Compute,
    ComputeConfig,
    choose_compute,
    device_exists,
    synchronize,
)
from hbcomp.training.loader import DeviceData
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import N_EAGER_STEPS, EagerSteps, GraphSteps, make_steps

MIN_SECONDS = 0.3  # of measured steps; assumed: enough to rank ways to train that differ by 10 %
MIN_TIMINGS = 3
LONG_STEP = 2.0  # seconds; assumed: long against what the first step of a process prepares
N_STEPS_PER_TIMING = 20
# Measured on 2 cores: each of two processes of one thread had 0.86 to 1.0 of the speed of one.
PARALLEL_EFFICIENCY = 0.9
WORKER_SECONDS = 6.0  # measured: a worker's imports, and the rows sent to it
MIN_GAIN = 1.1  # by how much training in a group must be faster to be chosen
MEMORY_SHARE = 0.8  # of the free GPU memory; the rest is for predictions and fragmentation
MAX_PROCESSES = 1 << 16
MAX_GROUP_SIZE = 8  # measured on an H200: eight reference nets are no faster than four of them


def seconds_per_step(
    recipe: Recipe,
    data: DeviceData,
    replicas: Sequence[Replica],
    compute: Compute,
    min_seconds: float | None = None,
) -> float:
    """Return the median time of a step of all replicas at once, after warm-up, synchronised.

    A step that takes long on a CPU is timed once: there is little in it to warm up.
    """
    compute.enter()
    steps_of_replica = make_steps(recipe, data, replicas, compute)
    is_cpu = data.device.type == "cpu"
    first = _timed(steps_of_replica, 1 if is_cpu else N_EAGER_STEPS + 1, data.device)
    if is_cpu and first > LONG_STEP:
        return first
    # As in an epoch, the host sends a GPU many steps before it waits for them.
    n_per_timing = 1 if is_cpu else N_STEPS_PER_TIMING
    seconds: list[float] = []
    while len(seconds) < MIN_TIMINGS or sum(seconds) < (min_seconds or MIN_SECONDS):
        seconds.append(_timed(steps_of_replica, n_per_timing, data.device))
    return sorted(seconds)[len(seconds) // 2] / n_per_timing


def _timed(
    steps_of_replica: Sequence[EagerSteps | GraphSteps], n_taken: int, device: torch.device
) -> float:
    n_steps = min(steps.state.n_steps for steps in steps_of_replica)
    synchronize(device)
    start = time.perf_counter()
    for step in range(n_taken):
        for steps in steps_of_replica:
            if step % n_steps == 0:
                steps.begin(1)
            steps()
    synchronize(device)
    return time.perf_counter() - start


def fastest_n_jobs(n_nets: int, seconds_of_one: float, n_jobs: int) -> int:
    """Return 1 or `n_jobs` processes of a CPU, whichever should finish first.

    Workers take seconds to start. The threads of a net are fixed before, so its bits do not depend
    on this choice.
    """
    n_rounds = math.ceil(n_nets / n_jobs)
    in_parallel = n_rounds * seconds_of_one / PARALLEL_EFFICIENCY + WORKER_SECONDS
    return 1 if n_nets * seconds_of_one < in_parallel else n_jobs


def choose_group_size(
    recipe: Recipe, data: DeviceData, replicas: Sequence[Replica], compute: Compute
) -> Compute:
    """Return how many nets to train at once on a GPU, each in a stream of its own.

    A few steps are timed with one net and with as many as fit, and the size with more rows per
    second is chosen. The nets may take `MEMORY_SHARE` of the free memory, as estimated from one.
    """
    compute.enter()  # first: what follows asks about the device that this sets
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    seconds = {1: seconds_per_step(recipe, data, replicas[:1], compute)}
    bytes_of_one = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    n_most = largest_group(len(replicas), bytes_of_one, torch.cuda.mem_get_info()[0])
    if n_most > 1:
        # Several may need more than n times the memory of one net.
        with suppress(torch.OutOfMemoryError):
            seconds[n_most] = seconds_per_step(recipe, data, replicas[:n_most], compute)
        torch.cuda.empty_cache()
    group_size, gain = fastest(seconds)
    return replace(
        compute,
        models_per_process=group_size,
        reason=f"{compute.reason}; {group_size} at once, measured {gain:.1f}x one alone",
    )


def largest_group(n_replicas: int, bytes_of_one: int, bytes_free: int) -> int:
    """Return how many nets fit at the same time, at least 1."""
    fitting = int(bytes_free * MEMORY_SHARE) // max(1, bytes_of_one)
    return max(1, min(n_replicas, MAX_GROUP_SIZE, fitting))


def fastest(seconds: Mapping[int, float]) -> tuple[int, float]:
    """Return the group size with the most steps per second, and its gain over one net.

    A size above 1 is chosen only if it gains more than `MIN_GAIN`.
    """
    gains = {n: n * seconds[1] / each for n, each in seconds.items()}
    best = max(gains, key=lambda n: gains[n])
    return (best, gains[best]) if gains[best] > MIN_GAIN else (1, 1.0)


@dataclass(frozen=True)
class Resources:
    """The device, precision and threads of each net, and the number of processes at once."""

    compute: Compute
    n_jobs: int
    seconds_of_net: float | None = None  # of its steps, where a timing probe was needed


def choose_resources(
    config: Config,
    run: RunFolder,
    data: DeviceData,
    replicas: Sequence[Replica],
    n_folds: int,
    n_jobs: int | None,
) -> Resources:
    """Return the resources of the nets that are still to train, of splits into `n_folds`.

    Options that are not set are as the run began. In a new run the cores and `n_folds` decide the
    threads of a net, and a timing probe decides how many nets train at once. `n_jobs` None leaves
    the number of processes open; it is then 1 if `compute.n_threads` is set.
    """
    stored = read_run(run)
    if stored and stored.compute:
        compute = _continued(config, stored.compute)
        return _with_jobs(config, compute, data, replicas, n_jobs)
    bound = config.net.is_compute_bound
    compute = choose_compute(config.compute, is_compute_bound=bound, n_folds=n_folds)
    resources = _with_jobs(config, compute, data, replicas, n_jobs)
    if _may_measure_group_size(config, compute, len(replicas), resources.n_jobs):
        share = replicas[: -(-len(replicas) // resources.n_jobs)]  # what one GPU of several gets
        compute = choose_group_size(config.recipe, data, share, compute)
    return replace(resources, compute=compute)


def _may_measure_group_size(config: Config, compute: Compute, n_nets: int, n_jobs: int) -> bool:
    # Several processes on one GPU were the user's choice.
    n_gpus = {"cuda": torch.cuda.device_count(), "cpu": 0, "mps": 0}.get(compute.device, 1)
    is_open = config.compute.models_per_process is None and config.steps_take_the_time
    return is_open and n_jobs <= n_gpus < n_nets


def _with_jobs(
    config: Config,
    compute: Compute,
    data: DeviceData,
    replicas: Sequence[Replica],
    n_jobs: int | None,
) -> Resources:
    """Return so many processes; left open, as many as fill the machine and its memory."""
    if n_jobs:
        return Resources(compute, n_jobs)
    if compute.device == "cuda":
        room = torch.cuda.device_count()
    elif compute.device == "cpu" and not config.compute.n_threads:
        room = n_cores() // compute.n_threads
    else:
        room = 1  # who names threads may want the other cores for something else
    n_jobs = max(1, min(room, len(replicas), largest_n_jobs(data)))
    if n_jobs == 1 or compute.device != "cpu" or not config.steps_take_the_time:
        return Resources(compute, n_jobs)
    n_steps = config.train.n_steps(len(replicas[0].train_idx))
    seconds_of_one = n_steps * seconds_per_step(config.recipe, data, replicas[:1], compute)
    n_jobs = fastest_n_jobs(len(replicas), seconds_of_one, n_jobs)
    return Resources(compute, n_jobs, seconds_of_one)


def largest_n_jobs(data: DeviceData) -> int:
    """Return for how many processes of a CPU there is memory, at least 1.

    Each holds resident rows twice: as they were sent to it, and as its nets read them.
    """
    n_bytes = sum(
        each.nbytes for each in (data.signals, data.test_signals) if isinstance(each, Tensor)
    )
    if not n_bytes or data.device.type != "cpu":
        return MAX_PROCESSES
    return max(1, min(MAX_PROCESSES, int(SHARE * available_bytes()) // (2 * n_bytes)))


def _continued(config: Config, first: Compute) -> Compute:
    """Return the resources of a continued run: those it began with, unless others are requested."""
    request = config.compute
    is_auto = request.device == "auto"
    options = request.model_copy(
        update={
            "device": first.device if is_auto and device_exists(first.device) else request.device,
            "precision": first.precision if request.precision == "auto" else request.precision,
            "n_threads": request.n_threads or first.n_threads,
            "models_per_process": request.models_per_process or first.models_per_process,
            "engine": _engine(request, first),
        }
    )
    compute = choose_compute(options, is_compute_bound=config.net.is_compute_bound)
    changes = [
        f"{key} {getattr(first, key)} before, {getattr(compute, key)} now"
        for key in ("device", "precision", "n_threads", "engine")
        if getattr(first, key) != getattr(compute, key)
    ]
    if changes:
        console.print(f"warning: the last bits of new folds will differ: {'; '.join(changes)}")
        return compute
    return replace(compute, reason="as this run began")


def _engine(request: ComputeConfig, first: Compute) -> Literal["auto", "eager", "graph", "compile"]:
    """Return the engine that a run began with, unless another is requested or its GPU is gone."""
    is_gone = first.engine == "graph" and not device_exists(first.device)
    return request.engine if request.engine != "auto" or is_gone else first.engine


@dataclass(frozen=True)
class Slot:
    """The number of a worker and the resources of its nets."""

    number: int
    compute: Compute


def slots_for(compute: Compute, n_jobs: int) -> list[Slot]:
    """Return a slot for each job; with several GPUs the slots take them in turn."""
    n_gpus = torch.cuda.device_count() if compute.device == "cuda" else 0
    return [
        Slot(n, replace(compute, device=f"cuda:{n % n_gpus}") if n_gpus > 1 else compute)
        for n in range(n_jobs)
    ]
