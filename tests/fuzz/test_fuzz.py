"""Damaged files are read as a slow reader reads them, or refused in one line: nothing else.

Each case is seeded by its name, such as `train.csv-17`, which is what a failure shows.
"""

import random
import signal
from contextlib import contextmanager

import pytest
from formats import FORMATS

from hbcomp.system.errors import InputError

# Sums to more than 20,000 inputs over all formats, and to about 400 in CI.
N_LONG, N_SHORT = 1_200, 12
SECONDS_PER_CASE = 20  # a read takes milliseconds; a hang is found however slow the machine


@contextmanager
def alarm(seconds, name):
    def ring(*_):
        pytest.fail(f"{name} hangs: longer than {seconds} s")

    former = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


@pytest.fixture(autouse=True)
def _without_syncing(monkeypatch):
    monkeypatch.setattr("hbcomp.system.files.sync", lambda path: None)  # no crash is tested here


def outcome(kind, content, path):
    """Return "read" or "refused", or what is wrong with how a file was treated."""
    path.write_bytes(content)
    try:
        ours = kind.read(path)
    except InputError as error:
        text = str(error)
        is_named = path.name in text or path.parent.name in text  # a folder's file by its folder
        return "refused" if is_named and "\n" not in text else f"refused as {text!r}"[:300]
    except Exception as error:  # anything else is what is looked for
        return f"{type(error).__name__}: {error}"[:300]
    try:
        theirs = kind.slow(content)
    except Exception as error:
        return f"read, but not by the slow reader: {type(error).__name__}: {error}"[:300]
    return (
        "read"
        if kind.agrees(ours, theirs)
        else f"read as {str(ours)[:100]}, not {str(theirs)[:100]}"
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_good_file_is_read_as_a_slow_reader_reads_it(name, tmp_path):
    path = tmp_path / FORMATS[name].file
    path.parent.mkdir(parents=True, exist_ok=True)
    assert outcome(FORMATS[name], FORMATS[name].good, path) == "read"


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_read_rightly_or_refused(name, tmp_path, is_long):
    kind = FORMATS[name]
    path = tmp_path / kind.file
    path.parent.mkdir(parents=True, exist_ok=True)
    n_read, bugs = 0, {}
    n_cases = N_LONG if is_long else N_SHORT
    for number in range(n_cases):
        case = f"{name}-{number}"
        content = kind.damage(kind.good, random.Random(case))
        with alarm(SECONDS_PER_CASE, case):
            result = outcome(kind, content, path)
        n_read += result == "read"
        if result not in ("read", "refused"):
            bugs[case] = result
    print(f"{name}: {n_cases} files, {n_read} read, {n_cases - n_read - len(bugs)} refused")
    assert bugs == {}
