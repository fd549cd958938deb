"""Workers, each with a slot of its own and in a process, so that one that dies ends no other.

Jobs are pickled only between these processes, over their own pipes. No file is unpickled.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool, PicklingError

from hbcomp.system.command import ctrl_c_delayed, signals_blocked, tracker_warnings_off
from hbcomp.system.errors import InputError


@runtime_checkable
class Numbered(Protocol):
    """The slot of one worker, with a number of its own."""

    @property
    def number(self) -> int:
        """Counted from 0."""


Job = TypeVar("Job")
Slot = TypeVar("Slot", bound=Numbered)
MAX_EXITS = 5  # of workers in a row; assumed: more are a fault of the machine
POLL_SECONDS = 0.5  # by which a worker may outlive its owner; a check takes microseconds


@dataclass(frozen=True)
class Done(Generic[Job]):
    """A job and its result, or how its worker ended before the job was done."""

    job: Job
    result: Any = None
    exit: str | None = None


class WorkerPool(Generic[Job, Slot]):
    """Workers that run `work(job, slot)`; with one slot it runs in this thread.

    They are processes, or threads where `work` only waits for other machines.
    """

    def __init__(
        self, slots: Sequence[Slot], work: Callable[[Job, Slot], Any], *, in_threads: bool = False
    ) -> None:
        self._slots = list(slots)
        self._work = work
        self._in_threads = in_threads
        self._pools: dict[int, Executor] = {}
        self._n_exits = 0  # in a row

    def done(self, jobs: Iterator[Job]) -> Iterator[Done[Job]]:
        """Yield each job as it ends; take the next one only when a slot is free."""
        if len(self._slots) == 1:
            for job in jobs:
                yield Done(job, self._work(job, self._slots[0]))
        else:
            yield from self._done_at_once(jobs)

    def _done_at_once(self, jobs: Iterator[Job]) -> Iterator[Done[Job]]:
        running: dict[Future[Any], tuple[Slot, Job]] = {}
        free = list(self._slots)
        while True:
            while free and (job := next(jobs, None)) is not None:
                slot = free.pop(0)
                with signals_blocked(), tracker_warnings_off():  # the pool's process starts here
                    running[self._pool(slot).submit(self._work, job, slot)] = slot, job
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot, job = running.pop(future)
                free.append(slot)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    self._n_exits += 1
                    if self._n_exits == MAX_EXITS:
                        raise InputError(
                            f"{MAX_EXITS} workers in a row were killed, probably for lack of "
                            "memory; what was finished is kept; try fewer --jobs "
                            f"(now {len(self._slots)})"
                        ) from error
                    self._dismiss(slot)
                    yield Done(job, exit=_exit_of(error))
                except PicklingError as error:
                    # Of an error while a job was sent loky keeps the traceback only, as text.
                    if "MemoryError" not in str(error.__cause__):
                        raise
                    raise InputError(
                        "out of memory while rows were sent to worker processes; try fewer --jobs "
                        f"(now {len(self._slots)})"
                    ) from error
                else:
                    self._n_exits = 0
                    yield Done(job, result)

    def _pool(self, slot: Slot) -> Executor:
        # A pool of one for each slot: loky ends all processes of a pool when one of them dies.
        if slot.number not in self._pools:
            self._pools[slot.number] = (
                ThreadPoolExecutor(max_workers=1)
                if self._in_threads
                else ProcessPoolExecutor(
                    max_workers=1, timeout=None, initializer=_follow, initargs=(os.getpid(),)
                )
            )
        return self._pools[slot.number]

    def _dismiss(self, slot: Slot) -> None:
        kill = {} if self._in_threads else {"kill_workers": True}
        self._pools.pop(slot.number).shutdown(wait=True, **kill)

    def close(self) -> None:
        """End all workers, whatever processes are doing, and once threads have returned.

        A second Ctrl-C would leave processes behind, so it has to wait for their end. It does not
        wait for threads, which may wait for other machines.
        """
        with nullcontext() if self._in_threads else ctrl_c_delayed():
            for slot in self._slots:
                if slot.number in self._pools:
                    self._dismiss(slot)


def _exit_of(error: BrokenProcessPool) -> str:
    """Return how a worker ended, such as `SIGKILL(-9)`, which only loky's message says."""
    exit_codes = re.search(r"exit codes of the workers are \{(.*?)\}", str(error))
    return exit_codes[1] if exit_codes else str(error).partition("\n")[0]


def _follow(owner: int) -> None:
    """End this worker when its owner is gone, because nobody else would."""

    def watch() -> None:
        while os.getppid() == owner:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def worker_pool(
    slots: Sequence[Slot],
    work: Callable[[Job, Slot], Any],
    interrupt: Callable[[], None] | None = None,
) -> Iterator[WorkerPool[Job, Slot]]:
    """Yield a pool, and end its workers afterwards.

    With `interrupt` they are threads. It is called after an error, to make them return.
    """
    workers = WorkerPool(slots, work, in_threads=interrupt is not None)
    try:
        yield workers
    except BaseException:
        if interrupt:
            interrupt()
        raise
    finally:
        workers.close()
