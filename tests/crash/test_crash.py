"""Killed or starved at any write point, a command continues to the bits of an undisturbed run."""

import errno
import random
import shutil
import signal
from functools import partial

import pytest
from jobs import JOBS, prepare
from weather import Blow, assert_whole, call, kill_after, outcome, points, stored, strike

SEED = 6
# A fault that a disk or its owner can cause, each in turn.
FAULTS = (errno.ENOSPC, errno.EACCES, errno.EIO, errno.EDQUOT, errno.EROFS)


class Undisturbed:
    """What a job needs, the write points it passes, and what it makes."""

    def __init__(self, name, folder):
        self.job, self.before = JOBS[name], folder / "before"
        self.before.mkdir()
        prepare(name, self.before)
        after = folder / "after"
        shutil.copytree(self.before, after)
        self.points = points(self.job, after)
        self.outcome = outcome(after)


@pytest.fixture(scope="session", params=list(JOBS))
def undisturbed(request, tmp_path_factory):
    """Return one job of each kind."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HBCOMP_CACHE", str(folder / "cache"))
        return Undisturbed(request.param, folder)


def a_few(items, is_long, n, seed):
    """Return all of the items in the long mode, otherwise `n` drawn by the seed."""
    return items if is_long else random.Random(f"{SEED} {seed}").sample(items, min(n, len(items)))


def all_of(cases, check):
    """Check every case, whatever became of those before it, and name all that failed."""
    failures = []
    for case in cases:
        try:
            check(case)
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n\n".join(failures)


def assert_continues(undisturbed, folder, what):
    """What is visible is whole, and the same command ends as if nothing had been."""
    assert_whole(folder)
    before = stored(folder)
    done = call(undisturbed.job, folder)
    assert done.returncode == 0, f"{what}\n{done.stderr}"
    assert_whole(folder)
    assert outcome(folder) == undisturbed.outcome, what
    assert before.items() <= stored(folder).items(), f"{what}: a fold was trained again"
    assert not list(folder.rglob("*.partial")), what


def test_killed_at_a_write_point_the_same_command_ends_with_the_same_bits(
    undisturbed, tmp_path, is_long
):
    def check(n):
        what = f"{undisturbed.job.name} killed before {n}: {undisturbed.points[n - 1]}"
        folder = tmp_path / str(n)
        shutil.copytree(undisturbed.before, folder)
        done = call(undisturbed.job, folder, partial(strike, str(folder), Blow(n, signal.SIGKILL)))
        assert done.returncode == -signal.SIGKILL, f"{what}\n{done.stderr}"
        if n % 3 == 0:  # and again on the way back, if it gets so far
            again = partial(strike, str(folder), Blow(n // 2 + 1, signal.SIGKILL))
            call(undisturbed.job, folder, again)
        assert_continues(undisturbed, folder, what)
        shutil.rmtree(folder)

    numbers = list(range(1, len(undisturbed.points) + 1))
    all_of(a_few(numbers, is_long, 2, f"kill {undisturbed.job.name}"), check)


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bits(
    undisturbed, tmp_path, is_long
):
    draw = random.Random(f"{SEED} {undisturbed.job.name}")

    def check(n):
        folder = tmp_path / str(n)
        shutil.copytree(undisturbed.before, folder)
        seconds = draw.uniform(0.02, 1.5)
        call(undisturbed.job, folder, partial(kill_after, seconds))
        assert_continues(undisturbed, folder, f"killed after {seconds} s")
        shutil.rmtree(folder)

    all_of(range(15 if is_long else 0), check)


def test_a_fault_at_a_write_point_is_one_line_and_the_same_command_ends_with_the_same_bits(
    undisturbed, tmp_path, is_long
):
    def check(n):
        number, lasts = FAULTS[n % len(FAULTS)], n % 2 == 0
        name = errno.errorcode[number]
        what = f"{undisturbed.job.name}: {name} at {n}: {undisturbed.points[n - 1]}"
        folder = tmp_path / str(n)
        shutil.copytree(undisturbed.before, folder)
        weather = partial(strike, str(folder), Blow(n, errno=number, lasts=lasts))
        done = call(undisturbed.job, folder, weather)
        assert "Traceback" not in done.stderr, f"{what}\n{done.stderr}"
        if done.returncode:  # a leftover that could not be deleted stops nothing
            assert done.returncode == 2, f"{what}\n{done.stderr}"
            lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            assert len(lines) == 1, f"{what}\n{done.stderr}"
            assert str(undisturbed.points[n - 1].split("/")[0].split(" ")[1]) in lines[0], what
        assert_continues(undisturbed, folder, what)
        shutil.rmtree(folder)

    numbers = list(range(1, len(undisturbed.points) + 1))
    all_of(a_few(numbers, is_long, 1, f"fault {undisturbed.job.name}"), check)
