"""Where to compute and in which precision, each with the reason to print."""

import os
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field

from hbcomp.config import Section
from hbcomp.errors import InputError

Precision = Literal["fp32", "bf16"]


class ComputeConfig(Section):
    """Device, threads and precision. They decide the last bits of a result, not its meaning."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    n_threads: int | None = Field(default=None, ge=1)  # CPU threads per fold; None: share the cores
    precision: Literal["auto", "fp32", "bf16"] = "auto"


@dataclass(frozen=True)
class Compute:
    """The choice that was made, and why; everything a worker needs to reproduce it."""

    device: str
    precision: Precision
    n_threads: int
    reason: str

    @property
    def autocast(self) -> torch.autocast:
        """A context in which matrix products run in the chosen precision."""
        return torch.autocast(
            torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16"
        )

    def enter(self) -> None:
        """Set the process up for this choice.

        cuDNN must not pick kernels that add in a random order: the same seed shall give the same
        bits. Denormal floats, which decaying Adam moments become, can cost a CPU a hundred cycles
        each and are zero for every purpose here.
        """
        torch.set_num_threads(self.n_threads)
        torch.set_flush_denormal(True)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        if self.device.startswith("cuda:"):
            torch.cuda.set_device(self.device)


def choose_compute(config: ComputeConfig, *, is_compute_bound: bool, n_jobs: int = 1) -> Compute:
    """Return device and precision for a net; an absent device that was named is an InputError.

    `is_compute_bound` says whether matrix products dominate the net: only then does bf16 pay
    on a CPU, and only on one with the instructions for it.
    """
    device, why_device = _choose_device(config.device)
    precision, why_precision = _choose_precision(config.precision, device, is_compute_bound)
    n_threads = config.n_threads or max(1, n_cores() // n_jobs)
    return Compute(device, precision, n_threads, f"{why_device}; {why_precision}")


def n_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        raise InputError(
            f"compute.device: {wanted!r} was asked for, but torch finds no such device"
        )
    return wanted, "asked for"


def _choose_precision(wanted: str, device: str, is_compute_bound: bool) -> tuple[Precision, str]:
    if wanted == "fp32":
        return "fp32", "fp32 asked for"
    if wanted == "bf16":
        return "bf16", "bf16 asked for"
    if device.startswith("cuda"):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "bf16, which this GPU computes"
        return "fp32", "fp32, as this GPU lacks bf16"
    if device == "cpu" and is_compute_bound and _cpu_has_bf16():
        return "bf16", "bf16, which this CPU computes and this net gains from"
    # Measured on a CPU without the instructions: bf16 training takes 1.5-2.9 times as long.
    return "fp32", f"fp32, as bf16 does not pay for this net on this {device}"


def _cpu_has_bf16() -> bool:
    # oneDNN's bf16 kernels need one of the two instruction sets; torch offers no public question.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
