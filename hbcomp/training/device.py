"""The device, the precision and the threads of a net, with the reason for each choice."""

import time
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from hbcomp.system.config import Section, written_as
from hbcomp.system.environment import n_cores
from hbcomp.system.errors import InputError
from hbcomp.system.memory import SHARE, available_bytes

Precision = Literal["fp32", "tf32", "bf16"]
Engine = Literal["eager", "graph", "compile"]
DEVICES: Final = r"auto|cpu|mps|cuda(:[0-9]{1,4})?"
CLUSTERS: Final = r"|local:[1-9][0-9]{0,3}|(tcp|tls|ws|wss)://.+"


class ComputeConfig(Section):
    """Where and how to compute; this decides the speed and the last bits of a result."""

    device: Annotated[str, written_as(DEVICES, "auto, cpu, mps, cuda or cuda:0")] = "auto"
    n_threads: int | None = Field(default=None, ge=1)  # CPU threads per net; None: share the cores
    precision: Literal["auto", Precision] = "auto"
    # `graph` captures a step as a CUDA graph; `compile` is torch.compile, which loses on a CPU
    # (measured, experiments/LOG.md). auto: graph on CUDA, eager elsewhere.
    engine: Literal["auto", Engine] = "auto"
    # Nets that train at the same time in one process. None: measured on a CUDA GPU.
    models_per_process: int | None = Field(default=None, ge=1)
    # Rows that do not fit into the device's memory are streamed to it, batch by batch, from the
    # host's memory or a file. auto: by what is free.
    rows: Literal["auto", "resident", "streamed"] = "auto"
    # The scheduler of a Dask cluster whose workers train the folds, or local:N. Empty: none.
    cluster: Annotated[
        str, written_as(CLUSTERS, "an address such as tcp://host:8786 or local:4")
    ] = ""

    @model_validator(mode="after")
    def _check(self) -> "ComputeConfig":
        if self.rows == "streamed" and self.engine == "graph":
            raise ValueError("`engine` graph cannot stream rows, because it reads fixed addresses")
        return self


@dataclass(frozen=True)
class Compute:
    """The resources of a net and the reason for them; a worker needs nothing else."""

    device: str
    precision: Precision
    n_threads: int
    reason: str
    engine: Engine = "eager"
    models_per_process: int = 1

    @property
    def threads(self) -> str:
        """The number of threads in words."""
        return f"{self.n_threads} thread{'s' * (self.n_threads > 1)}"

    @property
    def autocast(self) -> torch.autocast:
        """A context in which matrix products run in the chosen precision.

        Without its cache of cast weights, which a captured step must not read from.
        """
        return torch.autocast(
            torch.device(self.device).type,
            torch.bfloat16,
            enabled=self.precision == "bf16",
            cache_enabled=False,
        )

    def enter(self) -> None:
        """Set the process up for this choice.

        cuDNN must not pick kernels that add in a random order: the same seed shall give the same
        bits. cuDNN would take tf32 for fp32 by itself. Denormal floats, which decaying Adam
        moments become, can cost a CPU a hundred cycles each and are zero for every purpose here.
        """
        torch.set_num_threads(self.n_threads)
        torch.set_flush_denormal(True)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        products = "tf32" if self.precision == "tf32" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = products
        torch.backends.cudnn.conv.fp32_precision = products  # type: ignore[attr-defined]
        if self.device.startswith("cuda:"):
            torch.cuda.set_device(self.device)


def choose_compute(config: ComputeConfig, *, is_compute_bound: bool, n_folds: int = 1) -> Compute:
    """Return the resources of a net; a requested device that is absent is an InputError.

    bf16 pays on a CPU only if that has the instructions and matrix products dominate the net
    (`is_compute_bound`). Threads decide the last bits, so they follow from the cores and from
    `n_folds`, the folds of a split, and never from a measurement.
    """
    device, why_device = _choose_device(config.device)
    precision, why_precision = _choose_precision(config.precision, device, is_compute_bound)
    return Compute(
        device=device,
        precision=precision,
        n_threads=config.n_threads or max(1, n_cores() // n_folds),
        reason=f"{why_device}; {why_precision}",
        engine=_choose_engine(config.engine, device),
        models_per_process=config.models_per_process or 1,
    )


def free_bytes(device: str) -> int:
    """Return how much memory is free on the device."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    if device == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return available_bytes()


def best_rate(compute: Compute) -> float:
    """Return the additions and multiplications per second of a large matrix product, measured.

    It uses all cores, or all GPUs in bf16: no net trains at a higher rate.
    """
    is_cuda = compute.device.startswith("cuda")
    dtype = torch.bfloat16 if is_cuda or compute.precision == "bf16" else torch.float32
    size = 4096 if is_cuda else 1024
    matrix = torch.ones(size, size, device=compute.device, dtype=dtype)
    seconds = []
    for _ in range(8):  # the first of which warms up, and some wait for other programs
        synchronize(matrix.device)
        start = time.perf_counter()
        matrix @ matrix
        synchronize(matrix.device)
        seconds.append(time.perf_counter() - start)
    n_others = torch.cuda.device_count() if is_cuda else n_cores() / torch.get_num_threads()
    return max(1.0, n_others) * 2 * size**3 / min(seconds)


def streams_rows(config: ComputeConfig, device: str, *arrays: np.ndarray | None) -> bool:
    """Return whether rows are streamed: as configured, or where they do not fit on the device."""
    if config.rows != "auto":
        return config.rows == "streamed"
    n_bytes = sum(array.nbytes for array in arrays if array is not None)
    return n_bytes > SHARE * free_bytes(device)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work that was sent to it; a CPU always has."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def device_exists(name: str) -> bool:
    """Return whether torch finds the device of that name."""
    kind, _, index = name.partition(":")
    if kind == "cuda":
        return int(index or 0) < torch.cuda.device_count()
    return kind == "cpu" or torch.backends.mps.is_available()


def _choose_device(wanted: str) -> tuple[str, str]:
    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda", f"a CUDA GPU is there ({torch.cuda.get_device_name()})"
        if torch.backends.mps.is_available():
            return "mps", "an Apple GPU is there"
        return "cpu", "no GPU was found"
    if not device_exists(wanted):
        raise InputError(f"compute.device: torch finds no device {wanted!r}")
    return wanted, f"{wanted} requested"


def _choose_precision(
    wanted: Literal["auto", Precision], device: str, is_compute_bound: bool
) -> tuple[Precision, str]:
    if wanted == "tf32":
        _need_cuda("compute.precision tf32", device)
    if wanted != "auto":
        return wanted, f"{wanted} requested"
    if device.startswith("cuda"):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "bf16, which this GPU computes"
        return "fp32", "fp32, as this GPU lacks bf16"
    if device == "cpu" and is_compute_bound and _cpu_has_bf16():
        return "bf16", "bf16, which this CPU computes and this net gains from"
    # Measured on a CPU without the instructions: bf16 training takes 1.5-2.9 times as long.
    return "fp32", f"fp32, as bf16 does not pay for this net on this {device}"


def _choose_engine(wanted: Literal["auto", Engine], device: str) -> Engine:
    if wanted == "auto":
        return "graph" if device.startswith("cuda") else "eager"
    if wanted == "graph":
        _need_cuda("compute.engine graph", device)
    return wanted


def _need_cuda(what: str, device: str) -> None:
    if not device.startswith("cuda"):
        raise InputError(f"{what} needs a CUDA GPU, but the device is {device}")


def _cpu_has_bf16() -> bool:
    # oneDNN's bf16 kernels need one of the two instruction sets; torch offers no public question.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
