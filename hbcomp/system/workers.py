"""Worker processes, each on a seat of its own: one that dies takes nobody with it.

Jobs travel pickled, but only between processes of ours over their own pipes: no file is unpickled.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

from hbcomp.system.command import deafened
from hbcomp.system.errors import InputError
from hbcomp.training.device import Compute

Job = TypeVar("Job")
MAX_DEATHS = 5  # of workers in a row; assumed: then it is not bad luck but the machine
POLL_SECONDS = 0.5  # a worker may outlive its owner by so much; a look takes microseconds


@dataclass(frozen=True)
class Done(Generic[Job]):
    """A job and what it returned; `death` says how its worker ended where it did on the way."""

    job: Job
    result: Any = None
    death: str | None = None


@dataclass(frozen=True)
class Seat:
    """A place for one worker: its number and where it computes."""

    number: int
    compute: Compute


def seats_for(compute: Compute, n_jobs: int) -> list[Seat]:
    """Return a seat for each job; several GPUs are dealt out in turn."""
    n_gpus = torch.cuda.device_count() if compute.device == "cuda" else 0
    return [
        Seat(n, replace(compute, device=f"cuda:{n % n_gpus}") if n_gpus > 1 else compute)
        for n in range(n_jobs)
    ]


class Crew(Generic[Job]):
    """Workers that run `work(job, seat)`; with one seat it runs in this very process."""

    def __init__(self, seats: Sequence[Seat], work: Callable[[Job, Seat], Any]) -> None:
        self._seats = list(seats)
        self._work = work
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._n_deaths = 0  # in a row

    def done(self, jobs: Iterator[Job]) -> Iterator[Done[Job]]:
        """Yield each job as it ends; the next is taken only when a seat is free."""
        if len(self._seats) == 1:
            for job in jobs:
                yield Done(job, self._work(job, self._seats[0]))
        else:
            yield from self._done_in_processes(jobs)

    def _done_in_processes(self, jobs: Iterator[Job]) -> Iterator[Done[Job]]:
        running: dict[Future[Any], tuple[Seat, Job]] = {}
        free = list(self._seats)
        while True:
            while free and (job := next(jobs, None)) is not None:
                seat = free.pop(0)
                with deafened():  # the pool's process starts here
                    running[self._pool(seat).submit(self._work, job, seat)] = seat, job
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                seat, job = running.pop(future)
                free.append(seat)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    self._n_deaths += 1
                    if self._n_deaths == MAX_DEATHS:
                        raise InputError(
                            f"{MAX_DEATHS} workers in a row were killed, probably for lack of "
                            "memory; what was finished is kept; try fewer --jobs "
                            f"(now {len(self._seats)})"
                        ) from error
                    self._dismiss(seat)
                    yield Done(job, death=_death(error))
                else:
                    self._n_deaths = 0
                    yield Done(job, result)

    def _pool(self, seat: Seat) -> ProcessPoolExecutor:
        # A pool of one for each seat: loky ends all processes of a pool when one of them dies.
        if seat.number not in self._pools:
            self._pools[seat.number] = ProcessPoolExecutor(
                max_workers=1, timeout=None, initializer=_follow, initargs=(os.getpid(),)
            )
        return self._pools[seat.number]

    def _dismiss(self, seat: Seat) -> None:
        self._pools.pop(seat.number).shutdown(wait=True, kill_workers=True)

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        for seat in self._seats:
            if seat.number in self._pools:
                self._dismiss(seat)


def _death(error: BrokenProcessPool) -> str:
    """Return how a worker ended, e.g. `SIGKILL(-9)`; loky tells it in its message only."""
    exit_codes = re.search(r"exit codes of the workers are \{(.*?)\}", str(error))
    return exit_codes[1] if exit_codes else str(error).partition("\n")[0]


def _follow(owner: int) -> None:
    """Make this worker end when its owner is gone: nobody would ever end it, or read its result."""
    if os.name == "nt":
        return  # a parent's number says nothing there

    def watch() -> None:
        while os.getppid() == owner:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def crew(seats: Sequence[Seat], work: Callable[[Job, Seat], Any]) -> Iterator[Crew[Job]]:
    """Yield a crew whose workers are gone afterwards."""
    workers = Crew(seats, work)
    try:
        yield workers
    finally:
        workers.close()
