"""What numbers depend on: hardware, versions and the day. No host names and no paths."""

import os
import platform
import resource
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
import torch

import hbcomp

_LOAD_AT_START = round(os.getloadavg()[0], 2)


@dataclass(frozen=True)
class Machine:
    """The machine and the versions that a command runs with.

    `n_cores` counts the cores that this process may use. With a `load_at_start` above about 0.5
    another program was running, and threads waited for it.
    """

    cpu: str
    n_cores: int
    memory_gib: float
    gpu: str | None
    gpu_memory_gib: float | None
    system: str
    python: str
    torch: str
    numpy: str
    hbcomp: str
    date: str
    load_at_start: float


def machine() -> Machine:
    """Return the description of this machine."""
    has_gpu = torch.cuda.is_available()
    return Machine(
        cpu=_cpu(),
        n_cores=n_cores(),
        memory_gib=_gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        gpu=torch.cuda.get_device_name() if has_gpu else None,
        gpu_memory_gib=_gib(torch.cuda.mem_get_info()[1]) if has_gpu else None,
        system=sys.platform,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        hbcomp=hbcomp.__version__,
        date=datetime.now(UTC).date().isoformat(),
        load_at_start=_LOAD_AT_START,
    )


def _gib(n_bytes: int) -> float:
    return round(n_bytes / 2**30, 1)


def _cpu() -> str:
    """Return the name of the processor, which on Linux only one file tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def n_cores() -> int:
    """Return the number of cores this process may use, by its affinity and a container's quota."""
    return int(joblib.cpu_count())


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # of another user
    return True


def peak_memory_mib() -> float:
    """Return the most memory that this process or one of its workers has held, in MiB."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(kind).ru_maxrss for kind in kinds)
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
