"""What a training needs of memory and time, and what helps, said before anything is trained."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hbcomp.data.dataset import Dataset, in_words
from hbcomp.data.splits import Folds
from hbcomp.experiment.config import Config
from hbcomp.nets.base import NetConfig
from hbcomp.nets.registry import NETS, build_net, count_parameters
from hbcomp.nets.signals import SignalsConfig
from hbcomp.system.errors import InputError, within_memory
from hbcomp.system.memory import SHARE, mapped
from hbcomp.system.memory import in_words as bytes_in_words
from hbcomp.system.stopwatch import duration
from hbcomp.training.device import Compute, best_rate, free_bytes

MANY_PARAMETERS = 50_000_000  # of one layer; assumed: `reference` has 26 M at 205 time steps
MANY_TO_BUILD = 10_000_000  # 40 MB
N_COPIES = 4  # of each parameter: itself, its gradient and two moments of Adam
FLOAT_BYTES = 4
MANY_OPERATIONS = 10**14  # fewer take no machine long: 20 minutes of two cores
LONG_SECONDS = 3 * 3600.0  # assumed; nets take several times as long as the least that is told


@dataclass(frozen=True)
class NetSize:
    """How large a net is: its parameters, and what one row takes.

    Bytes are those kept for the backward pass, operations the additions and multiplications of the
    products and convolutions of the forward pass.
    """

    n_parameters: int
    largest: str  # the layer with the most parameters
    n_largest: int
    bytes_per_row: int
    operations_per_row: int


def size_of_net(
    config: NetConfig, shape: tuple[int, int], n_classes: int, signals: SignalsConfig | None
) -> NetSize:
    """Return the size of a net for signals of a shape, without building it in memory.

    A forward pass of two rows says which tensors autograd keeps; in bf16 they are about half as
    large. That of a large net runs on torch's device `meta`, which computes shapes only.
    """
    with torch.device("meta"):
        net = build_net(config, shape, n_classes, 0, signals)
    # Not of every net, because the first such pass of a process takes 1.6 s of imports.
    device = "meta" if count_parameters(net) > MANY_TO_BUILD else "cpu"
    with torch.device(device):
        net = net if device == "meta" else build_net(config, shape, n_classes, 0, signals)
        rows = torch.zeros(2, *shape)  # two, because batch norm needs more than one
    own = {parameter.untyped_storage()._cdata for parameter in net.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    keeping = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    counting = FlopCounterMode(display=False)
    with keeping, counting, torch.random.fork_rng(devices=[]):
        # What is kept lives as long as the output, so no two storages have one address.
        output = net.train()(rows)
    del output
    layers = {name: _own_parameters(layer) for name, layer in net.named_modules()}
    largest = max(layers, key=lambda name: layers[name])
    name = largest.removeprefix("net.")
    return NetSize(
        count_parameters(net),
        name,
        layers[largest],
        sum(kept.values()) // len(rows),
        counting.get_total_flops() // len(rows),
    )


def _own_parameters(layer: nn.Module) -> int:
    return sum(each.numel() for each in layer.parameters(recurse=False))


def size_warnings(
    config: Config,
    compute: Compute,
    train: Dataset,
    test: Dataset | None,
    folds_of_seed: Mapping[int, Folds],
    *,
    is_streamed: bool,
) -> Iterator[str]:
    """Yield what the rows and the nets take of the device's memory and of time, where it is much.

    What cannot be had on it is an InputError with numbers and a remedy.
    """
    free = free_bytes(compute.device)
    n_bytes = sum(each.signals.nbytes for each in (train, test) if each)
    if is_streamed:
        yield _of_rows(config, compute, train, test, n_bytes, free)
    if config.net.is_fitted:
        return  # it takes no steps
    free -= 0 if is_streamed else n_bytes
    shape = config.features.shape(train.shape, train.n_classes)
    with within_memory("a net of this size cannot be built; make it smaller (net.*)"):
        size = size_of_net(config.net, shape, train.n_classes, config.recipe.signals)
    if size.n_largest > MANY_PARAMETERS:
        yield (
            f"net {config.net.name} on {in_words(shape)} has {_millions(size.n_parameters)} "
            f"parameters, {_millions(size.n_largest)} of them in its layer {size.largest}: shorter "
            f"signals make it smaller{_smaller(config, shape, train.n_classes, size)}"
        )
    n_rows_of_net = max(len(each.train_idx(0)) for each in folds_of_seed.values())
    yield from _of_step(config, compute, size, n_rows_of_net, free)
    n_nets = sum(each.n_folds for each in folds_of_seed.values())
    n_rows = train.n_rows + (test.n_rows if test else 0)
    yield from _of_time(config, compute, size, n_nets, n_rows_of_net, train.n_rows, n_rows)


def _of_rows(
    config: Config, compute: Compute, train: Dataset, test: Dataset | None, n_bytes: int, free: int
) -> str:
    n_channels, n_steps = train.shape
    and_test = f" and {test.n_rows:,} test rows" if test else ""
    what = (
        f"{train.n_rows:,} rows of {n_channels} x {n_steps:,} values{and_test} are "
        f"{bytes_in_words(n_bytes)}, and {bytes_in_words(free)} are free on {compute.device}"
    )
    if config.net.is_fitted:
        raise InputError(
            f"net {config.net.name} is fitted on all rows in memory, but {what}; take fewer rows, "
            "or a net that is trained in steps"
        )
    if config.features.is_of_fold:
        raise InputError(
            f"features {config.features.name} need all rows in memory, but {what}; take "
            'fewer rows, or a net on the signals themselves (features.name = "samples")'
        )
    if config.compute.engine == "graph":
        raise InputError(f"compute.engine graph needs rows on the device, but {what}")
    place = mapped(train.signals)
    source = f"a file mapped from {place.path}" if place else "the host's memory"
    return f"{what}: they are streamed from {source}, batch by batch (compute.rows)"


def _of_step(
    config: Config, compute: Compute, size: NetSize, n_rows: int, free: int
) -> Iterator[str]:
    """Yield what a step needs, where it nearly fills the device; more than that is refused."""
    copies = N_COPIES + (config.train.ema_decay > 0)
    of_weights = copies * FLOAT_BYTES * size.n_parameters
    of_row = size.bytes_per_row // (2 if compute.precision == "bf16" else 1)
    batch = config.train.for_rows(n_rows).batch_size
    needed = of_weights + batch * of_row
    if needed <= SHARE * free:
        return
    text = (
        f"a step of {batch} rows of net {config.net.name} needs about {bytes_in_words(needed)} on "
        f"{compute.device} ({bytes_in_words(of_weights)} for {_millions(size.n_parameters)} "
        f"parameters, {bytes_in_words(of_row)} for each row), and {bytes_in_words(max(0, free))} "
        "are free"
    )
    n_fitting = int((SHARE * free - of_weights) // max(1, of_row))
    if n_fitting < 2:
        text += "; make the net smaller (net.*) or the signals shorter"
    else:
        text += f"; train.batch_size {1 << (n_fitting.bit_length() - 1)} would fit"
    if needed > free:
        raise InputError(text)
    yield text


def _of_time(
    config: Config,
    compute: Compute,
    size: NetSize,
    n_nets: int,
    n_rows_of_net: int,
    n_references: int,
    n_rows: int,
) -> Iterator[str]:
    """Yield the least time of a cross-validation, where even that is long."""
    schedule = config.train.for_rows(n_rows_of_net)
    n_seen = config.train.n_steps(n_rows_of_net) * schedule.batch_size
    of_net = 3 * size.operations_per_row * n_seen  # a backward pass is two of forward ones
    of_features = config.features.operations_per_row(n_references) * n_rows  # for all nets at once
    n_operations = n_nets * of_net + of_features
    if n_operations < MANY_OPERATIONS:
        return
    rate = best_rate(compute)
    if (seconds := n_operations / rate) < LONG_SECONDS:
        return
    if of_features > n_nets * of_net:
        what = f"features {config.features.name} of {n_rows:,} rows from {n_references:,}"
        less = "shorter signals or fewer rows"
    else:
        epochs = f"{n_nets} times {schedule.n_epochs:,} epochs"
        what = f"{epochs} of {n_rows_of_net:,} rows of net {config.net.name}"
        less = "shorter signals, fewer rows or epochs, or a smaller net (net.*)"
    stops = ", unless early stopping ends it," * config.train.early_stopping.is_on
    yield (
        f"a cross-validation takes {duration(seconds)} at best{stops} on {compute.device}: "
        f"{what} are {n_operations:.1e} additions and multiplications, and a matrix "
        f"product does {rate:.1e} a second; {less} take less"
    )


def _smaller(config: Config, shape: tuple[int, int], n_classes: int, size: NetSize) -> str:
    """Return which net has the fewest parameters here, if it has far fewer."""
    found = {
        name: size_of_net(each(name=name), shape, n_classes, config.recipe.signals).n_parameters
        for name, each in NETS.items()
        if name not in ("linear", config.net.name) and not each.is_fitted
    }
    best = min(found, key=lambda name: found[name])
    if found[best] * 4 > size.n_parameters:
        return ""
    return f', and net.name = "{best}" has {_millions(found[best])}'


def _millions(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number < 1e8 else f"{number / 1e6:.0f} M"
