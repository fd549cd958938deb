import socket
import time
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution

from hbcomp.crossval.resources import Slot
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.scoring.metrics import MetricConfig, MetricSpec
from hbcomp.scoring.paired import RowScores, paired_difference
from hbcomp.system.workers import Done
from hbcomp.training.device import Compute
from hbcomp.tuning import confirm as confirming
from hbcomp.tuning.confirm import BASE, MEASURE, PICK, best_trials, confirm, to_json
from hbcomp.tuning.search_space import read_space
from hbcomp.tuning.storage import open_storage, open_study
from hbcomp.tuning.trial import StudyContext, pack

LR = FloatDistribution(1e-3, 1e-1)
BASE_LR = Config().train.lr
N_FOLDS, ROWS_OF_FOLD = 2, 100
SLOTS = [Slot(0, Compute("cpu", "fp32", 1, "tests"))]
ABS_SUM = MetricSpec(config=MetricConfig(scale_rows=20_000), classes=("0", "1"))
ACCURACY = MetricSpec(config=MetricConfig(name="accuracy"), classes=("0", "1"))


@pytest.fixture
def context(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text('"train.lr" = { low = 1e-3, high = 1e-1 }')
    return StudyContext(Config(), "", read_space(path), ABS_SUM, "half", seed=7)


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return open_storage(None, RunFolder(tmp_path_factory.mktemp("studies")))


@pytest.fixture
def study_of(storage, context):
    """Return a study of complete trials with these learning rates and values."""

    def make(*pairs, greater_is_better=False):
        study = open_study(
            storage, "s", context.space, {}, 0, is_fresh=True, greater_is_better=greater_is_better
        )
        for lr, value in pairs:
            params, distributions = {"train.lr": lr}, {"train.lr": LR}
            study.add_trial(
                optuna.trial.create_trial(value=value, params=params, distributions=distributions)
            )
        return study

    return make


@pytest.fixture
def trained(monkeypatch):
    """Let each fold have as many wrong rows as `n_wrong[name]` says; return what was trained."""
    names = []

    def with_costs(n_wrong):
        def work(job, _):
            names.append((job.name, job.seed, job.fold))
            is_wrong = np.arange(ROWS_OF_FOLD) < n_wrong[job.name, job.seed]
            if job.context.metric.greater_is_better:
                return pack(RowScores(1.0 - is_wrong, True))
            return pack(RowScores(40_000.0 * is_wrong, False))

        monkeypatch.setattr(confirming, "work", work)
        return names

    return with_costs


def test_the_best_trials_are_different_complete_ones_without_the_base(study_of):
    study = study_of(
        (BASE_LR, 1.0), (0.02, 5.0), (0.03, 3.0), (0.02, 4.0), (0.03, 3.0), (0.05, 9.0)
    )
    pruned = optuna.trial.create_trial(
        state=optuna.trial.TrialState.PRUNED,
        params={"train.lr": 0.07},
        distributions={"train.lr": LR},
    )
    study.add_trial(pruned)
    base = {"train.lr": BASE_LR}
    assert [trial.number for trial in best_trials(study, 9, base, False)] == [2, 3, 5]
    assert [trial.number for trial in best_trials(study, 2, base, False)] == [2, 3]
    assert [trial.number for trial in best_trials(study, 9, base, True)] == [5, 1, 2]
    outside = best_trials(study, 1, None, False)
    assert [trial.number for trial in outside] == [0], "the base lies outside"
    assert best_trials(study, 0, base, False) == []


def test_without_a_trial_beside_the_base_there_is_nothing_to_confirm(study_of, context, trained):
    names = trained({})
    assert confirm(study_of((BASE_LR, 1.0)), context, N_FOLDS, SLOTS, 3) is None
    assert names == []


def test_the_pick_is_made_on_one_fresh_seed_and_measured_on_another(study_of, context, trained):
    pick, measure = 7 + PICK, 7 + MEASURE
    study = study_of((BASE_LR, 40.0), (0.02, 10.0), (0.03, 20.0), (0.04, 30.0))
    n_wrong = {
        # The best of the search is not the best of the fresh seed, and the third was not asked.
        (BASE, pick): 6,
        ("trial 1", pick): 5,
        ("trial 2", pick): 3,
        (BASE, measure): 8,
        ("trial 2", measure): 4,
    }
    names = trained(n_wrong)
    found = confirm(study, context, N_FOLDS, SLOTS, 2)
    assert sorted(names) == sorted(
        (name, seed, fold) for name, seed in n_wrong for fold in range(N_FOLDS)
    )
    # One wrong row of 100 costs 2, so per 20,000 rows 400.
    assert to_json(found) == {
        "seeds": [pick, measure],
        "n_rows": N_FOLDS * ROWS_OF_FOLD,
        "base": {"search": 40.0, "fresh": 2400.0},
        "candidates": [
            {"trial": 1, "search": 10.0, "fresh": 2000.0},
            {"trial": 2, "search": 20.0, "fresh": 1200.0},
        ],
        "winner": {
            "trial": 2,
            "fresh": 1600.0,
            "base": 3200.0,
            "difference": -1600.0,
            "standard_error": pytest.approx(standard_error(4, 8)),
        },
    }


def standard_error(n_ours, n_theirs):
    """Return that of the mean gap: of 100 rows a fold, the first ones are wrong."""
    rows = np.tile(np.arange(ROWS_OF_FOLD), N_FOLDS)
    ours, theirs = (RowScores(40_000.0 * (rows < n), False) for n in (n_ours, n_theirs))
    gaps = ours.values - theirs.values
    found = paired_difference(ours, theirs).standard_error
    assert found == pytest.approx(gaps.std(ddof=1) / len(gaps) ** 0.5)
    return found


def test_where_greater_is_better_the_pick_is_the_greatest_score(study_of, context, trained):
    pick, measure = 7 + PICK, 7 + MEASURE
    study = study_of((BASE_LR, 0.8), (0.02, 0.9), (0.03, 0.95), (0.04, 0.7), greater_is_better=True)
    n_wrong = {
        (BASE, pick): 6,
        ("trial 1", pick): 3,
        ("trial 2", pick): 5,
        (BASE, measure): 8,
        ("trial 1", measure): 4,
    }
    names = trained(n_wrong)
    context = replace(context, metric_spec=ACCURACY, rule="argmax")
    found = to_json(confirm(study, context, N_FOLDS, SLOTS, 2))
    assert {(name, seed) for name, seed, _ in names} == set(n_wrong)
    assert [each["trial"] for each in found["candidates"]] == [2, 1]
    assert found["winner"]["trial"] == 1
    assert [each["fresh"] for each in found["candidates"]] == pytest.approx([0.95, 0.97])
    assert found["winner"]["difference"] == pytest.approx(0.04)


def test_a_base_that_was_no_trial_has_no_search_score(study_of, context, trained):
    trained({(BASE, 7 + PICK): 1, (BASE, 7 + MEASURE): 1} | dict.fromkeys(
        [("trial 0", 7 + PICK), ("trial 0", 7 + MEASURE)], 2
    ))  # fmt: skip
    found = to_json(confirm(study_of((0.02, 10.0)), context, N_FOLDS, SLOTS, 1))
    assert found["base"] == {"search": None, "fresh": 400.0}
    assert found["winner"]["difference"] == 400.0, "a winner that loses is told as it is"


class AnyCost(dict):
    def __missing__(self, _):
        return 1


def test_stored_folds_are_not_trained_again(study_of, context, trained, monkeypatch):
    study = study_of((0.02, 10.0), (0.03, 20.0))
    names = trained(AnyCost())
    real, n_before = confirming.work, 3

    def dying(job, slot):
        if len(names) == n_before:
            raise KeyboardInterrupt
        return real(job, slot)

    monkeypatch.setattr(confirming, "work", dying)
    with pytest.raises(KeyboardInterrupt):
        confirm(study, context, N_FOLDS, SLOTS, 2)
    monkeypatch.setattr(confirming, "work", real)
    found = confirm(study, context, N_FOLDS, SLOTS, 2)
    # Three configurations on the first seed and two on the second, each fold once.
    assert len(names) == len(set(names)) == (3 + 2) * N_FOLDS
    assert to_json(confirm(study, context, N_FOLDS, SLOTS, 2)) == to_json(found)
    assert len(names) == (3 + 2) * N_FOLDS


def test_one_more_candidate_trains_only_its_own_folds(study_of, context, trained):
    study = study_of((0.02, 10.0), (0.03, 20.0))
    names = trained(AnyCost())
    confirm(study, context, N_FOLDS, SLOTS, 1)
    n_before = len(names)
    confirm(study, context, N_FOLDS, SLOTS, 2)
    assert {name for name, _, _ in names[n_before:]} == {"trial 1"}


def test_a_fold_whose_worker_was_killed_is_trained_again(study_of, context, trained, monkeypatch):
    names, n_deaths = trained(AnyCost()), iter([True, True])
    real = confirming.worker_pool

    def mortal(slots, work):
        workers = real(slots, work)
        worker_pool = workers.__enter__()

        def done(jobs):
            for each in type(worker_pool).done(worker_pool, jobs):
                has_died = next(n_deaths, False)
                yield Done(each.job, exit="SIGKILL(-9)") if has_died else each

        class Mortal:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

        Mortal.done = staticmethod(done)
        return Mortal()

    monkeypatch.setattr(confirming, "worker_pool", mortal)
    found = confirm(study_of((0.02, 10.0)), context, N_FOLDS, SLOTS, 1)
    assert found.n_rows == N_FOLDS * ROWS_OF_FOLD
    assert len(names) == 4 * N_FOLDS + 2
    assert len(set(names)) == 4 * N_FOLDS


def test_each_fold_that_ends_is_told_with_what_is_left(study_of, context, trained, capsys):
    trained(AnyCost())
    confirm(study_of((0.02, 10.0)), context, N_FOLDS, SLOTS, 1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "base on fresh seed 1007 fold 0: score 400.0, 3 folds left"
    assert lines[-1] == "trial 0 on fresh seed 1008 fold 1: score 400.0, 0 folds left"


FIRST = f"fresh {BASE} seed {7 + PICK} fold 0"


def claim(study, key, **claim):
    owner = {"host": "other", "pid": 1, "at": time.time()} | claim
    study.set_user_attr(f"{key} claimed", owner)


def test_a_fold_that_another_machine_trains_is_waited_for_and_not_trained(
    study_of, context, trained, monkeypatch, capsys
):
    study, names = study_of((0.02, 10.0)), trained(AnyCost())
    claim(study, FIRST)
    theirs = pack(RowScores(np.zeros(ROWS_OF_FOLD), False))
    monkeypatch.setattr(confirming.time, "sleep", lambda _: study.set_user_attr(FIRST, theirs))
    assert confirm(study, context, N_FOLDS, SLOTS, 1).n_rows == N_FOLDS * ROWS_OF_FOLD
    assert (BASE, 7 + PICK, 0) not in names
    assert len(names) == 4 * N_FOLDS - 1
    assert "waiting for 1 fold that is trained on other" in capsys.readouterr().err


@pytest.mark.parametrize(
    "gone",
    [
        {"at": time.time() - 2 * confirming.CLAIM_SECONDS},
        {"host": socket.gethostname(), "pid": 2**22 + 1},  # above Linux's largest
    ],
    ids=["too-long-ago", "process-ended"],
)
def test_what_a_process_that_is_gone_has_claimed_is_trained(study_of, context, trained, gone):
    study, names = study_of((0.02, 10.0)), trained(AnyCost())
    claim(study, FIRST, **gone)
    confirm(study, context, N_FOLDS, SLOTS, 1)
    assert names[0] == (BASE, 7 + PICK, 0)
