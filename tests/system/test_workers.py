import os
import signal
import threading
import time
from dataclasses import dataclass

import pytest

from hbcomp.system import workers as pools
from hbcomp.system.errors import InputError
from hbcomp.system.workers import MAX_EXITS, Done, worker_pool

TIMEOUT = 60


@dataclass(frozen=True)
class Slot:
    """A slot that imports no torch, as this module must not: workers import it."""

    number: int


def work(job, slot):
    """Return who did the job; a worker that is told to, dies of it."""
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "fail":
        raise InputError("this job is wrong")
    if job == "listen":
        return signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return job, slot.number, os.getpid()


def slots(n):
    return [Slot(number) for number in range(n)]


def test_one_slot_does_its_jobs_in_order_in_this_very_process():
    with worker_pool(slots(1), work) as workers:
        done = list(workers.done(iter("abc")))
    assert done == [Done(job, (job, 0, os.getpid())) for job in "abc"]


def test_with_one_slot_a_job_is_taken_only_when_the_one_before_is_done():
    taken = []

    def jobs():
        for job in "abc":
            taken.append(job)
            yield job

    with worker_pool(slots(1), work) as workers:
        for n_done, _ in enumerate(workers.done(jobs()), start=1):
            assert len(taken) == n_done


def test_threads_are_told_to_end_after_an_error_and_are_waited_for():
    told, ended = threading.Event(), []

    def wait_or_return(job, slot):
        if job == "wait":
            ended.append(told.wait(TIMEOUT))

    def interrupted():
        with worker_pool(slots(2), wait_or_return, told.set) as workers:
            for _ in workers.done(iter(["wait", "return"])):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ended == [True]


@pytest.fixture(scope="module")
def two():
    """Return two workers; starting them takes longer than what they do here."""
    with worker_pool(slots(2), work) as workers:
        yield workers


def test_two_slots_do_every_job_once_and_take_the_next_only_when_one_is_free(two):
    taken, n_done = [], 0

    def jobs():
        for job in range(7):
            assert job - n_done < 2
            taken.append(job)
            yield job

    found = []
    for done in two.done(jobs()):
        n_done += 1
        found.append(done)
    assert taken == list(range(7))
    assert sorted(done.job for done in found) == taken
    assert not any(done.exit for done in found)
    assert all(done.result[0] == done.job for done in found)
    # Each slot has one process, and it is not this one.
    of_slot = {done.result[1:] for done in found}
    assert len({slot for slot, _ in of_slot}) == len(of_slot)
    assert os.getpid() not in {pid for _, pid in of_slot}


def test_workers_block_ctrl_c_and_sigterm_from_their_start(two):
    blocked = next(two.done(iter(["listen"]))).result
    assert {signal.SIGINT, signal.SIGTERM} <= blocked


def test_a_killed_worker_takes_only_its_job_with_it_and_a_new_one_takes_its_slot(two):
    assert len(list(two.done(iter(["e", "f"])))) == 2  # now both slots are taken
    before = {pid for pool in two._pools.values() for pid in pool._processes}
    found = list(two.done(iter(["a", "die", "b", "c", "d"])))
    assert [done.job for done in found if done.exit] == ["die"]
    assert sorted(done.job for done in found if not done.exit) == list("abcd")
    after = {pid for pool in two._pools.values() for pid in pool._processes}
    assert len(before & after) == 1, "the other worker lives on"


def test_an_error_of_a_job_is_raised_here_with_its_message(two):
    with pytest.raises(InputError, match="this job is wrong"):
        list(two.done(iter(["a", "fail"])))


class BrokenPool(pools.ProcessPoolExecutor):
    """A pool whose jobs are done at once, or kill it."""

    def __init__(self, **_):
        pass  # no process is needed

    def submit(self, function, job, slot):
        future = pools.Future()
        if job == "die":
            future.set_exception(pools.BrokenProcessPool("gone"))
        else:
            future.set_result(job)
        return future

    def shutdown(self, **_):
        pass


def test_too_many_exits_in_a_row_end_it_in_one_line(monkeypatch):
    monkeypatch.setattr(pools, "ProcessPoolExecutor", BrokenPool)
    exits = ["die"] * MAX_EXITS
    found = []
    with worker_pool(slots(2), work) as workers, pytest.raises(InputError) as error:
        found.extend(workers.done(iter(exits)))
    assert found == [Done("die", exit="gone")] * (MAX_EXITS - 1)
    assert str(error.value) == (
        "5 workers in a row were killed, probably for lack of memory; what was finished is kept; "
        "try fewer --jobs (now 2)"
    )


@pytest.mark.parametrize(
    ("cause", "error", "message"),
    [
        ("MemoryError", InputError, r"out of memory while rows were sent .* --jobs \(now 2\)"),
        ("TypeError: cannot pickle 'generator' object", pools.PicklingError, "Could not pickle"),
    ],
)
def test_memory_that_runs_out_while_a_job_is_sent_is_one_line_and_a_bug_stays_one(
    monkeypatch, cause, error, message
):
    class Sending(BrokenPool):
        def submit(self, function, job, slot):
            future = pools.Future()
            refused = pools.PicklingError("Could not pickle")
            refused.__cause__ = Exception(cause)  # as loky does: a traceback, as text
            future.set_exception(refused)
            return future

    monkeypatch.setattr(pools, "ProcessPoolExecutor", Sending)
    with worker_pool(slots(2), work) as workers, pytest.raises(error, match=message):
        list(workers.done(iter("a")))


def test_exits_are_in_a_row_across_calls_and_a_finished_job_ends_the_row(monkeypatch):
    monkeypatch.setattr(pools, "ProcessPoolExecutor", BrokenPool)
    monkeypatch.setattr(pools, "wait", lambda running, **_: wait_for_first(running))
    almost = ["die"] * (MAX_EXITS - 1)
    with worker_pool(slots(2), work) as workers:
        assert len(list(workers.done(iter([*almost, "a", *almost])))) == 2 * MAX_EXITS - 1
        with pytest.raises(InputError, match="5 workers in a row were killed"):
            list(workers.done(iter(["die"])))


def wait_for_first(running):
    class Waited:
        done = (next(iter(running)),)

    return Waited


def test_a_second_ctrl_c_comes_when_no_worker_is_left(monkeypatch):
    dismiss, n_left = pools.WorkerPool._dismiss, []

    def dismiss_while_interrupted(self, slot):
        os.kill(os.getpid(), signal.SIGINT)
        dismiss(self, slot)
        n_left.append(len(self._pools))

    def interrupted():
        with worker_pool(slots(2), work) as workers:
            list(workers.done(iter("ab")))

    monkeypatch.setattr(pools.WorkerPool, "_dismiss", dismiss_while_interrupted)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, former)
    assert n_left == [1, 0]


def test_no_worker_is_left_when_the_pool_is_closed(two):
    pids = {done.result[2] for done in two.done(iter("ab"))}
    two.close()
    wait_until(lambda: not any(map(is_alive, pids)))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(is_so):
    end = time.monotonic() + TIMEOUT
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
