"""What numbers depend on: hardware, versions and the day. No host names and no paths."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch

import hbcomp


def machine() -> dict[str, Any]:
    """Return what measured numbers depend on, as plain values."""
    has_gpu = torch.cuda.is_available()
    return {
        "processor": processor(),
        "n_cores": n_cores(),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
        "gpu_memory_gib": round(torch.cuda.mem_get_info()[1] / 2**30, 1) if has_gpu else None,
        "system": sys.platform,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "hbcomp": hbcomp.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        # Above about 0.5 something else was running, and threads waited for it.
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _memory_gib() -> float | None:
    """Return the memory of the machine, or None on Windows, which has no `sysconf`."""
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def processor() -> str:
    """Return the name of the processor, which on Linux only one file tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def n_cores() -> int:
    """Return the number of cores this process may use, by its affinity and a container's quota."""
    return int(joblib.cpu_count())


def peak_memory_mib() -> float | None:
    """Return the most memory this process or a worker has held, in MiB; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource  # which Windows does not have

    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(kind).ru_maxrss for kind in kinds)
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
