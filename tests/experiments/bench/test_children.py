import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bench
import numpy as np
import pytest
from bench.children import run_python

EXPERIMENTS = Path(bench.__file__).parents[1]


def test_a_child_returns_its_output_and_what_it_took(tmp_path):
    done = run_python(
        ["-c", "import os; print(os.environ['A'], os.getcwd())"], tmp_path, {"A": "b"}
    )
    assert done.stdout == f"b {tmp_path}"
    assert done.seconds > 0
    assert done.peak_mib > 1


def test_the_memory_of_this_process_does_not_count_as_the_childs(tmp_path):
    big = np.ones(50_000_000)  # 400 MB, touched
    done = run_python(["-c", "pass"], tmp_path)
    assert done.peak_mib < 200
    assert big[-1] == 1


def test_a_failed_child_is_an_error_with_its_last_lines(tmp_path):
    with pytest.raises(RuntimeError, match=r"ended with 1: .*ValueError: no"):
        run_python(["-c", "raise ValueError('no')"], tmp_path)


def test_an_interrupt_kills_the_child_and_what_it_started(tmp_path):
    # The child holds a lock, which only its end releases; its process id could outlive it.
    nap = (
        "import fcntl, time; file = open('lock', 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "open('ready', 'w').close(); time.sleep(60)"
    )
    code = (
        # In the background of a shell it would not hear it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from pathlib import Path; from bench.children import run_python;"
        f"run_python(['-c', {nap!r}], Path('.'))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(EXPERIMENTS)},
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    deadline = time.monotonic() + 20
    with (tmp_path / "lock").open() as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
