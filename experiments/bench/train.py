"""Training on one device: the loops that people write against hbcomp's and the roofline."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from torch import nn

from bench.beats import tiled_beats
from bench.loops import iloc_loop, tensor_loop
from bench.plain import plain_net
from bench.roofline import Ceilings, count_work, floor_of, measure_ceilings
from bench.timing import (
    Measure,
    Spread,
    interleaved,
    ratio,
    shown,
    significant,
    spread_cells,
)
from hbcomp.nets.registry import build_net, config_class, count_parameters
from hbcomp.nets.signals import SignalsConfig
from hbcomp.reporting.pages import Table
from hbcomp.system.command import console
from hbcomp.system.environment import n_cores
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute, ComputeConfig, choose_compute
from hbcomp.training.loader import DeviceData, put_on_device
from hbcomp.training.optim import StepDecay, TrainConfig
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import train_epochs

BATCH_SIZE = 256  # the reference's
LR = 1e-3  # that of torch's plain Adam
N_ROUNDS = 3
SECONDS_PER_EPOCH = 1.2  # assumed: long against a clock's ticks, short enough for 40 of them
MIN_STEPS, MAX_STEPS = 1, 256
MAX_SECONDS = 45.0  # for a net; assumed: a busy machine gets fewer rounds, not a longer wait
N_NETS = 5  # trained together on a GPU: the folds of a seed
OURS = "ours"

Beat = tuple[Float32[np.ndarray, "n c t"], Int64[np.ndarray, " n"]]


def measure(nets: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield, net by net, the rows per second of every loop, their ratios and the roofline."""
    recipes = {name: recipe_of(name) for name in nets}  # an unknown name ends it here
    for name, recipe in recipes.items():
        yield {name: measure_net(recipe)}


def recipe_of(name: str) -> Recipe:
    """Return a net with the training that people give it: plain Adam, nothing else."""
    train = TrainConfig(
        n_epochs=1 + N_ROUNDS,
        batch_size=BATCH_SIZE,
        min_steps_per_epoch=1,  # a round of few steps has the batch of the other loops
        optimizer="adam",
        lr=LR,
        weight_decay=0.0,
        schedule=StepDecay(),
    )
    signals = SignalsConfig(scale="none" if name == "reference" else "min-max")
    return Recipe(config_class(name)(name=name), train, AugmentConfig(), signals)


def measure_net(recipe: Recipe, max_steps: int = MAX_STEPS) -> dict[str, Any]:
    """Return all rates of one net; an epoch has at most `max_steps` steps."""
    compute = choose_compute(ComputeConfig(), is_compute_bound=recipe.net.is_compute_bound)
    n_steps = min(max_steps, _affordable_steps(recipe, compute))
    dataset = tiled_beats(n_steps * recipe.train.batch_size)
    beats = put_on_device(dataset.signals, dataset.known_labels, compute.device)
    _say(f"{recipe.net.name}: {n_steps} steps of {recipe.train.batch_size} rows a round")
    ceilings = measure_ceilings(compute)
    contenders = {**_plain_loops(recipe, beats), **_our_loops(recipe, beats, compute)}
    with ExitStack() as stack:
        if compute.device == "cpu" and n_cores() > 1:
            arrays = dataset.signals, dataset.known_labels
            workers = stack.enter_context(crowd(recipe, arrays, compute, n_cores()))
            contenders[f"{OURS}, a process per core"] = workers
        rates = interleaved(contenders, N_ROUNDS, max_seconds=MAX_SECONDS)
    return {
        "n_parameters": count_parameters(_net_of(recipe, beats)),
        "batch_size": recipe.train.batch_size,
        "n_rows": dataset.n_rows,
        "compute": asdict(compute),
        "rows_per_second": {name: Spread.of(each).to_json() for name, each in rates.items()},
        "ours_is_faster_by": {
            name: ratio(rates[OURS], each).to_json() for name, each in rates.items()
        },
        "roofline": roofline(recipe, beats, compute, ceilings, rates),
    }


def _say(what: str) -> None:
    console.print(f"train: {what}")


def _net_of(recipe: Recipe, beats: DeviceData) -> nn.Module:
    return build_net(recipe.net, beats.shape, beats.n_classes, 0, recipe.signals)


def _affordable_steps(recipe: Recipe, compute: Compute) -> int:
    """Return how many steps of the loop over tensors take about `SECONDS_PER_EPOCH`."""
    dataset = tiled_beats(recipe.train.batch_size)
    beats = put_on_device(dataset.signals, dataset.known_labels, compute.device)
    loop = tensor_loop(_net_of(recipe, beats), beats, recipe.train.batch_size)
    rate = max(loop() for _ in range(3))  # the first one warms up
    n_steps = round(SECONDS_PER_EPOCH * rate / recipe.train.batch_size)
    return max(MIN_STEPS, min(MAX_STEPS, n_steps))


def _plain_loops(recipe: Recipe, beats: DeviceData) -> dict[str, Measure]:
    """Return the loops that people write, with the net as they write it and then with ours."""
    size, shape = recipe.train.batch_size, (beats.shape[1], beats.n_classes)
    nets = [plain_net(recipe.net, *shape) for _ in range(2)]
    loops: dict[str, Measure] = {}
    if nets[0] and nets[1]:
        loops["iloc loop, plain net"] = iloc_loop(nets[0], beats, size)
        loops["tensor loop, plain net"] = tensor_loop(nets[1], beats, size)
    else:
        loops["iloc loop, our net"] = iloc_loop(_net_of(recipe, beats), beats, size)
    return {**loops, "tensor loop, our net": tensor_loop(_net_of(recipe, beats), beats, size)}


def _our_loops(recipe: Recipe, beats: DeviceData, compute: Compute) -> dict[str, Measure]:
    """Return ours as it is chosen, and on a GPU every other way to arrange it."""
    ways = {OURS: (compute, 1)}
    if compute.device.startswith("cuda"):
        ways |= {
            f"{OURS}, fp32": (replace(compute, precision="fp32"), 1),
            f"{OURS}, tf32": (replace(compute, precision="tf32"), 1),
            f"{OURS}, not captured": (replace(compute, engine="eager"), 1),
            f"{OURS}, {N_NETS} nets in streams": (compute, N_NETS),
        }
    return {name: ours(recipe, beats, n, way).__next__ for name, (way, n) in ways.items()}


def ours(recipe: Recipe, beats: DeviceData, n_nets: int, compute: Compute) -> Iterator[float]:
    """Train nets on all beats at the same time, yielding the rows per second of each epoch.

    Rows count once for each net. Whatever sets the process up otherwise between two epochs does
    not matter.
    """
    rows = torch.arange(len(beats.labels), device=beats.device)
    replicas = [Replica(rows, (0, fold)) for fold in range(n_nets)]
    compute.enter()
    for epochs in train_epochs(recipe, beats, replicas, compute):
        # Each net's seconds are its share of the epoch's.
        yield n_nets * len(rows) / sum(epoch.seconds for epoch in epochs)
        compute.enter()


@dataclass(frozen=True)
class Window:
    """An epoch in a worker: when it began and ended on the machine's clock, and its rows."""

    start: float
    end: float
    n_rows: int

    def rows_within(self, start: float, end: float) -> float:
        """Return the rows trained between two times, at the epoch's mean rate."""
        seconds = max(0.0, min(end, self.end) - max(start, self.start))
        return self.n_rows * seconds / (self.end - self.start)


def common_rate(windows_of_worker: Sequence[Sequence[Window]]) -> float:
    """Return the rows per second of all workers together, while all of them were training.

    Epochs that lie partly in that time count in part.
    """
    start = max(windows[0].start for windows in windows_of_worker)
    end = min(windows[-1].end for windows in windows_of_worker)
    if end <= start:
        raise RuntimeError("the workers never trained at the same time")
    everything = [window for windows in windows_of_worker for window in windows]
    return sum(window.rows_within(start, end) for window in everything) / (end - start)


@contextmanager
def crowd(recipe: Recipe, beats: Beat, compute: Compute, n_workers: int) -> Iterator[Measure]:
    """Yield what measures ours in one process of one thread per core, as `hbcomp cv` may train."""
    two_epochs = recipe.train.model_copy(update={"n_epochs": 2})
    alone = replace(recipe, train=two_epochs), beats, replace(compute, n_threads=1)
    workers = Parallel(n_jobs=n_workers)

    def train_all() -> list[list[Window]]:
        windows: list[list[Window]] = workers(delayed(work)(*alone) for _ in range(n_workers))
        return windows

    try:
        train_all()  # what workers import takes seconds, and they may not meet
        yield lambda: common_rate(train_all())
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


def work(recipe: Recipe, beats: Beat, compute: Compute) -> list[Window]:
    """Train a net in this process and return its epochs but the first, which warms up."""
    resident = put_on_device(*beats, compute.device)
    windows = []
    for rate in ours(recipe, resident, 1, compute):
        end = time.monotonic()  # one clock for all processes
        n_rows = len(resident.labels)
        windows.append(Window(end - n_rows / rate, end, n_rows))
    return windows[1:]


def roofline(
    recipe: Recipe,
    beats: DeviceData,
    compute: Compute,
    ceilings: Ceilings,
    rates: dict[str, list[float]],
) -> dict[str, Any]:
    """Return the ceilings, the floor of a step and how much of it each of our loops reaches."""
    n_timepoints, size = beats.shape[1], recipe.train.batch_size
    step = count_work(recipe.net, n_timepoints, beats.n_classes, size, compute.precision)
    floor = floor_of(step, ceilings)
    return {
        "mflop_per_row_forward": significant(step.forward_flops / size / 1e6),
        "mflop_per_row": significant(step.flops / size / 1e6),
        "mb_per_step": significant(step.n_bytes / 1e6),
        "ceiling_gflops": significant(ceilings.flops_per_second / 1e9),
        "ceiling_gb_per_second": significant(ceilings.bytes_per_second / 1e9),
        "floor_ms_per_step": significant(1e3 * floor.seconds),
        "serial_floor_ms_per_step": significant(1e3 * floor.serial_seconds),
        "per_cent": {
            name: significant(floor.per_cent(step, Spread.of(each).median))
            for name, each in rates.items()
        },
    }


def tables(numbers: dict[str, Any]) -> list[Table]:
    """Return the numbers for people."""
    return [_table(name, found) for name, found in numbers.items()]


def _table(name: str, found: dict[str, Any]) -> Table:
    rates, faster = found["rows_per_second"], found["ours_is_faster_by"]
    roof = found["roofline"]
    rows = [
        [way, *spread_cells(rates[way]), *spread_cells(faster[way]), shown(roof["per_cent"][way])]
        for way in rates
    ]
    header = ["training", "rows/s", "low", "high", "ours / it", "low", "high", "% of roofline"]
    compute = found["compute"]
    title = (
        f"{name}: batch {found['batch_size']}, ours in {compute['precision']} on "
        f"{compute['device']}; floor {roof['floor_ms_per_step']:g} ms a step "
        f"({roof['mflop_per_row']:g} MFLOP a row at {roof['ceiling_gflops']:g} GFLOP/s, "
        f"{roof['mb_per_step']:g} MB at {roof['ceiling_gb_per_second']:g} GB/s)"
    )
    return Table(title, header, rows)
