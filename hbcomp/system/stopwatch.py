"""Time by phase of a command."""

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
