"""How a run's folds share the machine: device, precision, threads, and how many at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from hbcomp.crossval.resources import Work, choose_n_jobs, choose_together
from hbcomp.experiment import folder
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.system.command import console
from hbcomp.training.device import (
    Compute,
    ComputeConfig,
    choose_compute,
    device_exists,
    n_cores,
)
from hbcomp.training.loader import Beats
from hbcomp.training.state import Member


@dataclass(frozen=True)
class Arrangement:
    """Where and how each net trains, and in how many processes at once."""

    compute: Compute
    n_jobs: int


def arrange(
    config: Config,
    run: RunFolder,
    beats: Beats,
    members: Sequence[Member],
    n_folds: int,
    n_jobs: int | None,
) -> Arrangement:
    """Return the arrangement for the nets that are still to train, of splits into `n_folds`.

    What is asked for is taken; what is left open is as the run began. In a fresh run the cores and
    `n_folds` fix the threads of a net; only how many train at once may be measured, with a few
    steps of the net itself. `n_jobs` None leaves the number of processes open; with
    `compute.n_threads` named it is then 1.
    """
    stored = folder.read_run(run)
    if stored:
        compute = _continued(config, Compute(**stored["compute"]))
        return Arrangement(compute, n_jobs or _open_jobs(config, compute, beats, members))
    bound = config.net.is_compute_bound
    compute = choose_compute(config.compute, is_compute_bound=bound, n_folds=n_folds)
    n_jobs = n_jobs or _open_jobs(config, compute, beats, members)
    if _may_measure_together(config, compute, len(members), n_jobs):
        share = members[: -(-len(members) // n_jobs)]  # what one GPU of several gets
        compute = choose_together(config.recipe, beats, share, compute)
    return Arrangement(compute, n_jobs)


def _may_measure_together(config: Config, compute: Compute, n_nets: int, n_jobs: int) -> bool:
    # Each GPU gets its share of the nets; several processes on one GPU were the user's choice.
    # Features of a fold take the time, not steps, and every net needs its own.
    n_gpus = {"cuda": torch.cuda.device_count(), "cpu": 0, "mps": 0}.get(compute.device, 1)
    is_open = config.compute.n_together is None and not config.features.is_of_fold
    return is_open and n_jobs <= n_gpus < n_nets


def _open_jobs(config: Config, compute: Compute, beats: Beats, members: Sequence[Member]) -> int:
    """Return how many processes fill the machine, each with its own device or threads."""
    if compute.device == "cuda":
        room = torch.cuda.device_count()
    elif compute.device == "cpu" and not config.compute.n_threads:
        room = n_cores() // compute.n_threads
    else:
        room = 1  # who names threads may want the other cores for something else
    n_jobs = max(1, min(room, len(members)))
    if n_jobs == 1 or compute.device != "cpu" or config.features.is_of_fold:
        return n_jobs
    n_steps = members[0].n_steps(config.train.batch_size) * config.train.n_epochs
    work = Work(len(members), n_steps)
    return choose_n_jobs(config.recipe, beats, members[0], compute, work, n_jobs)


def _continued(config: Config, first: Compute) -> Compute:
    """Return where a continued run trains: as it began, unless told otherwise."""
    asked = config.compute
    is_auto = asked.device == "auto"
    wish = asked.model_copy(
        update={
            "device": first.device if is_auto and device_exists(first.device) else asked.device,
            "precision": first.precision if asked.precision == "auto" else asked.precision,
            "n_threads": asked.n_threads or first.n_threads,
            "n_together": asked.n_together or first.n_together,
            "engine": _engine(asked, first),
        }
    )
    compute = choose_compute(wish, is_compute_bound=config.net.is_compute_bound)
    changes = [
        f"{key} {getattr(first, key)} before, {getattr(compute, key)} now"
        for key in ("device", "precision", "n_threads", "engine")
        if getattr(first, key) != getattr(compute, key)
    ]
    if changes:
        console.print(f"warning: the last bits of new folds will differ: {'; '.join(changes)}")
        return compute
    return replace(compute, reason="as this run began")


def _engine(asked: ComputeConfig, first: Compute) -> Literal["auto", "eager", "graph", "compile"]:
    """Return the engine a run began with, unless another is asked for or its GPU is gone."""
    is_gone = first.engine == "graph" and not device_exists(first.device)
    return asked.engine if asked.engine != "auto" or is_gone else first.engine
