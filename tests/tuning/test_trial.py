from unittest.mock import Mock

import numpy as np
import optuna
import pytest
import torch

from hbcomp.competitions.competition import metric_of
from hbcomp.competitions.load import load_data
from hbcomp.crossval import fold
from hbcomp.crossval.cluster import LostWorkersError
from hbcomp.crossval.training_data import rows_of_net
from hbcomp.data.dataset import DataConfig
from hbcomp.data.splits import make_folds
from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.experiment.config import Config
from hbcomp.scoring.calibration import log_loss
from hbcomp.scoring.decision import ArgMax, Half, Raw
from hbcomp.scoring.metrics import ABS_SUM, NAMES, MetricConfig, MetricSpec, make_metric
from hbcomp.scoring.paired import RowScores, measure
from hbcomp.scoring.pruning import PruningRule
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.training.device import Compute, ComputeConfig
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import put_on_device
from hbcomp.training.state import Replica
from hbcomp.training.step import DivergedError, Epoch, train_epochs
from hbcomp.tuning import trial as trials
from hbcomp.tuning.search_space import read_space
from hbcomp.tuning.trial import (
    STOPPED,
    UNSCORED,
    WORKER,
    StudyContext,
    best_first,
    fixed_rules,
    fold_scores,
    joined,
    pack,
    rows_key,
    run_trial,
    study_data,
    study_folds,
    unpack,
    value_of,
)

CLASSES = ("0", "1", "2")
COST = MetricSpec(config=MetricConfig(), classes=CLASSES)  # abs-sum a row: 1 for none, 2 if wrong
MACRO_F1 = MetricSpec(config=MetricConfig(name="macro-f1"), classes=CLASSES)
CPU = Compute("cpu", "fp32", 1, "tests")
N_ROWS, N_FOLDS = 60, 3


def config_of(**train):
    return validate(
        Config,
        {
            "net": {"widths": [4], "strides": [2], "hidden": 8},
            "train": {"n_epochs": 1, "batch_size": 16, **train},
            "folds": {"n_folds": N_FOLDS},
        },
        "",
    )


@pytest.fixture(scope="module")
def here():
    train = make_rows(n=N_ROWS, t=16, k=3)
    return train, put_on_device(train.signals, train.known_labels, "cpu")


@pytest.fixture
def context_of(tmp_path, here):
    def make(**changes):
        path = tmp_path / "space.toml"
        path.write_text('"train.lr" = { low = 1e-3, high = 1e-1, log = true }')
        given = {"base": config_of(), "space": read_space(path), "seed": 0}
        given |= {"metric_spec": COST, "rule": "half"}
        return StudyContext(fingerprint=here[0].fingerprint, **given | changes)

    return make


@pytest.fixture
def study_of():
    def make(context):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        direction = "maximize" if context.metric.greater_is_better else "minimize"
        return optuna.create_study(sampler=optuna.samplers.RandomSampler(0), direction=direction)

    return make


@pytest.fixture
def study(study_of, context_of):
    return study_of(context_of())


@pytest.fixture
def scores_of(monkeypatch):
    """Let each row of a trial score what `plan(fold, check)` says instead of training it."""

    def replace(plan):
        def fake(context, config, data, folds, fold, compute, n_checks=1):
            for check in range(1, n_checks + 1):
                values = np.full(len(folds.valid_idx(fold)), plan(fold, check))
                yield RowScores(values, context.metric.greater_is_better)

        monkeypatch.setattr(trials, "fold_scores", fake)

    return replace


def run(study, context, here, worker="w"):
    train, data = here
    folds = study_folds(context.base.folds, train, context.seed)

    def score_fold(config, fold):
        n_checks = 1 + context.n_epoch_checks
        return trials.fold_scores(context, config, data, folds, fold, CPU, n_checks)

    study.optimize(lambda trial: run_trial(trial, context, folds, score_fold, worker), n_trials=1)
    return study.trials[-1]


def rows_of(trial, fold, check=1, n_checks=1):
    """Return the values that a trial stored."""
    return unpack(trial.user_attrs[rows_key(fold, check, n_checks)], False).values


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_packed_rows_come_back_in_single_precision_with_their_direction(greater_is_better):
    for values in (np.zeros(0), 20_000 * (np.arange(20_000) % 3.0), np.array([-0.1, np.pi, 1e-9])):
        back = unpack(pack(RowScores(values, greater_is_better)), greater_is_better)
        assert back.values.dtype == np.float64
        assert np.array_equal(back.values, values.astype(np.float32))
        assert back.greater_is_better is greater_is_better


def test_a_fold_of_twenty_thousand_rows_is_a_few_hundred_bytes_under_a_hard_rule():
    wrong = np.random.default_rng(0).random(20_000) < 0.01
    assert len(pack(RowScores(np.where(wrong, 40_000.0, 0.0), False))) < 1500


@pytest.mark.parametrize("rule", ["half", "argmax"])
def test_the_scores_of_the_heartbeat_competition_are_stored_exactly(rule):
    probs = np.random.default_rng(0).dirichlet(np.ones(4), 500)
    metric = make_metric(MetricConfig(scale_rows=20_000), "0123")
    rows = measure(metric, fixed_rules(metric)[rule].apply(probs), np.arange(500) % 4)
    assert np.array_equal(unpack(pack(rows), False).values, rows.values)


def test_trials_are_scored_under_rules_that_nothing_is_fitted_for():
    assert fixed_rules(ABS_SUM) == {"half": Half(), "argmax": ArgMax()}
    for name in set(NAMES) - {"abs-sum"}:
        config = MetricConfig.model_construct(name=name, scale_rows=1, positive="1", k=2)
        metric = make_metric(config, CLASSES, np.ones((3, 3)))
        rules = fixed_rules(metric)
        assert list(rules) == [metric.rules[0]]
        assert rules == ({"argmax": ArgMax()} if metric.answers == "labels" else {"raw": Raw()})


class NumberedNet(torch.nn.Module):
    def __init__(self, number):
        super().__init__()
        self.number = number


@pytest.mark.parametrize("n_epochs", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("n_checks", [1, 2, 3, 6])
def test_a_fold_is_looked_at_so_many_times_at_even_shares_whatever_its_epochs(
    monkeypatch, here, context_of, n_epochs, n_checks
):
    looked_at = []

    def epochs(recipe, *_):
        for epoch in range(1, recipe.train.n_epochs + 1):
            yield [Epoch(epoch, 0.0, 0.0, 0.0, 0.0, NumberedNet(epoch))]

    def probs(net, signals, _, rows):
        looked_at.append(net.number)
        return np.zeros((len(rows), 3), dtype=np.float32)

    monkeypatch.setattr(fold, "train_epochs", epochs)
    monkeypatch.setattr(fold, "predict_probs", probs)
    folds = make_folds(config_of().folds, here[0], 0)
    seen = []
    config = config_of(n_epochs=n_epochs)
    for rows in fold_scores(context_of(), config, here[1], folds, 1, CPU, n_checks):
        assert np.array_equal(rows.values, np.ones(N_ROWS // N_FOLDS))
        seen.append(looked_at[-1])
    assert seen == [-(-n_epochs * check // n_checks) for check in range(1, n_checks + 1)]
    assert len(looked_at) == len(set(seen)), "no epoch is predicted twice"


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (COST, Half()),
        (MACRO_F1, ArgMax()),
        (MetricSpec(config=MetricConfig(name="macro-roc-auc"), classes=CLASSES), Raw()),
    ],
)
def test_the_last_rows_of_a_fold_are_scored_by_the_finished_net_within_the_fold(
    here, context_of, spec, rule
):
    config = config_of(n_epochs=3, lr=0.02)
    folds = make_folds(config.folds, here[0], 0)
    metric = metric_of(spec)
    context = context_of(metric_spec=spec, rule=metric.rules[0])
    *_, rows = fold_scores(context, config, here[1], folds, 1, CPU, 2)
    train_idx, valid_idx = folds.train_idx(1), folds.valid_idx(1)
    member = Replica(torch.tensor(train_idx), (folds.seed, 1))
    *_, (last,) = train_epochs(config.recipe, here[1], [member], CPU)
    probs = predict_probs(last.net, here[1].signals[torch.tensor(valid_idx)], CPU)
    labels = here[0].known_labels[valid_idx]
    by_hand = metric.contributions(rule.apply(probs), labels)
    assert np.array_equal(rows.values, by_hand.astype(np.float32))
    assert rows.score == pytest.approx(metric.score(rule.apply(probs), labels), abs=1e-6)
    assert rows.greater_is_better is metric.greater_is_better


def test_trials_of_the_same_features_share_them(study, context_of, here, monkeypatch):
    lines = {"name": "lines", "views": [{}], "n_neighbours": 3}
    config = validate(
        Config,
        {
            "net": {"name": "linear"},
            "features": lines,
            "train": {"n_epochs": 1, "batch_size": 16},
            "folds": {"n_folds": N_FOLDS},
        },
        "",
    )
    fitted = Mock(wraps=trials.fit_features)
    monkeypatch.setattr(trials, "fit_features", fitted)
    for _ in range(2):
        run(study, context_of(base=config), here)
    assert fitted.call_count == 1
    assert len(fitted.call_args.args[3]) == N_FOLDS


@pytest.mark.parametrize(("spec", "rule"), [(COST, "half"), (MACRO_F1, "argmax")])
def test_a_trials_value_is_the_mean_of_the_rows_it_stored(study, context_of, here, spec, rule):
    context = context_of(base=config_of(n_epochs=2), metric_spec=spec, rule=rule)
    trial = run(study, context, here, "someone")
    rows = np.concatenate([rows_of(trial, fold) for fold in range(N_FOLDS)])
    assert len(rows) == N_ROWS
    assert trial.value == pytest.approx(rows.mean())
    assert set(trial.intermediate_values) == set(range(N_FOLDS))
    assert trial.intermediate_values[N_FOLDS - 1] == trial.value
    assert trial.user_attrs[WORKER] == "someone"


def test_the_same_parameters_score_the_same_in_another_trial(study, context_of, here):
    context = context_of()
    for _ in range(2):
        study.enqueue_trial({"train.lr": 0.05})
        run(study, context, here)
    first, second = study.trials
    assert {**first.user_attrs} == {**second.user_attrs}
    assert first.value == second.value


def test_epochs_are_stored_beside_the_whole_folds(study, context_of, here, scores_of):
    scores_of(lambda fold, check: float(check))
    trial = run(study, context_of(n_epoch_checks=1), here)
    keys = {key for key in trial.user_attrs if key.startswith("rows")}
    assert keys == {"rows 0", "rows 0 at 1/2", "rows 1", "rows 1 at 1/2"} | {
        *["rows 2", "rows 2 at 1/2"]
    }
    assert keys == {rows_key(fold, check, 2) for fold in range(N_FOLDS) for check in (1, 2)}
    assert set(rows_of(trial, 0, 1, 2)) == {1.0}
    assert set(rows_of(trial, 0)) == {2.0}
    assert trial.value == 2, "the epochs do not count, the finished nets do"


@pytest.mark.parametrize(
    ("spec", "rule", "good", "bad", "gap"),
    [(COST, "half", 0.0, 2.0, 2.0), (MACRO_F1, "argmax", 0.9, 0.1, 1.0)],
)
def test_a_lost_trial_is_stopped_with_its_verdict(
    study_of, context_of, here, scores_of, spec, rule, good, bad, gap
):
    context = context_of(metric_spec=spec, rule=rule)
    study = study_of(context)
    scores_of(lambda fold, check: good)
    run(study, context, here)
    scores_of(lambda fold, check: bad)
    trial = run(study, context, here)
    assert trial.state.name == "PRUNED"
    stopped = trial.user_attrs[STOPPED]
    n_rows = stopped["n_rows"]
    pruning = PruningRule(N_ROWS, N_FOLDS, gap, 0, context.alpha)
    ours, theirs = (
        RowScores(np.full(n_rows, value), context.metric.greater_is_better) for value in (bad, good)
    )
    verdict = pruning.compare(ours, unpack(pack(theirs), theirs.greater_is_better), 1)
    assert stopped == {
        "deficit": pytest.approx(abs(good - bad)),
        "standard_error": verdict.standard_error,
        "boundary": verdict.boundary,
        "incumbent": 0,
        "n_rows": n_rows,
    }
    assert n_rows < N_ROWS
    assert stopped["deficit"] > stopped["boundary"]
    # It is not compared after the last fold: then it is complete, however bad.
    scores_of(lambda fold, check: bad if fold == N_FOLDS - 1 else good)
    assert run(study, context, here).state.name == "COMPLETE"


def test_a_trial_of_some_folds_trains_only_the_first_ones(study, context_of, here, scores_of):
    scores_of(lambda fold, check: float(fold))
    trial = run(study, context_of(n_folds=2), here)
    assert {key for key in trial.user_attrs if key.startswith("rows")} == {"rows 0", "rows 1"}
    assert trial.value == 0.5, "the mean of the rows of two folds"


def test_a_trial_of_one_fold_without_interim_checks_is_never_pruned(
    study, context_of, here, scores_of
):
    for cost in (0.0, 2.0):
        scores_of(lambda fold, check, cost=cost: cost)
        assert run(study, context_of(n_folds=1), here).value == cost


def test_a_look_within_a_fold_compares_with_the_same_epoch_of_the_best(
    study, context_of, here, scores_of
):
    # Bad early and good at the end: so was the best one, and nothing is lost.
    context = context_of(n_epoch_checks=1)
    for _ in range(2):
        scores_of(lambda fold, check: 2.0 if check == 1 else 0.0)
        assert run(study, context, here).value == 0
    compared = []

    class Spy(PruningRule):
        def compare(self, rows, incumbent, n_candidates, n_unfinished=0):
            sums = rows.values.sum(), incumbent.values.sum()
            compared.append((*sums, n_candidates, n_unfinished))
            return super().compare(rows, incumbent, n_candidates, n_unfinished)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "PruningRule", Spy)
        run(study, context, here)
    n = N_ROWS // N_FOLDS
    assert compared == [(2.0 * n, 2.0 * n, 2, n), (0, 0, 2, 0)] * 2 + [(2.0 * n, 2.0 * n, 2, n)]


def test_the_incumbent_is_the_same_for_a_whole_trial(study, context_of, here, scores_of):
    context = context_of()
    scores_of(lambda fold, check: 1.0)
    run(study, context, here)

    def plan(fold, check):
        if fold == 1:  # meanwhile another worker finishes a perfect trial
            perfect = pack(RowScores(np.zeros(N_ROWS // N_FOLDS), False))
            others = {rows_key(each): perfect for each in range(3)}
            study.add_trial(optuna.trial.create_trial(value=0.0, user_attrs=others))
        return 2.0 if fold == 1 else 1.0

    compared = []

    class Spy(PruningRule):
        def compare(self, rows, incumbent, n_candidates, n_unfinished=0):
            compared.append((set(incumbent.values.tolist()), n_candidates))
            return super().compare(rows, incumbent, n_candidates, n_unfinished)

    scores_of(plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "PruningRule", Spy)
        run(study, context, here)
    assert compared == [({1.0}, 1)] * 2


def test_the_selection_bias_of_an_incumbent_counts_pruned_trials_too(
    study, context_of, here, scores_of
):
    context = context_of()
    for cost in (0.0, 2.0):
        scores_of(lambda fold, check, cost=cost: cost)
        run(study, context, here)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    incumbent = trials._incumbent(study, greater_is_better=False)
    assert (incumbent.trial.number, incumbent.n_candidates) == (0, 2)


@pytest.mark.parametrize(("greater_is_better", "numbers"), [(False, [2, 3, 1]), (True, [1, 2, 3])])
def test_the_best_is_the_earlier_one_of_equals_and_never_a_stopped_one(greater_is_better, numbers):
    def trial_of(value, state):
        return optuna.trial.create_trial(value=value, state=state)

    complete, pruned = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
    made = [trial_of(9.0, pruned), *(trial_of(value, complete) for value in (12.0, 10.0, 10.0))]
    study = optuna.create_study()
    study.add_trials(made)
    ordered = best_first(study.trials, greater_is_better)
    assert [trial.number for trial in ordered] == numbers
    assert value_of(ordered[0]) == (12.0 if greater_is_better else 10.0)
    assert best_first(study.trials[:1], greater_is_better) == []


def test_rows_of_several_folds_are_joined_with_their_direction():
    folds = [RowScores(np.array(values), True) for values in ([1.0], [2.0, 3.0])]
    assert joined(folds).values.tolist() == [1.0, 2.0, 3.0]
    assert joined(folds).greater_is_better


def test_a_configuration_that_diverges_is_pruned_with_its_reason(study, context_of, here, tmp_path):
    path = tmp_path / "far.toml"
    path.write_text('"train.lr" = { low = 1e29, high = 1e30 }')
    trial = run(study, context_of(base=config_of(), space=read_space(path)), here)
    assert trial.state.name == "PRUNED"
    assert trial.user_attrs[UNSCORED].startswith("epoch 1: the loss must be finite, but is ")
    assert trial.intermediate_values == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory"), "out of memory"),
        (LostWorkersError(), "its workers were lost, probably for lack of memory"),
    ],
)
def test_a_configuration_that_does_not_fit_in_memory_is_pruned_and_the_search_goes_on(
    study, context_of, here, monkeypatch, error, reason
):
    def fake(*_):
        raise error
        yield

    monkeypatch.setattr(trials, "fold_scores", fake)
    trial = run(study, context_of(), here)
    assert (trial.state.name, trial.user_attrs[UNSCORED]) == ("PRUNED", reason)


def test_a_trial_that_diverges_in_a_later_fold_keeps_the_folds_before(
    study, context_of, here, monkeypatch
):
    def fake(context, config, data, folds, fold, *_):
        if fold == 1:
            raise DivergedError("epoch 7: the loss must be finite, but is inf")
        yield RowScores(np.zeros(len(folds.valid_idx(fold))), False)

    monkeypatch.setattr(trials, "fold_scores", fake)
    trial = run(study, context_of(), here)
    assert trial.state.name == "PRUNED"
    assert trial.intermediate_values == {0: 0.0}
    assert trial.user_attrs[UNSCORED] == "epoch 7: the loss must be finite, but is inf"


def test_the_beats_of_a_study_are_read_once_and_refused_when_the_file_changed(tmp_path):
    path = tmp_path / "train.csv"
    write_competition_csv(path, make_rows(n=N_ROWS, t=16, k=3))
    data = DataConfig(train=path)
    fingerprint = load_data(data)[0].fingerprint
    arguments = (data, ComputeConfig(), fingerprint, "cpu")
    assert study_data(*arguments) is study_data(*arguments)
    study_data.cache_clear()
    write_competition_csv(path, make_rows(n=N_ROWS, t=16, k=3, seed=1))
    with pytest.raises(InputError) as error:
        study_data(*arguments)
    assert str(error.value) == f"{path}: the file changed while the study was running"
    study_data.cache_clear()


def test_a_trial_that_stops_early_has_all_of_its_checks_and_those_of_its_best_net(here, context_of):
    config = config_of(n_epochs=8, lr=0.05, early_stopping={"patience": 1})
    folds = make_folds(config.folds, here[0], 0)
    seen = list(fold_scores(context_of(), config, here[1], folds, 1, CPU, 4))
    assert len(seen) == 4
    rows = rows_of_net(config.train.early_stopping, folds, here[0].known_labels, 0, 1)
    best, worse = None, 0
    replica = Replica(torch.tensor(rows.train_idx), (0, 1))
    for (epoch,) in train_epochs(config.recipe, here[1], [replica], CPU):
        probs = predict_probs(epoch.net, here[1].signals[rows.watched_idx], CPU)
        loss = log_loss(probs.astype(np.float64), here[0].known_labels[rows.watched_idx])
        held_out = predict_probs(epoch.net, here[1].signals[folds.valid_idx(1)], CPU)
        if best is None or loss < best[0]:
            best, worse = (loss, held_out), 0
        else:
            worse += 1
        if worse == 1:
            break
    labels = here[0].known_labels[folds.valid_idx(1)]
    last = measure(metric_of(COST), Half().apply(best[1]), labels)
    assert np.array_equal(seen[-1].values, last.values)
