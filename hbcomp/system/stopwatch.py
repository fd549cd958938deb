"""Time by phase of a command, and a time in words."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# In the order of a run. `probe` times a few steps to choose processes and threads; `compile` builds
# nets and takes the first steps, in which kernels are chosen, compiled or captured.
PHASES = (
    "import",
    "read",
    "probe",
    "transfer",
    "features",
    "compile",
    "train",
    "validate",
    "predict",
    "decide",
    "write",
    "draw",
)


class Stopwatch:
    """Seconds by phase, summed over worker processes, and in all."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._start = time.perf_counter()

    def total(self) -> float:
        """Return the seconds since the watch was made."""
        return time.perf_counter() - self._start

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase, also when it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - start})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds that were measured elsewhere."""
        for name, more in seconds.items():
            self.seconds[name] += more


def duration(seconds: float) -> str:
    """Return a time as people say it: 0.4 s, 17 s, 12 min, 3.1 h or 5.2 days."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"
