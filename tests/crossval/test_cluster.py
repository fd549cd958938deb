"""Folds trained by workers that share no folder with the caller."""

import os
import signal

import pytest
from finished_experiments import write_files, write_into

from hbcomp.crossval import cluster
from hbcomp.crossval.loop import cross_validate, go_on
from hbcomp.crossval.training_data import load_training_data
from hbcomp.experiment import stored_folds
from hbcomp.experiment.folder import find_run, locked
from hbcomp.experiment.setup import prepare
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.tuning import tune_experiment
from hbcomp.tuning.confirm import CLAIMED, FRESH
from hbcomp.tuning.search_space import read_space
from hbcomp.tuning.storage import join_study, open_storage
from hbcomp.tuning.trial import HOST
from hbcomp.tuning.tune_experiment import TuneOptions

pytest.importorskip("distributed", reason="needs hbcomp[cluster]")

CONFIG = """
[folds]
n_folds = 4
[net]
name = "linear"
[train]
n_epochs = 2
batch_size = 8
lr = 0.02
[compute]
device = "cpu"
n_threads = 1
"""
LOCAL = "local:2"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with files and an experiment of four folds."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    write_into(tmp_path, "mine", "config.toml", CONFIG)
    return tmp_path


@pytest.fixture(scope="module")
def workers():
    """The client of a scheduler and two worker processes."""
    yield cluster.connect(LOCAL)
    cluster.disconnect()


def train(name, *assignments, after_fold=go_on):
    """Train the folds of a run and return their outcome, without report and pages."""
    files = ["data.train=train.csv", "data.test=test.csv"]
    request = prepare("mine", [*files, *assignments], name)
    data = load_training_data(request.config)
    run = request.run
    with locked(run):
        return cross_validate(request.config, data, run, Stopwatch(), after_fold=after_fold)


@pytest.mark.parametrize("features", ["samples", "lines"])
def test_workers_give_the_bytes_of_one_process(folder, workers, features):
    key = f"features.name={features}"
    here = train("here", key)
    there = train("there", key, f"compute.cluster={LOCAL}")
    assert there.predictions.fingerprint == here.predictions.fingerprint
    for path in find_run("here").folds_folder.glob("*/model.safetensors"):
        other = find_run("there").folds_folder / path.parent.name / path.name
        assert other.read_bytes() == path.read_bytes()


def test_the_progress_of_workers_is_shown_here(folder, workers, capsys):
    train("there", f"compute.cluster={LOCAL}")
    shown = capsys.readouterr().err
    assert all(f"seed 0 fold {fold} epoch 2/2" in shown for fold in range(4))


def test_the_fold_of_a_killed_worker_is_trained_by_another_one(folder, workers):
    here = train("here")
    killed = []

    def kill_one(done):
        if not killed:
            killed.append(workers.submit(os.getpid, pure=False).result())
            os.kill(killed[0], signal.SIGKILL)

    there = train("there", f"compute.cluster={LOCAL}", after_fold=kill_one)
    assert killed
    assert there.predictions.fingerprint == here.predictions.fingerprint


@pytest.fixture
def lose(workers, monkeypatch):
    """Lose the scheduler with the tasks of which `is_lost(function, args)`."""

    def lose(is_lost):
        class Lost:
            def __getattr__(self, name):
                return getattr(workers, name)

            def submit(self, function, *args, **kwargs):
                if not is_lost(function, args):
                    return workers.submit(function, *args, **kwargs)
                never = workers.submit(int, pure=False, resources={"that no worker has": 1})
                never.cancel()  # what becomes of tasks when their scheduler is gone
                return never

        monkeypatch.setattr(cluster, "connect", lambda address: Lost())

    return lose


def test_a_lost_scheduler_is_one_line_and_the_run_goes_on_without_it(folder, lose):
    lose(lambda function, args: function is cluster._train_remotely and args[0][0].fold == 2)
    with pytest.raises(InputError, match=r"cluster: local:2 was lost; finished folds are kept"):
        train("there", f"compute.cluster={LOCAL}")
    assert 1 <= train("there", 'compute.cluster=""').n_trained <= 4


@pytest.fixture
def tune(folder, monkeypatch):
    """Search two learning rates and confirm the better one, without a page; return the study.

    The name of the study must be new, because workers here keep it open.
    """
    (folder / "space.toml").write_text('"train.lr" = { low = 0.01, high = 0.02 }')
    monkeypatch.setattr(tune_experiment, "write_page", lambda summary, folder: folder)
    monkeypatch.setattr(tune_experiment, "_importances", lambda study: {})  # takes seconds

    def tune(name, *assignments, n_epoch_checks=0):
        options = TuneOptions(
            n_trials=2, timeout=None, n_jobs=1, url=None, name=name, rule=None, seed=0,
            n_epoch_checks=n_epoch_checks, alpha=0.05, n_folds=1, n_best=1, is_fresh=False,
        )  # fmt: skip
        request = prepare("mine", ["data.train=train.csv", *assignments], None)
        tune_experiment.run(request, read_space(folder / "space.toml"), options)
        return join_study(open_storage(None, request.run), name, 0, n_workers=1)

    return tune


def test_workers_score_the_folds_of_a_search_as_one_process_does(tune, workers):
    key = "features.name=lines"  # which each worker makes for itself
    here, there = tune("here", key), tune("there", key, f"compute.cluster={LOCAL}")
    rows = [
        [(trial.params, trial.user_attrs["rows 0"]) for trial in each.trials]
        for each in (here, there)
    ]
    assert rows[0] == rows[1]
    assert {trial.user_attrs[HOST] for trial in there.trials} == {LOCAL}
    assert len(fresh_rows(here)) == 4 * 4  # base and best, on two seeds of four folds
    assert fresh_rows(here) == fresh_rows(there)


def test_the_trials_of_a_lost_scheduler_are_queued_again(tune, workers, lose):
    lose(lambda function, args: function is cluster._alone)
    with pytest.raises(InputError, match=r"local:2 was lost; finished trials are kept"):
        tune("lost", f"compute.cluster={LOCAL}")
    states = [trial.state.name for trial in tune("lost", 'compute.cluster=""').trials]
    assert states == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]


def test_interim_checks_of_a_cluster_are_refused(tune):
    with pytest.raises(InputError, match=r"between folds only; leave --interim-checks out"):
        tune("there", "compute.cluster=tcp://nobody:1", n_epoch_checks=1)


def fresh_rows(study):
    """Return what is stored of the folds on fresh seeds, apart from who trained them."""
    return {
        key: value
        for key, value in study.user_attrs.items()
        if key.startswith(FRESH) and not key.endswith(CLAIMED)
    }


@pytest.mark.parametrize("n_lost", [cluster.MAX_RETRIES, cluster.MAX_RETRIES + 1])
def test_features_that_are_lost_with_their_worker_are_sent_again(folder, lose, n_lost):
    lost = []

    def is_lost(function, args):
        if function is cluster._train_remotely and args[0][0].fold == 2 and len(lost) < n_lost:
            lost.append(args[1].key)
            return True
        return False

    lose(is_lost)
    key = "features.name=lines"
    if n_lost > cluster.MAX_RETRIES:
        with pytest.raises(InputError, match=r"4 workers were lost with the same fold"):
            train("there", key, f"compute.cluster={LOCAL}")
    else:
        there = train("there", key, f"compute.cluster={LOCAL}")
        assert there.predictions.fingerprint == train("here", key).predictions.fingerprint
    assert len(set(lost)) == n_lost  # each time as a new copy


def test_files_that_are_not_those_of_their_manifest_are_not_stored(folder):
    train("here")
    files = stored_folds.read_files(find_run("here"), 0, 1)
    files["result.npz"] += b"x"
    with pytest.raises(InputError, match=r"result.npz: damaged"):
        stored_folds.write_files(find_run("there"), 0, 1, files)
    assert not list(find_run("there").folds_folder.iterdir())


def test_workers_of_other_versions_are_refused_with_all_differences():
    own = cluster.versions()
    other = {**own, "torch": "2.0", "numpy": "1.0"}
    with pytest.raises(InputError, match=r"b has torch 2.0, here is .*; b has numpy 1.0, here"):
        cluster._check_versions({"a": own, "b": other}, "tcp://x")
    with pytest.raises(InputError, match=r"tcp://x has no workers"):
        cluster._check_versions({}, "tcp://x")


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch):
    monkeypatch.setattr(cluster, "SECONDS_TO_CONNECT", 0.1)
    with pytest.raises(InputError, match=r"no scheduler answers at tcp://127.0.0.1:9"):
        cluster.connect("tcp://127.0.0.1:9")


def test_an_error_of_a_worker_is_that_of_the_run(folder, workers):
    with pytest.raises(InputError, match=r"seed 0 fold \d: .*smaller train.lr"):
        train("there", f"compute.cluster={LOCAL}", "train.lr=1e30")
