"""Two processes that want the same: one waits or is refused, and nothing is lost."""

import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import SERVER, Strike, run_hbcomp, start_hbcomp
from jobs import JOBS, cv, prepare
from weather import Blow, call, outcome, strike

from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.submissions import ledger
from hbcomp.submissions.files import Provenance, write_submission

N_WRITERS, N_EACH = 4, 4


def write_many(folder, writer):
    """Write submissions of other contents into one folder, as runs that end together do."""
    os.chdir(folder)
    ids = np.array(["a", "b"])
    for n in range(N_EACH):
        share = (writer * N_EACH + n) / 100
        answers = np.array([[share, 1 - share], [0.0, 1.0]])
        provenance = Provenance(f"w{writer}", "", "raw", "abs-sum", "lower", None, None, None)
        write_submission(Path("submissions") / f"w{writer}-{n}.csv", ids, answers, provenance)


def test_of_many_writers_at_once_none_loses_its_row_of_the_ledger(tmp_path):
    writers = [SERVER.Process(target=write_many, args=(tmp_path, n)) for n in range(N_WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * N_WRITERS
    names = [entry.file for entry in ledger.read_ledger(tmp_path / "submissions")]
    wanted = [f"w{writer}-{n}.csv" for writer in range(N_WRITERS) for n in range(N_EACH)]
    assert sorted(names) == sorted(wanted)


@pytest.mark.parametrize("name", ["cv", "blend", "import", "tune"])
def test_a_second_process_is_told_who_holds_the_run(tmp_path, name):
    prepare(name, tmp_path)
    run = {"cv": "quickstart", "import": "made", "tune": "quickstart"}.get(name, name)
    with locked(RunFolder(tmp_path / "experiments" / run)):
        done = call(JOBS[name], tmp_path)
    assert done.returncode == 2, done.stderr
    assert "another process is working on this run: " in done.stderr
    assert f"process {multiprocessing.current_process().pid} on " in done.stderr


def test_two_runs_that_share_a_cold_cache_are_both_right(tmp_path, cache_folder):
    prepare("cv", tmp_path)
    waits = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        prepare("cv", folder)
        waits.append(start_hbcomp(cv().words, folder, prepare=JOBS["cv"].prepare))
    for wait in waits:
        done = wait()
        assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "one") == outcome(tmp_path / "two")
    assert len(list(cache_folder.glob("*.npys"))) == 2  # train and test
    assert not list(cache_folder.glob(".*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("name", ["cv", "blend", "tune"])
def test_a_stop_is_one_line_and_its_own_exit_code(tmp_path, name, number, code, is_long):
    if not is_long and (name == "tune" or code == 130):
        pytest.skip("only with --long: Ctrl-C has tests beside each command")
    prepare(name, tmp_path)
    run = "blend" if name == "blend" else "quickstart"
    blow = Blow(f"rename experiments/{run}/run.holder", signal=number)
    done = call(JOBS[name], tmp_path, partial(strike, str(tmp_path), blow))
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-1].startswith("interrupted: ")
    assert "Traceback" not in done.stderr
    assert call(JOBS[name], tmp_path).returncode == 0


def test_a_terminated_run_with_two_workers_says_how_to_continue(tmp_path, is_long):
    if not is_long:
        pytest.skip("only with --long: fresh workers import for seconds")
    prepare("cv", tmp_path)
    moment = Strike("system.progress", "FoldProgress", n=2, signal=signal.SIGTERM)
    done = run_hbcomp(cv("--jobs", "2").words, tmp_path, moment, JOBS["cv"].prepare)
    assert done.returncode == 143, done.stderr
    assert "continue with: hbcomp cv" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
