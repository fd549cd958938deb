"""Bad weather of all other kinds: one line and exit code 2, and the same command goes on."""

import errno
import os
import resource
import shutil
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import typer
from jobs import JOBS, cv, prepare
from weather import assert_whole, call, listen, outcome, stored

from hbcomp.crossval import fold as fold_module
from hbcomp.crossval import loop as crossval
from hbcomp.system import command as cli
from hbcomp.system.command import guarded

RUN = "experiments/quickstart"
needs_full_device = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="only Linux has a device that is always full"
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return what an undisturbed cross-validation makes, and a warm cache."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HBCOMP_CACHE", str(folder / ".cache"))
        prepare("cv", folder)
        assert call(JOBS["cv"], folder).returncode == 0
    return outcome(folder)


def assert_refused(done, *texts):
    """The command ends with one line of these texts and exit code 2."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert done.stderr.count("error: ") == 1
    for text in texts:
        assert text in last


def assert_continues(folder, undisturbed, job=JOBS["cv"]):
    """The same command ends as if nothing had been, and no fold is trained again."""
    assert_whole(folder)
    before = stored(folder)
    done = call(job, folder)
    assert done.returncode == 0, done.stderr
    assert outcome(folder) == undisturbed
    assert before.items() <= stored(folder).items()
    assert not list(folder.rglob("*.partial"))


def limit_files(n_bytes: int) -> None:
    """Let no file of this process grow beyond so many bytes, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


@pytest.mark.parametrize(
    ("n_bytes", "file"),
    [
        (1500, f"{RUN}/folds/0-0"),  # result.npz, through zipfile
        (3000, f"{RUN}/folds/0-0"),  # model.safetensors
        (4500, f"{RUN}/predictions.npz"),
        (9000, f"{RUN}/report.html"),
    ],
)
def test_a_write_that_fails_in_the_middle_names_its_file(tmp_path, undisturbed, n_bytes, file):
    prepare("cv", tmp_path)
    done = call(JOBS["cv"], tmp_path, partial(limit_files, n_bytes))
    assert_refused(done, f"error: {file}: ", os.strerror(errno.EFBIG))
    assert_continues(tmp_path, undisturbed)


def test_a_database_that_cannot_grow_is_one_line_and_the_study_goes_on(tmp_path, is_long):
    if not is_long:
        pytest.skip("only with --long: three trials take seconds")
    prepare("tune", tmp_path)
    done = call(JOBS["tune"], tmp_path, partial(limit_files, 100_000))
    assert_refused(done)
    assert call(JOBS["tune"], tmp_path).returncode == 0
    assert outcome(tmp_path)["trials"] == 3


def remove_at(root: str, point: str) -> None:
    """Delete the run's folder before the first write point of that name."""

    def at_point(nth: int, name: str) -> None:
        if (nth, name) == (1, point):
            Path(root, RUN).rename(Path(root, ".gone"))

    listen(root, at_point)


@pytest.mark.parametrize(
    "point",
    [
        f"open {RUN}/folds/.*.partial/result.npz",
        f"rename {RUN}/folds/0-0",
        f"open {RUN}/.report.html.*.partial",
        f"rename {RUN}/report.json",
    ],
)
def test_a_folder_removed_in_the_middle_is_named_and_the_same_command_starts_anew(
    tmp_path, undisturbed, point
):
    prepare("cv", tmp_path)
    done = call(JOBS["cv"], tmp_path, partial(remove_at, str(tmp_path), point))
    assert_refused(done, RUN, os.strerror(errno.ENOENT))
    shutil.rmtree(tmp_path / ".gone")
    assert_continues(tmp_path, undisturbed)


def write_into(number: int, path: str | None) -> None:
    """Let a standard stream write to a file, or without a path to a pipe that nobody reads."""
    if path is None:
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(path, os.O_WRONLY)
    os.dup2(writer, number)


@pytest.mark.parametrize("number", [1, 2])
def test_a_pipe_that_nobody_reads_ends_no_training(tmp_path, undisturbed, number):
    prepare("cv", tmp_path)
    done = call(JOBS["cv"], tmp_path, partial(write_into, number, None))
    assert (done.returncode, (done.stdout, done.stderr)[number - 1]) == (0, "")
    assert outcome(tmp_path) == undisturbed


@needs_full_device
def test_a_full_disk_under_the_progress_ends_no_training(tmp_path, undisturbed):
    prepare("cv", tmp_path)
    assert call(JOBS["cv"], tmp_path, partial(write_into, 2, "/dev/full")).returncode == 0
    assert outcome(tmp_path) == undisturbed


@needs_full_device
def test_a_full_disk_under_the_result_is_said_and_everything_is_kept(tmp_path, undisturbed):
    prepare("cv", tmp_path)
    done = call(JOBS["cv"], tmp_path, partial(write_into, 1, "/dev/full"))
    assert_refused(done, f"error: stdout: {os.strerror(errno.ENOSPC)}")
    assert outcome(tmp_path) == undisturbed


def turn_back_clock() -> None:
    """Let every look at the clock be an hour before the last."""
    hours = iter(range(10**9))
    now = time.time
    time.time = lambda: now() - 3600 * next(hours)


def test_a_clock_that_runs_backwards_changes_no_bit(tmp_path, undisturbed):
    prepare("cv", tmp_path)
    done = call(JOBS["cv"], tmp_path, turn_back_clock)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path) == undisturbed


def fail_at_fold(fold: int, error: Exception | None) -> None:
    """Raise the error where that fold's training begins; without one the process is killed."""
    train = fold_module.train_epochs

    def failing(recipe, data, replicas, *others):
        if replicas[0].seed[1] != fold:
            return train(recipe, data, replicas, *others)
        if error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise error

    fold_module.train_epochs = failing


def fail_in_worker(fold: int, error: Exception | None) -> None:
    """Do so in the worker process that trains the fold."""
    crossval._train_in_worker = partial(train_and_fail, fold, error)


def train_and_fail(fold, error, *work):
    """Train folds in a worker, as hbcomp does, but fail at one of them."""
    fail_at_fold(fold, error)
    return crossval._train_in_worker(*work)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_out_of_memory_keeps_finished_folds_and_says_what_to_lower(tmp_path, undisturbed, error):
    prepare("cv", tmp_path)
    job = cv("--set", "compute.models_per_process=1")
    done = call(job, tmp_path, partial(fail_at_fold, 1, error))
    assert_refused(done, "seed 0 fold 1: out of memory on cpu", "a smaller train.batch_size")
    assert len(stored(tmp_path)) == 1
    assert_continues(tmp_path, undisturbed, job)


def test_a_loss_that_diverges_names_seed_fold_epoch_and_remedy(tmp_path):
    prepare("cv", tmp_path)
    done = call(cv("--set", "train.lr=1e30"), tmp_path)
    assert_refused(done, "seed 0 fold 0: epoch ", "the loss must be finite", "train.lr")
    assert not stored(tmp_path)


@pytest.mark.parametrize("name", ["cv", "refit"])
def test_a_damaged_ledger_is_refused_before_training(tmp_path, name):
    prepare(name, tmp_path)
    (tmp_path / "submissions").mkdir(exist_ok=True)
    (tmp_path / "submissions/ledger.csv").write_text("not,a,ledger\n")
    before = stored(tmp_path)
    assert_refused(call(JOBS[name], tmp_path), "submissions/ledger.csv: the header must be ")
    assert stored(tmp_path) == before


def test_a_cache_that_cannot_be_written_is_said_once(tmp_path, undisturbed, monkeypatch):
    prepare("cv", tmp_path)
    monkeypatch.setenv("HBCOMP_CACHE", str(tmp_path / "train.csv/below a file"))
    done = call(JOBS["cv"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: parsed rows are not cached") == 1
    assert outcome(tmp_path) == undisturbed


def test_a_missing_file_of_the_users_is_one_line_and_one_of_ours_is_a_bug(tmp_path, capsys):
    def read(path):
        return {"size": path.stat().st_size}

    with pytest.raises(typer.Exit) as stop:
        guarded(read)(tmp_path / "gone.csv")
    assert stop.value.exit_code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/gone.csv: No such file")
    with pytest.raises(FileNotFoundError):
        guarded(read)(Path(cli.__file__).parents[1] / "reporting/templates/gone.j2")


def test_memory_that_runs_out_anywhere_is_one_line_and_other_errors_are_bugs(capsys):
    def fail(error):
        raise error

    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        with pytest.raises(typer.Exit) as stop:
            guarded(fail)(error)
        assert stop.value.exit_code == 2
        assert capsys.readouterr().err.startswith("error: out of memory (")
    for bug in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), NotImplementedError()):
        with pytest.raises(type(bug)):
            guarded(fail)(bug)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "seed 0 fold 1: out of memory on cpu"),
        (
            None,
            "a worker process was killed (SIGKILL(-9)), probably for lack of memory",
        ),
    ],
)
def test_a_worker_that_has_no_memory_ends_the_run_in_one_line(
    tmp_path, undisturbed, error, text, is_long
):
    if not is_long:
        pytest.skip("only with --long: fresh workers import for seconds")
    prepare("cv", tmp_path)
    job = cv("--jobs", "2", "--set", "compute.models_per_process=1")
    assert_refused(call(job, tmp_path, partial(fail_in_worker, 1, error)), text)
    assert_continues(tmp_path, undisturbed, job)


def interrupt_all_while_workers_import() -> None:
    """Send Ctrl-C to this process and its workers, as a terminal does, a second after the start."""
    os.setpgid(0, 0)
    begin = threading.Timer(1.0, os.killpg, (0, signal.SIGINT)).start
    crossval._warn_of_shared_cores = lambda *_: begin()


def test_ctrl_c_while_workers_import_is_one_line(tmp_path, undisturbed, is_long):
    if not is_long:
        pytest.skip("only with --long: fresh workers import for seconds")
    prepare("cv", tmp_path)
    job = cv("--jobs", "2", "--set", "compute.models_per_process=1")
    done = call(job, tmp_path, interrupt_all_while_workers_import)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1].startswith("interrupted: 0 finished folds are kept; ")
    assert "Traceback" not in done.stderr
    assert_continues(tmp_path, undisturbed, job)
