"""How fast the net of an experiment trains on this machine: one alone, and as many as in a run."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hbcomp.competitions.load import load_data
from hbcomp.crossval.resources import Slot, choose_resources, seconds_per_step, slots_for
from hbcomp.data.splits import make_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.setup import prepare
from hbcomp.nets.registry import build_net, count_parameters
from hbcomp.reporting.pages import Table, print_table
from hbcomp.system.command import console
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError, within_memory
from hbcomp.system.stopwatch import duration
from hbcomp.system.workers import worker_pool
from hbcomp.training.device import Compute, choose_compute
from hbcomp.training.loader import DeviceData
from hbcomp.training.state import Recipe, Replica

N_ROWS = 100_000  # those of the competition's train file
N_SIGNALS = 4_096  # different ones; an epoch repeats them, because speed does not depend on them
SECONDS = 2.0  # of measured steps; assumed: long against the start of workers one after another
MAX_LOAD = 0.5  # above it, other programs take part of what is measured


@dataclass(frozen=True)
class Probe:
    """Nets to time on noise of the right shape."""

    recipe: Recipe
    shape: tuple[int, int]  # of a signal, or of the features that the net sees
    n_classes: int
    n_train_rows: int

    @property
    def batch_size(self) -> int:
        """The rows of one step of one net."""
        return self.recipe.train.for_rows(self.n_train_rows).batch_size

    def data(self, device: str) -> DeviceData:
        """Return the noise on the device."""
        generator = torch.Generator().manual_seed(0)
        signals = torch.randn(N_SIGNALS, *self.shape, generator=generator)
        labels = torch.arange(N_SIGNALS) % self.n_classes
        return DeviceData(signals.to(device), labels.to(device), self.n_classes)

    def replicas(self, n_nets: int, device: str) -> list[Replica]:
        """Return nets that train on as many rows as in a run."""
        rows = torch.arange(self.n_train_rows, device=device) % N_SIGNALS
        return [Replica(rows, (0, fold)) for fold in range(n_nets)]

    def rows_per_second(self, n_nets: int, compute: Compute) -> float:
        """Return the rows per second of nets that train in streams of this process."""
        replicas = self.replicas(n_nets, compute.device)
        data = self.data(compute.device)
        seconds = seconds_per_step(self.recipe, data, replicas, compute, SECONDS)
        return n_nets * self.batch_size / seconds


def measure_speeds(experiments: Sequence[str]) -> dict[str, Any]:
    """Return how fast the net of each experiment trains here, and print it as a table."""
    requests = [prepare(name, [], None) for name in dict.fromkeys(experiments)]
    about, found = asdict(machine()), {}
    if (load := about["load_at_start"]) > MAX_LOAD:
        console.print(f"warning: other programs are running (load {load}), so rates are too low")
    for each in requests:
        console.print(f"{each.run.name}: measuring")
        found[each.run.name] = measure_speed(each.config, each.run)
    print_table(speed_table(found, about), console)
    return {"machine": about, "n_rows": N_ROWS, "experiments": found}


def measure_speed(config: Config, run: RunFolder) -> dict[str, Any]:
    """Return the rows per second of one net and of as many as a run trains at once.

    The shape of a signal, the classes and the folds come from the data. Scoring is not timed, and
    neither are features of training rows.
    """
    if config.net.is_fitted:
        raise InputError(
            f"{run.name}: net {config.net.name!r} is fitted, not trained in steps that could be "
            f"timed; `hbcomp cv {run.name}` prints how long it takes"
        )
    train, _ = load_data(config.data)
    n_folds = make_folds(config.folds, train, config.folds.seeds[0]).n_folds
    n_nets = n_folds * len(config.folds.seeds)
    shape = config.features.shape(train.shape, train.n_classes)
    probe = Probe(config.recipe, shape, train.n_classes, N_ROWS - N_ROWS // n_folds)
    device = choose_compute(config.compute, is_compute_bound=config.net.is_compute_bound).device
    with within_memory("try a smaller train.batch_size or a smaller net (net.*)", device=device):
        data, replicas = probe.data(device), probe.replicas(n_nets, device)
        resources = choose_resources(config, run, data, replicas, n_folds, None)
        compute = resources.compute
        n_at_once = min(n_nets, resources.n_jobs * compute.models_per_process)
        alone = probe.rows_per_second(1, compute)
        at_once = alone if n_at_once == 1 else _rate_at_once(probe, compute, resources.n_jobs)
    n_steps = config.train.n_steps(probe.n_train_rows)
    seconds_per_group = n_steps * n_at_once * probe.batch_size / at_once
    return {
        "net": config.net.name,
        "n_parameters": count_parameters(
            build_net(config.net, shape, train.n_classes, 0, config.recipe.signals)
        ),
        "batch_size": probe.batch_size,
        "compute": asdict(compute),
        "n_processes": resources.n_jobs,
        "n_at_once": n_at_once,
        "rows_per_second": {"alone": _rounded(alone), "at_once": _rounded(at_once)},
        "seconds_per_epoch": _rounded(N_ROWS / alone),
        "n_nets": n_nets,
        "n_epochs": config.train.for_rows(probe.n_train_rows).n_epochs,
        "seconds_of_run": _rounded(math.ceil(n_nets / n_at_once) * seconds_per_group),
    }


def _rate_at_once(probe: Probe, compute: Compute, n_processes: int) -> float:
    """Return the rows per second of all processes together, each on its own device or threads."""
    if n_processes == 1:
        return probe.rows_per_second(compute.models_per_process, compute)
    slots = slots_for(compute, n_processes)
    with worker_pool(slots, _work) as workers:
        list(workers.done(iter([None] * n_processes)))  # imports take seconds, of each its own
        rates: list[float] = [each.result for each in workers.done(iter([probe] * n_processes))]
    return sum(rates)


def _work(probe: Probe | None, slot: Slot) -> float:
    compute = slot.compute
    return probe.rows_per_second(compute.models_per_process, compute) if probe else 0.0


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def speed_table(found: dict[str, dict[str, Any]], about: dict[str, Any]) -> Table:
    """Return the speeds for people, a row for each experiment."""
    header = ["experiment", "parameters", "precision", "threads", "rows/s of one net", "an epoch"]
    header += ["nets at once", "rows/s of these", "nets x epochs", "the run"]
    rows = [
        [
            name,
            f"{each['n_parameters']:,}",
            each["compute"]["precision"],
            each["compute"]["n_threads"],
            f"{each['rows_per_second']['alone']:,.0f}",
            duration(each["seconds_per_epoch"]),
            each["n_at_once"],
            f"{each['rows_per_second']['at_once']:,.0f}",
            f"{each['n_nets']} x {each['n_epochs']}",
            duration(each["seconds_of_run"]),
        ]
        for name, each in found.items()
    ]
    where = ", ".join({each["compute"]["device"]: None for each in found.values()})
    hardware = about["gpu"] if "cuda" in where else f"{about['n_cores']} cores"
    return Table(f"training {N_ROWS:,} rows on {where} ({hardware})", header, rows)
