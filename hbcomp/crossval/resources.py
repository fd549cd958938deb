"""How fast a few steps run on this machine, and which arrangement of the folds that speaks for."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from hbcomp.training.device import Compute, synchronize
from hbcomp.training.engine import Lane, make_lanes, take_step
from hbcomp.training.loader import Beats
from hbcomp.training.state import Member, Recipe
from hbcomp.training.step import N_EAGER_STEPS

MIN_SECONDS = 0.3  # of measured steps; assumed: enough to rank arrangements that differ by 10 %
MIN_LOOKS = 3
N_STEPS_PER_LOOK = 20
# Measured on 2 cores: two processes of one thread each ran at 0.86 to 1.0 of one such alone.
CROWDING = 0.9
WORKER_SECONDS = 6.0  # measured: a worker's imports, and the beats to it
MIN_GAIN = 1.1  # what an arrangement must promise over the one that is safer
MEMORY_SHARE = 0.8  # of the free GPU memory; the rest is for predictions and fragmentation
MOST_TOGETHER = 8  # measured on an H200: eight reference nets are no faster than four of them


def seconds_per_step(
    recipe: Recipe, beats: Beats, members: Sequence[Member], compute: Compute
) -> float:
    """Return the median time of a step of all members at once, after warm-up, synchronised."""
    compute.enter()
    lanes = make_lanes(recipe, beats, members, compute)
    n_steps = min(lane.state.n_steps for lane in lanes)
    is_cpu = beats.device.type == "cpu"
    _timed(lanes, 1 if is_cpu else N_EAGER_STEPS + 1, n_steps, beats.device)
    # A GPU gets many steps before it is asked how far it is, as in an epoch.
    n_per_look = 1 if is_cpu else N_STEPS_PER_LOOK
    seconds: list[float] = []
    while len(seconds) < MIN_LOOKS or sum(seconds) < MIN_SECONDS:
        seconds.append(_timed(lanes, n_per_look, n_steps, beats.device))
    return sorted(seconds)[len(seconds) // 2] / n_per_look


def _timed(lanes: Sequence[Lane], n_taken: int, n_steps: int, device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    for step in range(n_taken):
        if step % n_steps == 0:
            _rewind(lanes)
        take_step(lanes, step % n_steps)
    synchronize(device)
    return time.perf_counter() - start


def _rewind(lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        lane.steps.begin(lane.state, 1)


@dataclass(frozen=True)
class Work:
    """How much a run has to train: nets, and the steps of each."""

    n_nets: int
    n_steps: int


def choose_n_jobs(
    recipe: Recipe, beats: Beats, member: Member, compute: Compute, work: Work, n_jobs: int
) -> int:
    """Return how many nets to train at once in processes of a CPU, 1 or `n_jobs`, by measurement.

    Their threads are fixed before, so the stopwatch decides when a net is trained and none of its
    bits.
    """
    return fewest_seconds(work, n_jobs, seconds_per_step(recipe, beats, [member], compute))


def fewest_seconds(work: Work, n_jobs: int, step_seconds: float) -> int:
    """Return 1 or `n_jobs`, whichever should finish first; workers take seconds to start."""
    seconds_of_one = work.n_steps * step_seconds
    rounds = math.ceil(work.n_nets / n_jobs)
    in_parallel = rounds * seconds_of_one / CROWDING + WORKER_SECONDS
    return 1 if work.n_nets * seconds_of_one < in_parallel else n_jobs


def choose_together(
    recipe: Recipe, beats: Beats, members: Sequence[Member], compute: Compute
) -> Compute:
    """Return how many nets to train at once on a GPU, each in a stream of its own.

    One alone and as many as fit train a few steps each, and the one with the more rows per second
    is taken. The nets take at most `MEMORY_SHARE` of the free memory, going by what one alone took.
    """
    compute.enter()  # first: what follows asks about the device that this sets
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    seconds = {1: seconds_per_step(recipe, beats, members[:1], compute)}
    bytes_of_one = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    n_most = most_together(len(members), bytes_of_one, torch.cuda.mem_get_info()[0])
    if n_most > 1:
        # Several may need more than n times the memory of one net.
        with suppress(torch.OutOfMemoryError):
            seconds[n_most] = seconds_per_step(recipe, beats, members[:n_most], compute)
        torch.cuda.empty_cache()
    n_together, gain = fastest(seconds)
    return replace(
        compute,
        n_together=n_together,
        reason=f"{compute.reason}; {n_together} at once, measured {gain:.1f}x one alone",
    )


def most_together(n_members: int, bytes_of_one: int, bytes_free: int) -> int:
    """Return how many nets fit at the same time, at least 1."""
    fitting = int(bytes_free * MEMORY_SHARE) // max(1, bytes_of_one)
    return max(1, min(n_members, MOST_TOGETHER, fitting))


def fastest(seconds: Mapping[int, float]) -> tuple[int, float]:
    """Return the number of nets with the most steps per second, and how many times those of one.

    One net alone, unless another number gains more than `MIN_GAIN`.
    """
    gains = {n: n * seconds[1] / each for n, each in seconds.items()}
    best = max(gains, key=lambda n: gains[n])
    return (best, gains[best]) if gains[best] > MIN_GAIN else (1, 1.0)
