import numpy as np
import optuna
import pytest
import torch

from hbcomp.competitions.load import load_data
from hbcomp.crossval import fold
from hbcomp.data.dataset import DataConfig
from hbcomp.data.splits import make_folds
from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.experiment.config import Config
from hbcomp.scoring.metrics import row_costs
from hbcomp.scoring.pruning import PruningRule
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.training.device import Compute
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import put_on_device
from hbcomp.training.state import Replica
from hbcomp.training.step import DivergedError, Epoch, train_epochs
from hbcomp.tuning import trial as trials
from hbcomp.tuning.search_space import read_space
from hbcomp.tuning.trial import (
    RULES,
    STOPPED,
    UNSCORED,
    WORKER,
    StudyContext,
    best_complete,
    costs_key,
    fold_costs,
    pack,
    run_trial,
    stored_costs,
    study_data,
    unpack,
)

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
        given = {"base": config_of(), "space": read_space(path), "rule": "half", "seed": 0}
        return StudyContext(fingerprint=here[0].fingerprint, **given | changes)

    return make


@pytest.fixture
def study():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(0))


@pytest.fixture
def costs_of(monkeypatch):
    """Let each trial cost what `plan(fold, check)` says instead of training it."""

    def replace(plan):
        def fake(config, beats, folds, fold, rule, compute, n_checks=1):
            for check in range(1, n_checks + 1):
                yield np.full(len(folds.valid_idx(fold)), plan(fold, check))

        monkeypatch.setattr(trials, "fold_costs", fake)

    return replace


def run(study, context, here, worker="w"):
    study.optimize(lambda trial: run_trial(trial, context, here, CPU, worker), n_trials=1)
    return study.trials[-1]


def test_packed_costs_come_back_with_every_bit():
    for costs in (np.zeros(0), np.array([0.0, 1.0, 2.0, 255.0]), np.arange(20_000) % 3.0):
        back = unpack(pack(costs))
        assert back.dtype == np.float64
        assert np.array_equal(back, costs)


def test_the_costs_of_a_fold_of_twenty_thousand_rows_are_a_few_hundred_bytes():
    costs = np.where(np.random.default_rng(0).random(20_000) < 0.01, 2.0, 0.0)
    assert len(pack(costs)) < 1000


@pytest.mark.parametrize("cost", [0.5, -1.0, 256.0, np.nan])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_costs_that_are_not_small_whole_numbers_are_not_packed(cost):
    with pytest.raises(AssertionError, match="a fixed hard rule costs whole numbers"):
        pack(np.array([0.0, cost]))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_of_a_study_costs_small_whole_numbers(rule):
    probs = np.random.default_rng(0).dirichlet(np.ones(4), 500)
    costs = row_costs(RULES[rule].apply(probs), np.arange(500) % 4)
    assert np.array_equal(unpack(pack(costs)), costs)


class NumberedNet(torch.nn.Module):
    def __init__(self, number):
        super().__init__()
        self.number = number


@pytest.mark.parametrize("n_epochs", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("n_checks", [1, 2, 3, 6])
def test_a_fold_is_looked_at_so_many_times_at_even_shares_whatever_its_epochs(
    monkeypatch, here, n_epochs, n_checks
):
    looked_at = []

    def epochs(recipe, *_):
        for epoch in range(1, recipe.train.n_epochs + 1):
            yield [Epoch(epoch, 0.0, 0.0, 0.0, 0.0, NumberedNet(epoch))]

    def probs(net, signals, _):
        looked_at.append(net.number)
        return np.zeros((len(signals), 3), dtype=np.float32)

    monkeypatch.setattr(fold, "train_epochs", epochs)
    monkeypatch.setattr(fold, "predict_probs", probs)
    folds = make_folds(config_of().folds, here[0], 0)
    seen = []
    config = config_of(n_epochs=n_epochs)
    for costs in fold_costs(config, here[1], folds, 1, RULES["half"], CPU, n_checks):
        assert np.array_equal(costs, np.ones(N_ROWS // N_FOLDS))
        seen.append(looked_at[-1])
    assert seen == [-(-n_epochs * check // n_checks) for check in range(1, n_checks + 1)]
    assert len(looked_at) == len(set(seen)), "no epoch is predicted twice"


def test_the_last_costs_of_a_fold_are_those_of_the_finished_net(here):
    config = config_of(n_epochs=3, lr=0.02)
    folds = make_folds(config.folds, here[0], 0)
    *_, costs = fold_costs(config, here[1], folds, 1, RULES["half"], CPU, 2)
    train_idx, valid_idx = folds.train_idx(1), folds.valid_idx(1)
    member = Replica(torch.tensor(train_idx), (folds.seed, 1))
    *_, (last,) = train_epochs(config.recipe, here[1], [member], CPU)
    probs = predict_probs(last.net, here[1].signals[torch.tensor(valid_idx)], CPU)
    labels = here[0].known_labels[valid_idx]
    assert np.array_equal(costs, np.abs((probs > 0.5) - np.eye(3)[labels]).sum(axis=1))


def test_a_trials_value_is_the_sum_per_20k_of_the_costs_it_stored(study, context_of, here):
    trial = run(study, context_of(base=config_of(n_epochs=2)), here, "someone")
    costs = np.concatenate([stored_costs(trial, fold) for fold in range(N_FOLDS)])
    assert len(costs) == N_ROWS
    assert trial.value == pytest.approx(costs.sum() / N_ROWS * 20_000)
    assert set(trial.intermediate_values) == set(range(N_FOLDS))
    assert trial.intermediate_values[N_FOLDS - 1] == trial.value
    assert trial.user_attrs[WORKER] == "someone"


def test_the_same_parameters_cost_the_same_in_another_trial(study, context_of, here):
    context = context_of()
    for _ in range(2):
        study.enqueue_trial({"train.lr": 0.05})
        run(study, context, here)
    first, second = study.trials
    assert {**first.user_attrs} == {**second.user_attrs}
    assert first.value == second.value


def test_epochs_are_stored_beside_the_whole_folds(study, context_of, here, costs_of):
    costs_of(lambda fold, check: float(check))
    trial = run(study, context_of(n_epoch_checks=1), here)
    keys = {key for key in trial.user_attrs if key.startswith("costs")}
    assert keys == {"costs 0", "costs 0 at 1/2", "costs 1", "costs 1 at 1/2"} | {
        *["costs 2", "costs 2 at 1/2"]
    }
    assert keys == {costs_key(fold, check, 2) for fold in range(N_FOLDS) for check in (1, 2)}
    assert set(stored_costs(trial, 0, 1, 2)) == {1.0}
    assert set(stored_costs(trial, 0)) == {2.0}
    assert trial.value == 40_000, "the epochs do not count, the finished nets do"


def test_a_lost_trial_is_stopped_with_its_verdict(study, context_of, here, costs_of):
    context = context_of()
    costs_of(lambda fold, check: 0.0)
    run(study, context, here)
    costs_of(lambda fold, check: 2.0)
    trial = run(study, context, here)
    assert trial.state.name == "PRUNED"
    stopped = trial.user_attrs[STOPPED]
    n_rows = stopped["n_rows"]
    rule = PruningRule(N_ROWS, N_FOLDS, 0, context.alpha)
    verdict = rule.compare(np.full(n_rows, 2.0), np.zeros(n_rows), 1)
    assert stopped == {
        "per_20k": 40_000.0,
        "standard_error": verdict.standard_error,
        "boundary": verdict.boundary,
        "incumbent": 0,
        "n_rows": n_rows,
    }
    assert n_rows < N_ROWS
    assert stopped["per_20k"] > stopped["boundary"]
    # It is not compared after the last fold: then it is complete, however bad.
    costs_of(lambda fold, check: 2.0 * (fold == N_FOLDS - 1))
    assert run(study, context, here).state.name == "COMPLETE"


def test_a_trial_of_some_folds_trains_only_the_first_ones(study, context_of, here, costs_of):
    costs_of(lambda fold, check: float(fold))
    trial = run(study, context_of(n_folds=2), here)
    assert {key for key in trial.user_attrs if key.startswith("costs")} == {"costs 0", "costs 1"}
    assert trial.value == 10_000, "the mean of the rows of two folds"


def test_a_trial_of_one_fold_without_interim_checks_is_never_pruned(
    study, context_of, here, costs_of
):
    for cost in (0.0, 2.0):
        costs_of(lambda fold, check, cost=cost: cost)
        assert run(study, context_of(n_folds=1), here).value == cost * 20_000


def test_a_look_within_a_fold_compares_with_the_same_epoch_of_the_best(
    study, context_of, here, costs_of
):
    # Bad early and good at the end: so was the best one, and nothing is lost.
    context = context_of(n_epoch_checks=1)
    for _ in range(2):
        costs_of(lambda fold, check: 2.0 if check == 1 else 0.0)
        assert run(study, context, here).value == 0
    compared = []

    class Spy(PruningRule):
        def compare(self, costs, incumbent_costs, n_candidates, n_unfinished=0):
            compared.append((costs.sum(), incumbent_costs.sum(), n_candidates, n_unfinished))
            return super().compare(costs, incumbent_costs, n_candidates, n_unfinished)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "PruningRule", Spy)
        run(study, context, here)
    n = N_ROWS // N_FOLDS
    assert compared == [(2.0 * n, 2.0 * n, 2, n), (0, 0, 2, 0)] * 2 + [(2.0 * n, 2.0 * n, 2, n)]


def test_the_incumbent_is_the_same_for_a_whole_trial(study, context_of, here, costs_of):
    context = context_of()
    costs_of(lambda fold, check: 1.0)
    run(study, context, here)

    def plan(fold, check):
        if fold == 1:  # meanwhile another worker finishes a perfect trial
            others = {costs_key(each): pack(np.zeros(N_ROWS // N_FOLDS)) for each in range(3)}
            study.add_trial(optuna.trial.create_trial(value=0.0, user_attrs=others))
        return 2.0 if fold == 1 else 1.0

    compared = []

    class Spy(PruningRule):
        def compare(self, costs, incumbent_costs, n_candidates, n_unfinished=0):
            compared.append((set(incumbent_costs.tolist()), n_candidates))
            return super().compare(costs, incumbent_costs, n_candidates, n_unfinished)

    costs_of(plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "PruningRule", Spy)
        study.optimize(lambda trial: run_trial(trial, context, here, CPU, "w"), n_trials=1)
    assert compared == [({1.0}, 1)] * 2


def test_the_selection_bias_of_an_incumbent_counts_pruned_trials_too(
    study, context_of, here, costs_of
):
    context = context_of()
    for cost in (0.0, 2.0):
        costs_of(lambda fold, check, cost=cost: cost)
        run(study, context, here)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    incumbent = trials._incumbent(study)
    assert (incumbent.trial.number, incumbent.n_candidates) == (0, 2)


def test_the_incumbent_is_the_earlier_one_of_equals_and_never_a_stopped_one():
    def trial_of(value, state):
        return optuna.trial.create_trial(value=value, state=state)

    complete, pruned = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
    made = [trial_of(9.0, pruned), *(trial_of(value, complete) for value in (12.0, 10.0, 10.0))]
    study = optuna.create_study()
    study.add_trials(made)
    assert best_complete(study.trials).number == 2
    assert best_complete(study.trials[:1]) is None


def test_a_configuration_that_diverges_is_pruned_with_its_reason(study, context_of, here):
    spoilt = put_on_device(here[0].signals, here[0].known_labels, "cpu")
    spoilt.signals.fill_(float("inf"))
    trial = run(study, context_of(), (here[0], spoilt))
    assert trial.state.name == "PRUNED"
    assert trial.user_attrs[UNSCORED].startswith("epoch 1: the loss must be finite, but is nan;")
    assert trial.intermediate_values == {}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_a_configuration_that_does_not_fit_in_memory_is_pruned_and_the_search_goes_on(
    study, context_of, here, monkeypatch, error
):
    def fake(*_):
        raise error
        yield

    monkeypatch.setattr(trials, "fold_costs", fake)
    trial = run(study, context_of(), here)
    assert (trial.state.name, trial.user_attrs[UNSCORED]) == ("PRUNED", "out of memory")


def test_a_trial_that_diverges_in_a_later_fold_keeps_the_folds_before(
    study, context_of, here, monkeypatch
):
    def fake(config, beats, folds, fold, *_):
        if fold == 1:
            raise DivergedError("epoch 7: the loss must be finite, but is inf")
        yield np.zeros(len(folds.valid_idx(fold)))

    monkeypatch.setattr(trials, "fold_costs", fake)
    trial = run(study, context_of(), here)
    assert trial.state.name == "PRUNED"
    assert trial.intermediate_values == {0: 0.0}
    assert trial.user_attrs[UNSCORED] == "epoch 7: the loss must be finite, but is inf"


def test_the_beats_of_a_study_are_read_once_and_refused_when_the_file_changed(tmp_path):
    path = tmp_path / "train.csv"
    write_competition_csv(path, make_rows(n=N_ROWS, t=16, k=3))
    data = DataConfig(train=path)
    fingerprint = load_data(data)[0].fingerprint
    assert study_data(data, fingerprint, "cpu") is study_data(data, fingerprint, "cpu")
    study_data.cache_clear()
    write_competition_csv(path, make_rows(n=N_ROWS, t=16, k=3, seed=1))
    with pytest.raises(InputError) as error:
        study_data(data, fingerprint, "cpu")
    assert str(error.value) == f"{path}: the file changed while the study was running"
    study_data.cache_clear()
