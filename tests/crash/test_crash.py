"""Killed or starved at any write point, a command continues to the bits of an undisturbed run."""

import errno
import os
import random
import re
import shutil
import signal
from functools import partial

import pytest
from jobs import JOBS, prepare
from weather import (
    Blow,
    assert_whole,
    call,
    kill_after,
    outcome,
    points,
    stored,
    strike,
)

SEED = 6
N_MOMENTS = 15
# A fault that a disk or its owner can cause, each in turn.
FAULTS = (errno.ENOSPC, errno.EACCES, errno.EIO, errno.EDQUOT, errno.EROFS)
# What may fail and nothing is lost: making a folder that is there, deleting the holder's name, and
# opening an archive, which zipfile tries again in another mode.
HARMLESS = re.compile(r"mkdir .*|remove .*/run\.holder|open .*/result\.npz")


class Undisturbed:
    """What a job needs, the write points it passes in how many seconds, and what it makes."""

    def __init__(self, name, folder):
        self.job, self.before = JOBS[name], folder / "before"
        self.before.mkdir()
        prepare(name, self.before)
        after = folder / "after"
        shutil.copytree(self.before, after)
        passed = points(self.job, after)
        self.seconds, self.points = passed[-1][0], [name for _, name in passed]
        self.nth = [self.points[: n + 1].count(name) for n, name in enumerate(self.points)]
        self.outcome = outcome(after)
        assert self.outcome["trials"] == (3 if name == "tune" else 0)


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
    assert_whole(folder, undisturbed.before)
    before = stored(folder)
    done = call(undisturbed.job, folder)
    refusal = undisturbed.job.refusal
    if not (done.returncode == 2 and refusal and refusal in done.stderr):
        assert done.returncode == 0, f"{what}\n{done.stderr}"
    assert_whole(folder)
    assert outcome(folder) == undisturbed.outcome, what
    assert before.items() <= stored(folder).items(), f"{what}: something was done again"
    assert not list(folder.rglob("*.partial")), what


def test_killed_at_a_write_point_the_same_command_ends_with_the_same_bits(
    undisturbed, tmp_path, is_long
):
    n_points, n_kills = len(undisturbed.points), 0

    def kill(folder, point, nth, what):
        nonlocal n_kills
        blow = Blow(point, nth, signal.SIGKILL)
        done = call(undisturbed.job, folder, partial(strike, str(folder), blow))
        assert done.returncode == -signal.SIGKILL, f"{what}\n{done.stderr}"
        n_kills += 1

    def check(n):
        what = f"{undisturbed.job.name} killed before {n}: {undisturbed.points[n - 1]}"
        folder = tmp_path / str(n)
        shutil.copytree(undisturbed.before, folder)
        kill(folder, undisturbed.points[n - 1], undisturbed.nth[n - 1], what)
        left = [each for each in undisturbed.points[n - 1 :] if each.startswith("rename ")]
        if n % 3 == 0 and left:  # and again on the way back, which comes to what was left
            kill(folder, left[len(left) // 2], 1, f"{what}, and again at {left[len(left) // 2]}")
        assert_continues(undisturbed, folder, what)
        shutil.rmtree(folder)

    numbers = list(range(1, n_points + 1))
    all_of(a_few(numbers, is_long, 2, f"kill {undisturbed.job.name}"), check)
    print(f"{undisturbed.job.name}: {n_kills} kills at {n_points} write points survived")


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bits(
    undisturbed, tmp_path, is_long
):
    if not is_long:
        pytest.skip("only with --long: where a kill falls depends on the machine")
    draw, n_kills = random.Random(f"{SEED} {undisturbed.job.name}"), 0

    def check(n):
        nonlocal n_kills
        folder = tmp_path / str(n)
        shutil.copytree(undisturbed.before, folder)
        seconds = draw.uniform(0.01, 0.95) * undisturbed.seconds
        code = call(undisturbed.job, folder, partial(kill_after, seconds)).returncode
        assert code in (0, -signal.SIGALRM)
        n_kills += code != 0
        assert_continues(undisturbed, folder, f"case {n}: killed after {seconds} s")
        shutil.rmtree(folder)

    all_of(range(N_MOMENTS), check)
    assert n_kills > N_MOMENTS // 2, f"only {n_kills} kills came in time"
    print(f"{undisturbed.job.name}: {n_kills} kills at random moments survived")


def test_a_fault_at_a_write_point_is_one_line_and_the_same_command_ends_with_the_same_bits(
    undisturbed, tmp_path, is_long
):
    n_refused = 0

    def check(n):
        nonlocal n_refused
        number, lasts = FAULTS[n % len(FAULTS)], n % 2 == 0
        point = undisturbed.points[n - 1]
        what = f"{undisturbed.job.name}: {errno.errorcode[number]} at {n}: {point}"
        folder = tmp_path / str(n)
        shutil.copytree(undisturbed.before, folder)
        blow = Blow(point, undisturbed.nth[n - 1], errno=number, lasts=lasts)
        weather = partial(strike, str(folder), blow)
        done = call(undisturbed.job, folder, weather)
        is_harmless = HARMLESS.fullmatch(point)
        if is_harmless and done.returncode == 0:
            assert outcome(folder) == undisturbed.outcome, what
        else:
            assert done.returncode == 2, f"{what}\n{done.stderr}"
            named = undisturbed.points[n - 1 :] if is_harmless else [point]
            why = f"{os.strerror(number)}; mend that and give the same command again"
            lines = {f"error: {each.partition(' ')[2]}: {why}" for each in named}
            found = done.stderr.splitlines()
            assert found[-1] in lines, f"{what}\n{done.stderr}"
            assert sum(line.startswith("error: ") for line in found) == 1, what
            assert "Traceback" not in done.stderr, what
            n_refused += 1
        assert_continues(undisturbed, folder, what)
        shutil.rmtree(folder)

    numbers = list(range(1, len(undisturbed.points) + 1))
    cases = a_few(numbers, is_long, 1, f"fault {undisturbed.job.name}")
    all_of(cases, check)
    print(f"{undisturbed.job.name}: {len(cases)} faults survived, {n_refused} with exit code 2")
