import io
import logging
import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing, suppress

import numpy as np
import optuna
import pytest
from commands import SERVER
from finished_experiments import write_experiment, write_files

from hbcomp.experiment import ROOT
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Predictions
from hbcomp.scoring.metrics import ABS_SUM
from hbcomp.system.command import console
from hbcomp.system.errors import InputError
from hbcomp.tuning.search_space import read_space
from hbcomp.tuning.storage import (
    MAX_RETRIES,
    WARM_START,
    join_study,
    n_finished,
    open_storage,
    open_study,
    readable,
    reap,
    storage_file,
)
from hbcomp.tuning.thresholds import found_thresholds, tune_thresholds

SPACE = '"x" = { low = 0.0, high = 1.0 }\n"y" = { choices = [1, 2, 3] }'
SMALLER = '"x" = { low = 0.0, high = 0.5 }\n"y" = { choices = [1, 2] }'
BINDING = {"data": "abc", "rule": "half"}


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "mine")


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """Return a database without studies: making its tables takes longer than most tests."""
    run = RunFolder(tmp_path_factory.mktemp("empty"))
    open_storage(None, run)
    return run.path / "studies.db"


@pytest.fixture
def storage(run, empty):
    run.path.mkdir()
    shutil.copy(empty, run.path)
    return open_storage(None, run)


@pytest.fixture
def space_of(tmp_path):
    def read(text):
        path = tmp_path / "space.toml"
        path.write_text(text)
        return read_space(path)

    return read


def cost(values):
    return (values["x"] - 0.3) ** 2 + values["y"]


def optimize(study, space, n_trials, catch=()):
    study.optimize(lambda trial: cost(space.suggest(trial)), n_trials=n_trials, catch=catch)


def params(study):
    return [trial.params for trial in study.trials]


def states(study):
    return [trial.state.name for trial in study.trials]


def silence(run, seconds=3600):
    """Make every sign of life in the run's studies older."""
    with closing(sqlite3.connect(run.path / "studies.db")) as database, database:
        database.execute(
            "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, ?)",
            (f"-{seconds} seconds",),
        )


def die(study, space):
    """Begin a trial and leave it running, as a killed process does."""

    def objective(trial):
        space.suggest(trial)
        raise SystemExit  # what Optuna does not catch

    with pytest.raises(SystemExit):
        study.optimize(objective, n_trials=1)


def worker(run, space_file, n_trials, strike):
    """Work on study "s" in a process of its own, which `strike` ends within its first trial."""
    space, storage = read_space(space_file), open_storage(None, run)
    study = join_study(storage, "s", 0, n_workers=2)

    def objective(trial):
        value = cost(space.suggest(trial))
        while strike:
            with closing(sqlite3.connect(run.path / "studies.db")) as database:
                if database.execute("SELECT * FROM trial_heartbeats").fetchone():
                    os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.01)
        return value

    study.optimize(objective, n_trials=n_trials)


def run_workers(n_workers, *arguments):
    processes = [SERVER.Process(target=worker, args=arguments) for _ in range(n_workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def test_two_processes_write_to_one_sqlite_study_without_losing_a_trial(
    run, storage, space_of, tmp_path
):
    study = open_study(storage, "s", space_of(SPACE), BINDING, 0, n_workers=2)
    assert run_workers(2, run, tmp_path / "space.toml", 5, False) == [0, 0]
    assert states(study) == ["COMPLETE"] * 10
    assert [trial.number for trial in study.trials] == list(range(10))
    assert len({trial.params["x"] for trial in study.trials}) == 10


def test_a_killed_process_leaves_a_trial_that_is_retried_once(run, storage, space_of, tmp_path):
    space = space_of(SPACE)
    study = open_study(storage, "s", space, BINDING, 0)
    assert run_workers(1, run, tmp_path / "space.toml", 1, True) == [-signal.SIGKILL]
    reap(study)
    assert states(study) == ["RUNNING"], "it may still live"
    silence(run)
    for _ in range(2):
        reap(study)
        assert states(study) == ["FAIL", "WAITING"]
    optimize(study, space, 1)
    assert states(study) == ["FAIL", "COMPLETE"]
    first, again = study.trials
    assert first.params == again.params
    assert n_finished(study) == 1


def test_a_trial_that_keeps_dying_is_given_up(run, storage, space_of):
    space = space_of(SPACE)
    study = open_study(storage, "s", space, BINDING, 0)
    for _ in range(1 + MAX_RETRIES):
        die(study, space)
        silence(run)
        reap(study)
    assert states(study) == ["FAIL"] * (1 + MAX_RETRIES)
    assert params(study) == [study.trials[0].params] * (1 + MAX_RETRIES)


def test_a_living_trial_is_not_reaped(run, storage, space_of):
    space = space_of(SPACE)
    study = open_study(storage, "s", space, BINDING, 0)
    die(study, space)
    silence(run, seconds=60)
    reap(study)
    assert states(study) == ["RUNNING"]


def test_the_same_space_and_binding_continue_the_study(storage, space_of):
    space = space_of(SPACE)
    optimize(open_study(storage, "s", space, BINDING, 0), space, 3)
    study = open_study(storage, "s", space_of(SPACE + "\n"), dict(reversed(BINDING.items())), 0)
    assert (study.study_name, n_finished(study)) == ("s", 3)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert isinstance(study.pruner, optuna.pruners.NopPruner)


def test_a_study_stopped_and_continued_suggests_what_an_uninterrupted_one_does(tmp_path, space_of):
    space = space_of(SPACE)
    drawn = []
    for name, parts in [("whole", [14]), ("parts", [4, 9, 1])]:
        for n_trials in parts:
            storage = open_storage(None, RunFolder(tmp_path / name))
            study = open_study(storage, "s", space, BINDING, 7)
            optimize(study, space, n_trials)
        drawn.append(params(study))
    assert drawn[0] == drawn[1]
    assert len({trial["x"] for trial in drawn[0]}) == 14


def test_another_seed_and_another_version_draw_other_trials(storage, space_of):
    space = space_of(SPACE)
    studies = [
        open_study(storage, "s", space, BINDING, 0),
        open_study(storage, "t", space, BINDING, 1),
        open_study(storage, "s", space, BINDING, 0, is_fresh=True),
    ]
    for study in studies:
        optimize(study, space, 1)
    assert len({study.trials[0].params["x"] for study in studies}) == 3


def test_a_changed_space_becomes_a_version_with_exactly_the_fitting_trials(storage, space_of):
    space, smaller = space_of(SPACE), space_of(SMALLER)
    old = open_study(storage, "s", space, BINDING, 0)
    optimize(old, space, 12)
    before = old.trials
    study = open_study(storage, "s", smaller, BINDING, 0)
    fitting = [each for each in before if each.params["x"] <= 0.5 and each.params["y"] <= 2]
    assert study.study_name == "s v2"
    assert 0 < len(fitting) < 12
    assert params(study) == [trial.params for trial in fitting]
    assert [trial.value for trial in study.trials] == [trial.value for trial in fitting]
    assert [trial.user_attrs[WARM_START] for trial in study.trials] == [
        {"study": "s", "trial": trial.number} for trial in fitting
    ]
    assert n_finished(study) == 0
    optimize(study, smaller, 2)
    assert n_finished(study) == 2
    assert old.trials == before


def test_pruned_and_failed_trials_count_or_not_but_are_never_carried(storage, space_of):
    space = space_of(SPACE)
    study = open_study(storage, "s", space, BINDING, 0)
    for error in (optuna.TrialPruned, ZeroDivisionError):

        def objective(trial, error=error):
            space.suggest(trial)
            raise error

        study.optimize(objective, n_trials=1, catch=(ZeroDivisionError,))
    assert states(study) == ["PRUNED", "FAIL"]
    assert n_finished(study) == 1
    assert open_study(storage, "s", space_of(SPACE.replace("3", "4")), BINDING, 0).trials == []


def test_a_third_version_knows_where_a_trial_was_measured_first(storage, space_of):
    space = space_of(SPACE)
    study = open_study(storage, "s", space, BINDING, 0)
    study.enqueue_trial({"x": 0.25, "y": 1}, user_attrs={"seconds": 3.5})
    optimize(study, space, 1)
    open_study(storage, "s", space_of(SMALLER), BINDING, 0)
    third = open_study(storage, "s", space_of(SPACE.replace("1.0", "0.3")), BINDING, 0)
    assert third.study_name == "s v3"
    assert third.trials[0].user_attrs == {
        "seconds": 3.5,
        WARM_START: {"study": "s", "trial": 0},
    }


def test_a_space_that_comes_back_continues_its_own_version(storage, space_of):
    for text in (SPACE, SMALLER):
        open_study(storage, "s", space_of(text), BINDING, 0)
    assert open_study(storage, "s", space_of(SPACE), BINDING, 0).study_name == "s"
    assert open_study(storage, "s", space_of(SMALLER), BINDING, 0).study_name == "s v2"


def test_a_changed_binding_is_refused_with_what_changed(storage, space_of):
    space = space_of(SPACE)
    open_study(storage, "s", space, BINDING, 0)
    with pytest.raises(InputError) as error:
        open_study(storage, "s", space, {"data": "xyz", "rule": "half", "folds": "5"}, 0)
    assert str(error.value) == (
        "study 's' was measured on something else: data was 'abc', now 'xyz'; "
        "folds was 'absent', now '5'; --name another study, or --fresh starts a new version"
    )


def test_fresh_starts_a_version_with_nothing_and_later_continues_it(storage, space_of):
    space = space_of(SPACE)
    optimize(open_study(storage, "s", space, BINDING, 0), space, 2)
    other = {**BINDING, "data": "xyz"}
    fresh = open_study(storage, "s", space, other, 0, is_fresh=True)
    assert (fresh.study_name, fresh.trials) == ("s v2", [])
    assert open_study(storage, "s", space, other, 0).study_name == "s v2"
    assert open_study(storage, "s", space, BINDING, 0).study_name == "s"
    again = open_study(storage, "s", space, BINDING, 0, is_fresh=True)
    assert (again.study_name, again.trials) == ("s v3", [])
    assert open_study(storage, "s", space, BINDING, 0).study_name == "s v3"


def test_trials_are_taken_from_the_newest_version_of_the_same_binding(storage, space_of):
    space = space_of(SPACE)
    for number, binding in enumerate([BINDING, {**BINDING, "data": "xyz"}]):
        study = open_study(storage, "s", space, binding, 0, is_fresh=True)
        study.enqueue_trial({"x": number / 4, "y": 1})
        optimize(study, space, 1)
    study = open_study(storage, "s", space_of(SMALLER), BINDING, 0)
    assert (study.study_name, params(study)) == ("s v3", [{"x": 0.0, "y": 1}])


def test_a_half_made_version_and_other_studies_are_passed_over(storage, space_of):
    for name in ("s", "s v2", "s v3 old", "thresholds-abc-0", "other"):
        optuna.create_study(storage=storage, study_name=name)
    study = open_study(storage, "s", space_of(SPACE), BINDING, 0)
    assert study.study_name == "s v3"
    assert open_study(storage, "s", space_of(SPACE), BINDING, 0).study_name == "s v3"


def test_two_processes_that_open_a_new_study_at_once_do_not_share_a_half_made_one(
    storage, space_of, monkeypatch
):
    def create(**_):
        raise optuna.exceptions.DuplicatedStudyError

    monkeypatch.setattr(optuna, "create_study", create)
    with pytest.raises(InputError, match="another process is opening study 's'; give the command"):
        open_study(storage, "s", space_of(SPACE), BINDING, 0)


def test_only_several_workers_lie_about_running_trials(storage, space_of):
    for n_workers, is_lying in [(1, False), (2, True)]:
        study = open_study(storage, "s", space_of(SPACE), BINDING, 0, n_workers=n_workers)
        optimize(study, space_of(SPACE), 1)
        tpe = study.sampler
        assert (tpe._constant_liar, tpe._multivariate, tpe._group) == (is_lying, True, True)


def test_studies_lie_in_the_folder_of_the_run(run):
    open_storage(None, run)
    assert (run.path / "studies.db").is_file()


def test_sqlite_waits_for_a_lock_and_servers_are_asked_before_use(run, storage, monkeypatch):
    with closing(storage.engine.raw_connection()) as connection:
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (60_000,)

    def refuse(url, *, engine_kwargs, **_):
        raise RuntimeError(engine_kwargs)

    monkeypatch.setattr("hbcomp.tuning.storage.RDBStorage", refuse)
    with pytest.raises(InputError, match=r"pool_pre_ping\S: True"):
        open_storage("postgresql://host/db", run)


def test_optuna_says_nothing_about_studies_and_failed_trials(run, storage, space_of):
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    logging.getLogger("optuna").addHandler(handler)
    try:
        study = open_study(open_storage(None, run), "s", space_of(SPACE), BINDING, 0)
        study.optimize(lambda trial: 1 / 0, n_trials=1, catch=(ZeroDivisionError,))
    finally:
        logging.getLogger("optuna").removeHandler(handler)
    assert said.getvalue() == ""


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "--storage must be a database URL like sqlite:///studies.db or "),
        ("postgresql://me:s3cret@host:door/db", "--storage must be a database URL"),
        (
            "redis://me:s3cret@host",
            r"redis://me:\*\*\*@host: cannot be used for studies: Can't load",
        ),
        ("sqlite://", "sqlite://: a study in memory would be lost; name a file as sqlite:///FILE"),
        ("sqlite:///nowhere/s.db", "sqlite:///nowhere/s.db: cannot be .* unable to open database"),
        ("sqlite:///text.db", "sqlite:///text.db: cannot be used for studies: file is not a data"),
        ("sqlite:///s.db?timeout=soon", "sqlite:///s.db: cannot be used .* could not convert"),
        ("sqlite+no:///s.db", r"sqlite\+no:///s.db: cannot be used for studies: Can't load plugin"),
        (
            "postgresql+asyncpg://me:s3cret@host/db",
            r"postgresql\+asyncpg://me:\*\*\*@host/db: needs a database driver that is not inst",
        ),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line_without_password(
    run, tmp_path, monkeypatch, url, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.db").write_text(
        "no database, but some words, at least a hundred of them " * 9
    )
    with pytest.raises(InputError, match=message) as error:
        open_storage(url, run)
    assert "\n" not in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_password_in_the_drivers_own_message_is_hidden(run, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no entry for me:s3cret\nand more")

    monkeypatch.setattr("hbcomp.tuning.storage.RDBStorage", refuse)
    with pytest.raises(InputError) as error:
        open_storage("mysql+pymysql://me:s3cret@host/db?password=s3cret", run)
    assert str(error.value) == (
        "mysql+pymysql://me:***@host/db: cannot be used for studies: no entry for me:***"
    )


def test_braces_in_a_storages_name_are_no_template(run, tmp_path):
    open_storage(f"sqlite:///{tmp_path}/{{a}}.db", run)
    assert (tmp_path / "{a}.db").is_file()


def overwrite(path):
    path.write_bytes(path.read_bytes()[:100] + b"x" * 5_000)


def cut(path):
    path.write_bytes(path.read_bytes()[:-5_000])


def sql(statement):
    def change(path):
        with closing(sqlite3.connect(path)) as database:
            database.execute(statement)
            database.commit()

    return change


DAMAGES = {
    "overwritten": overwrite,
    "cut off": cut,
    "no direction": sql("DELETE FROM study_directions"),
    "a parameter's space": sql("UPDATE trial_params SET distribution_json = '{'"),
    "a parameter's name": sql("UPDATE trial_params SET param_name = 'x' || param_name"),
    "a time": sql("UPDATE trials SET datetime_start = 'x'"),
}


@pytest.fixture(scope="module")
def studied(tmp_path_factory, empty):
    """Return a run with the database of a finished threshold study."""
    folder = tmp_path_factory.mktemp("studied")
    write_files(folder)
    write_experiment(folder, "studied")
    run = RunFolder(folder / ROOT / "studied")
    shutil.copy(empty, run.path)
    labels = np.arange(12) % 2
    Predictions(
        train_ids=np.arange(12).astype(str),
        labels=labels,
        fold_of_row=np.arange(12) // 2 % 2,
        oof_probs=np.stack([labels * 0.6 + 0.2, labels * -0.6 + 0.8], axis=1),
        test_ids=np.array([], dtype=np.str_),
        test_probs=np.zeros((0, 2)),
        train_fingerprint="beats",
        test_fingerprint="",
    ).save(run.predictions_file)
    tune_thresholds(run, 2, 0, console)
    return run


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_study_of_thresholds_is_refused_by_its_file(studied, damage):
    path = storage_file(studied)
    before = path.read_bytes()
    try:
        DAMAGES[damage](path)
        with pytest.raises(InputError, match=r"studies\.db: (damaged|cannot be used)") as error:
            tune_thresholds(studied, 2, 0, console)
        assert "\n" not in str(error.value)
        with suppress(InputError):  # `tune`, which shows what the study found, if it can be read
            predictions = Predictions.load(studied.predictions_file)
            found_thresholds(studied, predictions, ABS_SUM)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_a_study_and_its_next_version_search_in_the_direction_of_the_metric(
    storage, space_of, greater_is_better
):
    for text in (SPACE, SMALLER):
        space = space_of(text)
        study = open_study(storage, "s", space, BINDING, 0, greater_is_better=greater_is_better)
        assert study.direction.name == ("MAXIMIZE" if greater_is_better else "MINIMIZE")
        optimize(study, space, 3)
        values = [trial.value for trial in study.trials]
        assert study.best_value == (max(values) if greater_is_better else min(values))


@pytest.mark.parametrize("value", ["[]", "{", '{"binding": 1}'])
def test_a_study_whose_binding_is_damaged_is_refused_by_its_file(run, storage, space_of, value):
    open_study(storage, "s", space_of(SPACE), BINDING, 0)
    sql(f"UPDATE study_user_attributes SET value_json = '{value}'")(storage_file(run))
    with (
        pytest.raises(InputError, match=r"studies\.db: damaged: "),
        readable(None, run),
    ):
        open_study(open_storage(None, run), "s", space_of(SPACE), BINDING, 0)
