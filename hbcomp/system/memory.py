"""How much memory this process may still take, what it keeps, and arrays that stay in a file."""

import ctypes
import mmap
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SHARE = 0.8  # of the free memory, for rows; assumed: the rest is for a net and its batches
BLOCK_BYTES = 1 << 26  # of rows at once, where a computation needs no more than a part of them
# A group of processes in a container, by the first and the second version of Linux's cgroups: the
# file of its limit, that of its use, and the line of memory.stat of what can be given back.
CGROUPS = (
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ("", "memory.max", "memory.current", "inactive_file"),
)


def available_bytes() -> int:
    """Return the bytes that this process can still take, at least 0.

    The least of what is free on the machine, in its container and below its own limits (ulimit).
    """
    return max(0, min([_free_on_machine(), *_free_in_container(), *_free_below_limits()]))


def fits(n_bytes: int) -> bool:
    """Return whether so many bytes of rows fit into memory twice: as read, and as copied."""
    return 2 * n_bytes <= SHARE * available_bytes()


def in_words(n_bytes: int) -> str:
    """Return a size as people say it: 57 GB, 3.2 GB, 410 MB."""
    if n_bytes < 1e9:
        return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.0f} kB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes < 1e10 else f"{n_bytes / 1e9:.0f} GB"


def _free_on_machine(meminfo: Path = Path("/proc/meminfo")) -> int:
    values = _lines(meminfo)
    if "MemAvailable:" in values:
        return values["MemAvailable:"] * 1024
    import os  # without the file, as on a Mac, all memory counts as free

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _free_in_container(
    of_process: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """Yield what is free below the limit of each group that this process is in."""
    text = of_process.read_text() if of_process.exists() else ""
    groups = dict(line.split(":", 2)[1:] for line in text.splitlines())
    for controller, limit_file, usage_file, reclaimable in CGROUPS:
        if controller not in groups:
            continue
        folder = root / controller / groups[controller].lstrip("/")
        top = root / controller
        for group in (folder, *folder.parents):
            limit, used = _number(group / limit_file), _number(group / usage_file)
            if limit is not None and used is not None:
                yield limit - used + _lines(group / "memory.stat").get(reclaimable, 0)
            if group == top:
                break


def _free_below_limits(status: Path = Path("/proc/self/status")) -> Iterator[int]:
    used = _lines(status)
    for kind, name in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and name in used:
            yield limit - used[name] * 1024


def _lines(path: Path) -> dict[str, int]:
    """Return the numbers of a file of lines such as `VmSize:  1234 kB`."""
    try:
        words = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {each[0]: int(each[1]) for each in words if len(each) > 1 and each[1].isdigit()}


def _number(path: Path) -> int | None:
    """Return the number in a file, or None if there is none, as where the limit is `max`."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


@dataclass(frozen=True)
class MappedArray:
    """Where an array lies in a file, so that another process can map it instead of a copy."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def open(self) -> np.ndarray:
        """Return the array, read-only; its pages are read when they are needed."""
        return np.memmap(self.path, np.dtype(self.dtype), "r", self.offset, self.shape)


def mapped(array: np.ndarray) -> MappedArray | None:
    """Return where an array in C order lies in a file, or None if it lies in memory."""
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    if base is None or isinstance(base, mmap.mmap) or not array.flags.c_contiguous:
        return None
    inside = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return MappedArray(str(base.filename), base.offset + inside, array.shape, array.dtype.str)


def row_blocks(array: np.ndarray) -> Iterator[slice]:
    """Yield slices of rows, each of about `BLOCK_BYTES`, at least one."""
    n_rows = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    yield from (slice(start, start + n_rows) for start in range(0, max(1, len(array)), n_rows))


# Options of glibc's mallopt(3), and its largest threshold of mmap on 64 bits.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, LARGEST_MMAP_THRESHOLD = 2**30, 2**25


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next allocation; nothing changes on other systems.

    It learns to by itself, unless the environment has MALLOC_TRIM_THRESHOLD_.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        set_option(M_TRIM_THRESHOLD, KEPT_BYTES)
        set_option(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
