"""The command `hbcomp tune`, end to end, on tiny data."""

import json
import pickle
import shutil
import signal
import sqlite3
import time
import warnings
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
from commands import Strike, run_hbcomp
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from hbcomp.competitions.load import load_data
from hbcomp.crossval import training_data
from hbcomp.crossval.resources import Slot
from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.setup import prepare
from hbcomp.scoring.metrics import MetricConfig, MetricSpec
from hbcomp.scoring.paired import as_text
from hbcomp.system.errors import InputError
from hbcomp.system.workers import Done
from hbcomp.training.device import Compute
from hbcomp.tuning import search as searching
from hbcomp.tuning.search import StudyStorage, TrialJob, retry, search
from hbcomp.tuning.search_space import Space, read_space
from hbcomp.tuning.storage import WARM_START, open_storage, open_study
from hbcomp.tuning.trial import STOPPED, UNSCORED, WORKER, StudyContext, rows_key, unpack
from hbcomp.tuning.tune_experiment import _free_folder, _importances, _warn_of_min_steps

ABS_SUM = MetricSpec(config=MetricConfig(scale_rows=20_000), classes=("0", "1", "2"))
TINY = [
    "net.widths=[4]",
    "net.strides=[2]",
    "net.hidden=8",
    "train.n_epochs=2",
    "train.batch_size=4",
    "train.lr=0.02",  # so small that a search finds a better one at once
    "folds.n_folds=2",
    "compute.device=cpu",
    "compute.n_threads=1",
]
SPACE = '"train.lr" = { low = 5e-3, high = 1e-1, log = true }\n"net.hidden" = { choices = [4, 8] }'
N_ROWS, N_TRIALS = 60, 5


@pytest.mark.parametrize(
    ("text", "min_steps", "is_warned"),
    [
        ('"train.n_epochs" = { low = 2, high = 40 }', 30, True),
        ('"train.n_epochs" = { low = 10, high = 40 }', 30, False),
        ('"train.n_epochs" = { low = 2, high = 40 }', 0, False),
        ('"train.lr" = { low = 1e-3, high = 1e-2 }', 30, False),
    ],
)
def test_epochs_that_the_steps_of_few_rows_exceed_are_warned_of(
    tmp_path, monkeypatch, capsys, text, min_steps, is_warned
):
    monkeypatch.setattr(training_data, "load_data", lambda _: (make_rows(n=96, k=3), None))
    base = Config(folds={"n_folds": 2}, train={"min_steps": min_steps, "batch_size": 16})
    (tmp_path / "space.toml").write_text(text)
    context = StudyContext(base, "", read_space(tmp_path / "space.toml"), ABS_SUM, "half", 0)
    _warn_of_min_steps(context, training_data.load_training_data(base))
    said = "train.n_epochs below 10 makes no difference" in capsys.readouterr().err
    assert said == is_warned


def write_data(folder):
    write_competition_csv(folder / "train.csv", make_rows(n=N_ROWS, t=16, k=3))
    (folder / "space.toml").write_text(SPACE)


def words_of(*words, settings=TINY):
    given = ["tune", "--space", "space.toml", "--train", "train.csv", *words]
    return [*given, *[word for setting in settings for word in ("--set", setting)]]


def call(cwd, *words, **options):
    return run_hbcomp(words_of(*words), cwd, **options)


def search_only(cwd, n_trials, *words, strike=None, n_pages=None):
    """Search without the confirmation and the page, which take longer than such trials."""
    words = ["--trials", str(n_trials), "--best", "0", *words]
    return call(cwd, *words, strike=strike, prepare=partial(simplify, n_pages))


def simplify(n_pages):
    """Draw no page; let databases grow to so many pages only, as on a full disk."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from hbcomp.tuning import tune_experiment as workflow

    workflow.write_page = lambda summary, folder: folder / "tune.html"
    if n_pages:
        limit = f"PRAGMA max_page_count = {n_pages}"
        event.listen(Engine, "connect", lambda dbapi, _: dbapi.execute(limit))


def last_json(done):
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def trials_of(folder, study="tune"):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{folder / 'experiments/quickstart/studies.db'}"
    return optuna.load_study(study_name=study, storage=url).trials


def outcomes(trials):
    """Return what a finished trial is remembered by."""
    return [
        (trial.params, trial.value, trial.intermediate_values)
        for trial in trials
        if trial.state.name in ("COMPLETE", "PRUNED")
    ]


def assert_retried(trials):
    """Every trial that failed must have been run again with its parameters."""
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    for trial in failed:
        heirs = [each for each in trials if trial.number in history_of(each)]
        assert {json.dumps(each.params, sort_keys=True) for each in heirs} == {
            json.dumps(trial.params, sort_keys=True)
        }
        assert heirs[-1].state.name in ("COMPLETE", "PRUNED")
    return len(failed)


def history_of(trial):
    return trial.system_attrs.get("retry_history", [])


def states(folder):
    return [trial.state.name for trial in trials_of(folder)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with an uninterrupted study of one worker, and its winner."""
    folder = tmp_path_factory.mktemp("finished")
    write_data(folder)
    done = call(folder, "--trials", str(N_TRIALS), "--best", "2", draws=True)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def test_the_last_line_is_one_json_object_with_the_study_and_its_winner(finished):
    (line,) = (finished / "stdout").read_text().splitlines()
    numbers = json.loads(line)
    complete = [each.value for each in trials_of(finished) if each.state.name == "COMPLETE"]
    assert (numbers["experiment"], numbers["study"]) == ("quickstart", "tune")
    assert numbers["n_trials"] == N_TRIALS
    assert numbers["n_pruned"] == N_TRIALS - len(complete)
    assert numbers["best_in_search"] == min(complete)
    assert numbers["metric"] == "abs-sum per 20,000 rows (lower is better)"
    assert numbers["winner"] == "quickstart-tuned"
    assert (finished / numbers["page"]).is_file()


def test_one_command_leaves_the_study_its_page_and_its_numbers(finished):
    folder = finished / "experiments/quickstart/tuning"
    assert {"tune.json", "tune.html", "pictures"} == {path.name for path in folder.iterdir()}
    summary = json.loads((folder / "tune.json").read_text())
    stored = trials_of(finished)
    assert [trial["number"] for trial in summary["trials"]] == list(range(N_TRIALS))
    assert [trial["params"] for trial in summary["trials"]] == [trial.params for trial in stored]
    assert (summary["n_rows"], summary["n_folds"], summary["rule"]) == (N_ROWS, 2, "half")
    assert not list(finished.rglob("*.partial"))


def test_the_first_trial_is_the_experiment_itself(finished):
    assert trials_of(finished)[0].params == {"train.lr": 0.02, "net.hidden": 8}


def rows_of(trial):
    """Return what each row of a trial of two folds contributes."""
    packed = [trial.user_attrs[rows_key(fold)] for fold in range(2)]
    return np.concatenate([unpack(text, False).values for text in packed])


def test_a_trials_value_is_that_of_the_rows_in_the_study(finished):
    for trial in trials_of(finished):
        if trial.state.name == "COMPLETE":
            rows = rows_of(trial)
            assert len(rows) == N_ROWS
            assert set(rows) <= {0.0, 20_000.0, 40_000.0}
            assert trial.value == pytest.approx(rows.mean())


def test_the_winner_is_an_experiment_that_says_where_it_comes_from(finished, monkeypatch):
    confirmed = json.loads((finished / "stdout").read_text())["confirmed"]
    winner = confirmed["winner"]
    file = finished / "experiments/quickstart-tuned/config.toml"
    comments = " ".join(line[2:] for line in file.read_text().splitlines() if line[:1] == "#")
    assert f"Trial {winner['trial']} of study 'tune' of quickstart." in comments
    assert "On fresh seed 1001, rule half, 60 rows, abs-sum per 20,000 rows (lower is" in comments
    assert (
        f"{as_text(winner['fresh'])} against {as_text(winner['base'])} of quickstart, difference "
        f"{as_text(winner['difference'], '+')} ± {as_text(winner['standard_error'])} (paired)."
    ) in comments
    assert winner["difference"] == pytest.approx(winner["fresh"] - winner["base"])
    # It is the base but for the winner's parameters, and `hbcomp cv` takes it.
    monkeypatch.chdir(finished)
    config = prepare("quickstart-tuned", [], None).config
    params = trials_of(finished)[winner["trial"]].params
    base = prepare("quickstart", [*TINY, "data.train=train.csv"], None).config
    assert config == read_space(Path("space.toml")).apply(base, params)
    assert config != base


def test_progress_is_told_in_plain_lines_without_a_terminal(finished):
    lines = (finished / "stderr").read_text().splitlines()
    told = [line for line in lines if line.startswith(f"{N_TRIALS}/{N_TRIALS} trial 4: ")]
    assert len(told) == 1
    assert any(line.startswith("base on fresh seed 1000 fold 0: ") for line in lines)
    assert lines[-1] == "next: hbcomp cv quickstart-tuned"


def test_a_second_call_trains_nothing_and_says_the_same(copied, finished):
    # It would kill itself where training begins.
    strike = Strike("crossval.fold", "train_epochs")
    done = call(copied, "--trials", str(N_TRIALS), "--best", "2", strike=strike)
    again, before = last_json(done), json.loads((finished / "stdout").read_text())
    assert {**again, "seconds": 0} == {**before, "seconds": 0}
    assert outcomes(trials_of(copied)) == outcomes(trials_of(finished))
    assert not (copied / "experiments/quickstart-tuned-2").exists()


def test_killed_between_trials_and_continued_it_is_the_study_of_one_go(finished, tmp_path):
    write_data(tmp_path)
    strike = Strike("tuning.search", "_report_ended", n=2)
    assert search_only(tmp_path, N_TRIALS, strike=strike).returncode == -signal.SIGKILL
    assert len(trials_of(tmp_path)) == 2
    assert last_json(search_only(tmp_path, N_TRIALS))["n_trials"] == N_TRIALS
    assert outcomes(trials_of(tmp_path)) == outcomes(trials_of(finished))


def test_stopped_within_trials_it_keeps_what_was_finished_and_runs_the_others_again(tmp_path):
    write_data(tmp_path)
    # Three times a trial, of one or two folds: two scores of a trial, and one interim check.
    ctrl_c = Strike("tuning.trial", "joined", n=5, signal=signal.SIGINT)
    done = search_only(tmp_path, 3, strike=ctrl_c)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert done.stderr.splitlines()[-1] == (
        "interrupted: 1 finished trials are kept; the same command continues"
    )
    assert "Traceback" not in done.stderr
    assert states(tmp_path) == ["COMPLETE", "FAIL", "WAITING"]
    killed = search_only(tmp_path, 3, strike=Strike("tuning.trial", "joined", n=2))
    assert killed.returncode == -signal.SIGKILL
    before = trials_of(tmp_path)
    assert states(tmp_path) == ["COMPLETE", "FAIL", "RUNNING"]
    assert last_json(search_only(tmp_path, 3))["n_trials"] == 3
    after = trials_of(tmp_path)
    assert outcomes(after[:1]) == outcomes(before[:1])
    assert [trial.params for trial in after[1:4]] == [before[1].params] * 3
    assert states(tmp_path)[:3] == ["COMPLETE", "FAIL", "FAIL"]
    assert_retried(after)


@pytest.mark.long("fresh workers import for seconds")
def test_one_of_two_workers_is_killed_within_a_trial_and_the_command_ends_with_all(tmp_path):
    write_data(tmp_path)
    strike = Strike("tuning.trial", "joined", is_in_worker=True)
    done = search_only(tmp_path, 4, "--jobs", "2", strike=strike)
    assert last_json(done)["n_trials"] == 4
    assert "a worker exited (SIGKILL(-9)); its trial is queued again" in done.stderr
    trials = trials_of(tmp_path)
    assert len(outcomes(trials)) == 4
    assert [trial.number for trial in trials] == list(range(5)), done.stderr
    assert assert_retried(trials) == 1


@pytest.mark.long("fresh workers import for seconds")
def test_the_parent_of_two_workers_is_killed_and_the_next_call_finishes(tmp_path):
    write_data(tmp_path)
    strike = Strike("tuning.search", "_report_ended")
    done = search_only(tmp_path, 4, "--jobs", "2", strike=strike)
    assert done.returncode == -signal.SIGKILL
    before = {trial.number: trial for trial in trials_of(tmp_path) if trial.state.is_finished()}
    assert before
    # Nobody would ever end its workers, so they do it themselves.
    end = time.monotonic() + 60
    while at_work_in(tmp_path):
        assert time.monotonic() < end, "a worker outlived its parent"
        time.sleep(0.05)
    assert last_json(search_only(tmp_path, 4))["n_trials"] == 4
    trials = trials_of(tmp_path)
    assert outcomes(trials[n] for n in before) == outcomes(before.values())
    assert_retried(trials)
    assert not any(trial.state.name in ("RUNNING", "WAITING") for trial in trials)


def at_work_in(folder):
    """Return the processes whose working directory is this folder; Linux only, else none."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_here = (path / "cwd").readlink() == folder
            is_worker = "popen_loky" in (path / "cmdline").read_text()
        except OSError:
            continue
        found += [path.name] * (is_here and is_worker)
    return found


def fill_up(file):
    """Leave no room in a database for the attributes of another trial; return its pages."""
    with closing(sqlite3.connect(file, isolation_level=None)) as database:

        def n_pages():
            return database.execute("PRAGMA page_count").fetchone()[0]

        database.execute("VACUUM")
        before = n_pages()
        for number in range(1000):
            database.execute("BEGIN")
            database.execute(
                "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, ?, '0')",
                (f"padding {number}",),
            )
            if n_pages() > before:
                database.execute("ROLLBACK")
                return before
            database.execute("COMMIT")
    raise AssertionError("a page holds less")


def test_a_full_disk_is_one_line_and_the_study_goes_on_when_there_is_room(copied):
    database = copied / "experiments/quickstart/studies.db"
    before = outcomes(trials_of(copied))
    done = search_only(copied, N_TRIALS + 9, n_pages=fill_up(database))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "error: the study cannot be written: database or disk is full; finished trials are kept, "
        "and the same command continues once that is mended"
    )
    assert "Traceback" not in done.stderr
    stopped = outcomes(trials_of(copied))
    assert stopped[: len(before)] == before
    n_trials = len(stopped) + 1
    assert last_json(search_only(copied, n_trials))["n_trials"] == n_trials
    assert outcomes(trials_of(copied))[: len(stopped)] == stopped


def test_a_changed_space_is_a_new_version_that_starts_from_the_trials_that_fit(copied):
    (copied / "space.toml").write_text(SPACE.replace("5e-3", "1.5e-2"))
    old = trials_of(copied)
    complete = [trial for trial in old if trial.state.name == "COMPLETE"]
    fitting = [trial for trial in complete if trial.params["train.lr"] >= 1.5e-2]
    assert 0 < len(fitting) < len(old)
    numbers = last_json(search_only(copied, 1))
    assert (numbers["study"], numbers["n_trials"]) == ("tune v2", 1)
    *carried, own = trials_of(copied, "tune v2")
    assert outcomes(old) == outcomes(trials_of(copied))
    assert [trial.params for trial in carried] == [trial.params for trial in fitting]
    assert [trial.value for trial in carried] == [trial.value for trial in fitting]
    assert all(WARM_START in trial.user_attrs for trial in carried)
    assert WARM_START not in own.user_attrs
    assert own.params not in [trial.params for trial in carried], "the base is known already"


def test_a_path_added_to_the_space_or_taken_from_it_carries_what_was_trained_the_same(copied):
    added = '"train.weight_decay" = { low = 0.0, high = 0.1 }'
    (copied / "space.toml").write_text(f"{SPACE}\n{added}")
    complete = [trial for trial in trials_of(copied) if trial.state.name == "COMPLETE"]
    search_only(copied, 1)
    *carried, own = trials_of(copied, "tune v2")
    base = 0.02  # the quickstart's
    assert [trial.params for trial in carried] == [
        {**trial.params, "train.weight_decay": base} for trial in complete
    ]
    assert own.params["train.weight_decay"] != base
    (copied / "space.toml").write_text(f"{SPACE.splitlines()[0]}\n{added}")
    search_only(copied, 1)
    in_third = [trial for trial in trials_of(copied, "tune v3") if WARM_START in trial.user_attrs]
    of_base = [
        trial
        for trial in (*carried, own)
        if trial.state.name == "COMPLETE" and trial.params["net.hidden"] == 8
    ]
    assert [trial.value for trial in in_third] == [each.value for each in of_base]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rule", "raw"], "--rule must be one of half, argmax, but got 'raw'"),
        (["--folds", "3"], "--folds must be at most 2, the number of folds, but got 3"),
        (["--space", "absent.toml"], "absent.toml"),
        (["--space", "bad.toml"], "bad.toml: train.lr = -1.0"),
        (["--set", "folds.n_folds=100"], "each class needs at least 100 rows for 100 folds"),
        (["--train", "absent.csv"], "absent.csv: No such file or directory"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path, words, message):
    write_data(tmp_path)
    (tmp_path / "bad.toml").write_text('"train.lr" = { low = -1.0, high = 1.0 }')
    before = {path.name for path in tmp_path.iterdir()}
    done = run_hbcomp([*words_of(), *words], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert {path.name for path in tmp_path.iterdir()} == before


def test_an_experiment_without_a_space_asks_for_one(tmp_path):
    file = tmp_path / "experiments/mine/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[net]\nname = "linear"\n')
    done = run_hbcomp(["tune", "mine"], tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: experiments/mine/space.toml: no such file, and no experiment ")
    assert line.endswith("name a file or one of them with --space")
    assert list(file.parent.iterdir()) == [file]


def test_a_storage_that_cannot_be_reached_is_one_line_without_password(tmp_path):
    write_data(tmp_path)
    done = search_only(tmp_path, 1, "--storage", "sqlite:////nowhere/s.db")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: sqlite:////nowhere/s.db: cannot be used for studies: unable to open database file"
    ]
    assert not (tmp_path / "experiments/quickstart/config.toml").exists()


def test_other_data_under_a_study_is_refused_with_what_changed(copied):
    write_competition_csv(copied / "train.csv", make_rows(n=N_ROWS, t=16, k=3, seed=1))
    done = search_only(copied, N_TRIALS + 1)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "error: study 'tune' was measured on something else: train data has changed; "
    )


def competition(folder, name):
    """Write a competition of that metric; return the words that choose it."""
    (folder / name).mkdir()
    text = f'title = "T"\n[data]\nsignal = "heartbeat_signals"\n[metric]\nname = "{name}"\n'
    (folder / name / "competition.toml").write_text(text)
    return "--set", f"data.competition={name}"


def test_another_metric_under_a_study_is_refused_in_one_line(copied):
    done = search_only(copied, N_TRIALS + 1, *competition(copied, "accuracy"))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "error: study 'tune' was measured on something else: metric was "
        "'abs-sum per 20,000 rows (lower is better)', now 'accuracy (higher is better)'; "
    )


@pytest.mark.parametrize(("metric", "rule"), [("macro-f1", "argmax"), ("macro-roc-auc", "raw")])
def test_where_greater_is_better_the_greatest_score_is_the_best(tmp_path, metric, rule):
    write_data(tmp_path)
    words = ["--trials", "5", "--best", "1", *competition(tmp_path, metric)]
    numbers = last_json(call(tmp_path, *words))
    complete = [trial for trial in trials_of(tmp_path) if trial.state.name == "COMPLETE"]
    values = [trial.value for trial in complete]
    assert 0 < min(values) < max(values) <= 1
    assert numbers["best_in_search"] == max(values)
    summary = json.loads((tmp_path / "experiments/quickstart/tuning/tune.json").read_text())
    assert (summary["rule"], summary["greater_is_better"]) == (rule, True)
    assert summary["metric"] == numbers["metric"] == f"{metric} (higher is better)"
    winner = numbers["confirmed"]["winner"]
    assert (numbers["winner"] is not None) == (winner["difference"] > 0)
    for trial in complete:
        assert trial.value == pytest.approx(rows_of(trial).mean())
        assert max(trial.intermediate_values) == 1


def test_the_name_of_a_winner_is_taken_anew_only_if_it_says_something_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text, name in [("a", "mine-tuned"), ("b", "mine-tuned-2"), ("a", "mine-tuned")]:
        run = _free_folder("mine", text)
        assert run.name == name
        run.path.mkdir(parents=True, exist_ok=True)
        run.config_file.write_text(text)


def test_after_999_winners_there_is_no_name_left(tmp_path, monkeypatch):
    monkeypatch.setattr("hbcomp.tuning.tune_experiment.ROOT", tmp_path)
    monkeypatch.setattr(Path, "exists", lambda self: self.name != "config.toml")
    with pytest.raises(InputError, match="there are 999 experiments named mine-tuned already"):
        _free_folder("mine", "")


# --- the search itself, with trials that cost nothing -------------------------------------------


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return open_storage(None, RunFolder(tmp_path_factory.mktemp("searches")))


@pytest.fixture
def study(storage):
    return open_study(storage, "s", Space({}, ""), {}, 0, is_fresh=True)


def states_of(study):
    return [trial.state.name for trial in study.trials]


def begin(study, worker):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # trials have a heartbeat in Study.optimize only
        trial = study.ask({"train.lr": optuna.distributions.FloatDistribution(0.01, 0.1)})
    trial.set_user_attr(WORKER, worker)
    return trial


@pytest.fixture
def search_with(study, monkeypatch):
    """Search for `n_trials` with workers that begin a trial and die of it where `dies(job)`."""

    def search_with(n_trials, dies, timeout=None):
        class Workers:
            def done(self, jobs):
                for n_done, job in enumerate(jobs):
                    trial, has_died = begin(study, job.worker), dies(n_done)
                    if not has_died:
                        study.tell(trial, 1.0)
                    yield Done(job, exit="SIGKILL(-9)" if has_died else None)

        monkeypatch.setattr(searching, "worker_pool", lambda *_: nullcontext(Workers()))
        context = StudyContext(Config(), "", Space({}, ""), ABS_SUM, "half", 0)
        search(study, context, StudyStorage(None, RunFolder(Path()), "s", 2), [], n_trials, timeout)

    return search_with


def test_what_died_last_is_run_again_by_the_same_call(study, search_with, capsys):
    n_deaths = iter([True, True])
    search_with(1, lambda _: next(n_deaths, False))
    assert states_of(study) == ["FAIL", "FAIL", "COMPLETE"]
    assert len({trial.params["train.lr"] for trial in study.trials}) == 1
    told = "a worker exited (SIGKILL(-9)); its trial is queued again"
    assert capsys.readouterr().err.count(told) == 2


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_a_worker_says_in_one_line_why_its_study_cannot_be_written(monkeypatch, is_wrapped):
    class Full:
        def optimize(self, *_, **__):
            orig = sqlite3.OperationalError("database or disk is full\nand more")
            error = OperationalError("INSERT", {}, orig)
            if is_wrapped:
                raise StorageInternalError("invalid data?") from error
            raise error

    context = StudyContext(
        Config(), load_data(Config().data)[0].fingerprint, Space({}, ""), ABS_SUM, "half", 0
    )
    monkeypatch.setattr(searching, "_join", lambda *_: Full())
    job = TrialJob(context, StudyStorage(None, RunFolder(Path()), "s", 2), "w")
    with pytest.raises(InputError) as error:
        searching.work(job, Slot(0, Compute("cpu", "fp32", 1, "tests")))
    assert str(pickle.loads(pickle.dumps(error.value))) == (
        "the study cannot be written: database or disk is full; finished trials are kept, and the "
        "same command continues once that is mended"
    )


def test_no_trial_begins_after_the_timeout(study, search_with):
    search_with(3, lambda _: False, timeout=0.0)
    assert states_of(study) == []


def test_trials_that_run_on_other_machines_count_and_are_left_alone(study, search_with, capsys):
    theirs = begin(study, "theirs")
    search_with(3, lambda _: False)
    assert states_of(study) == ["RUNNING", "COMPLETE", "COMPLETE"]
    assert "1 trials are still running in other processes" in capsys.readouterr().err
    study.tell(theirs, 1.0)


def test_ctrl_c_queues_ones_own_trial_and_leaves_those_of_other_machines_alone(study, search_with):
    def interrupt(_):
        raise KeyboardInterrupt

    theirs = begin(study, "theirs")
    with pytest.raises(KeyboardInterrupt):
        search_with(3, interrupt)
    assert states_of(study) == ["RUNNING", "FAIL", "WAITING"]
    assert study.trials[1].params == study.trials[2].params
    study.tell(theirs, 1.0)


def test_all_that_runs_in_a_study_of_this_machine_is_queued_again(study):
    begin(study, "a")
    begin(study, "b")
    retry(study)
    assert states_of(study) == ["FAIL", "FAIL", "WAITING", "WAITING"]


@pytest.mark.parametrize(("values", "is_known"), [((0.5, 0.9), True), ((0.9, 0.9 - 2e-16), False)])
def test_scores_that_differ_by_rounding_say_nothing_of_a_parameter(study, values, is_known):
    lr = optuna.distributions.FloatDistribution(0.01, 0.1)
    for value, rate in zip(values, (0.02, 0.08), strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                value=value, params={"train.lr": rate}, distributions={"train.lr": lr}
            )
        )
    assert _importances(study) == ({"train.lr": 1.0} if is_known else {})


@pytest.mark.parametrize(
    ("attributes", "state", "told"),
    [
        ({}, "COMPLETE", "trial 0: score 12.5, 0 s"),
        ({}, "FAIL", "trial 0: failed, 0 s"),
        ({UNSCORED: "epoch 1: nan"}, "PRUNED", "trial 0: no score: epoch 1: nan, 0 s"),
        (
            {STOPPED: {"n_rows": 2000, "deficit": 312.4, "incumbent": 7, "boundary": 99.6}},
            "PRUNED",
            "trial 0: pruned after 2,000 rows: 312.4 worse than trial 7 (limit 99.6), 0 s",
        ),
    ],
)
def test_a_line_says_what_became_of_a_trial(attributes, state, told):
    state = optuna.trial.TrialState[state]
    value = 12.5 if state.name == "COMPLETE" else None
    trial = optuna.trial.create_trial(state=state, value=value, user_attrs=attributes)
    trial.datetime_complete = trial.datetime_start
    trial.number = 0
    assert searching.line_of(trial, None) == told
    best = optuna.trial.create_trial(value=0.9)
    best.number = 4
    assert searching.line_of(trial, best) == f"{told}, best 0.9000 (trial 4)"
