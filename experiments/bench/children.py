"""Python programs in processes of their own, with the time and the memory that each took.

A small process stands between: this module, run as a program. Linux counts the memory of the
process that starts a program towards the program's own peak, and a benchmark that has trained a
net holds gigabytes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

N_ERROR_LINES = 5


@dataclass(frozen=True)
class Finished:
    """What a program wrote to stdout, its wall seconds and its largest process's peak memory."""

    stdout: str
    seconds: float
    peak_mib: float


def run_python(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
) -> Finished:
    """Run `python WORDS` in the folder `cwd` to its end; a failure is a RuntimeError.

    Whatever interrupts the wait kills the program and what it started.
    """
    command = [sys.executable, __file__, sys.executable, *words]
    with subprocess.Popen(  # our own words
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            stdout, stderr = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        last = " | ".join(stderr.splitlines()[-N_ERROR_LINES:])
        raise RuntimeError(f"python {' '.join(words)} ended with {process.returncode}: {last}")
    *lines, usage = stdout.splitlines()
    return Finished("\n".join(lines), **json.loads(usage))


def mib(max_rss: int) -> float:
    """Return the MiB of a `ru_maxrss`, which counts KiB, on macOS bytes."""
    return max_rss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Run the program that the arguments are, then write its usage as a last line of JSON."""
    start = time.perf_counter()
    pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    sys.stdout.write(json.dumps({"seconds": seconds, "peak_mib": mib(usage.ru_maxrss)}) + "\n")
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
