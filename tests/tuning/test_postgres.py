"""A study in a real PostgreSQL server, with a worker each on two machines."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
from commands import start_hbcomp
from test_tune import outcomes, words_of, write_data

N_TRIALS = 6


def find_server():
    """Return the folder of PostgreSQL's programs, or why there is none that can be used."""
    if not find_spec("psycopg"):
        return None, "no PostgreSQL driver: pip install 'hbcomp[postgres]'"
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), *filter(None, [_beside("initdb")])]
    for place in sorted(places, reverse=True):
        if (place / "initdb").is_file() and (place / "postgres").is_file():
            return place, ""
    return None, "no PostgreSQL server: apt-get install postgresql"


def _beside(program):
    found = shutil.which(program)
    return Path(found).resolve().parent if found else None


SERVER_FOLDER, REASON = find_server()
pytestmark = pytest.mark.skipif(SERVER_FOLDER is None, reason=REASON)


@pytest.fixture
def url(tmp_path_factory):
    """Start a server of our own on a free port, and return the URL of its database."""
    user = {}
    # Its programs refuse root.
    if os.getuid() == 0:
        import pwd

        try:
            user = {"user": pwd.getpwnam("postgres").pw_uid, "group": "postgres"}
        except KeyError:
            pytest.skip("PostgreSQL refuses root, and there is no user postgres")
    # Not in tmp_path, whose parents only root may enter.
    folder = Path(tempfile.mkdtemp(prefix="hbcomp-pg-"))
    try:
        if user:
            shutil.chown(folder, "postgres", "postgres")
        options = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL, **user}
        initdb = ["initdb", "-D", "data", "-U", "postgres", "--auth=trust", "--no-sync"]
        subprocess.run([SERVER_FOLDER / initdb[0], *initdb[1:]], **options)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        control = [SERVER_FOLDER / "pg_ctl", "-D", "data", "-w", "-l", folder / "log"]
        settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        subprocess.run([*control, "-o", settings, "start"], **options)
        try:
            yield f"postgresql+psycopg://postgres:s3cret@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **options)
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


def test_two_machines_share_a_study_and_every_trial_is_there_once(url, tmp_path):
    machines = [tmp_path / name for name in ("one", "two")]
    for machine in machines:
        machine.mkdir()
        write_data(machine)
    words = words_of("--storage", url, "--trials", str(N_TRIALS), "--best", "0")
    # The first opens the study; two that open a new one at once are told to try again.
    first = start_hbcomp([*words, "--trials", "1"], machines[0])()
    assert first.returncode == 0, first.stderr
    waits = [start_hbcomp(words, machine) for machine in machines]
    ends = [wait() for wait in waits]
    assert [done.returncode for done in ends] == [0, 0], [done.stderr for done in ends]
    trials = trials_in(url)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    # Two that begin a trial at the same moment may both take the last one.
    assert N_TRIALS <= len(outcomes(trials)) == len(trials) <= N_TRIALS + 1
    assert len({trial.user_attrs["worker"] for trial in trials}) == len(trials)
    assert len({json.dumps(trial.params) for trial in trials}) == len(trials)
    for machine, done in zip(machines, ends, strict=True):
        assert json.loads(done.stdout)["n_trials"] <= len(trials)
        assert not (machine / "experiments/quickstart/studies.db").exists()
        assert "s3cret" not in done.stdout + done.stderr
    assert (machines[0] / "experiments/quickstart/tuning/tune.json").is_file()


def trials_in(url):
    storage = optuna.storages.RDBStorage(url)
    try:
        return optuna.load_study(study_name="tune", storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()
