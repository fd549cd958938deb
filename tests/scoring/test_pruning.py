import numpy as np
import pytest

from hbcomp.scoring.metrics import ABS_SUM, ACCURACY, LOG_LOSS
from hbcomp.scoring.paired import RowScores
from hbcomp.scoring.pruning import (
    EPOCH_OVERDISPERSION,
    OVERDISPERSION,
    PruningRule,
    check_constant,
    expected_maximum,
    largest_gap,
)

N_FOLDS = 5
WRONG = 2.0  # what a wrong hard answer costs
N_STUDIES = 500
# Two standard errors of the simulation for a share of 5 %, which makes 7 %. With 3,000 studies
# the shares were 1.0 to 4.3 %, and 0.4 to 2.0 % with checks at epochs.
AT_MOST = 0.05 + 2 * (0.05 * 0.95 / N_STUDIES) ** 0.5


def compare(rule, costs, incumbent, n_candidates, n_unfinished=0):
    trial, other = (RowScores(np.asarray(each, float), False) for each in (costs, incumbent))
    return rule.compare(trial, other, n_candidates, n_unfinished)


class Equals:
    """Trials of one configuration; only rows on which they may differ are drawn.

    Each of these rows is wrong with a chance of its own, moved for a whole net (the answers of
    one fold) so that the variance of a fold's sum is `overdispersion` times that of its rows, at
    an epoch EPOCH_OVERDISPERSION times. A share `kept` of the rows has its final cost at an epoch
    already. The rows that all answer alike are left out: they change neither the gaps nor the
    part of the rows that is answered.
    """

    def __init__(self, n_rows_of_fold, overdispersion, kept=0.0):
        self.n_rows = N_FOLDS * n_rows_of_fold
        self.kept = kept
        self.log_odds = np.log(1 / ((np.arange(n_rows_of_fold) + 0.5) / n_rows_of_fold) - 1)
        # Chances p spread evenly over (0, 1) have a mean p(1 - p) of 1/6. A shift of the log-odds
        # by d moves the sum by d * v, v = sum of p(1 - p), so v becomes v + v**2 * var(d).
        self.shift, self.epoch_shift = (
            ((factor - 1) / (n_rows_of_fold / 6)) ** 0.5
            for factor in (overdispersion, EPOCH_OVERDISPERSION)
        )

    def draw(self, rng, n_trials, n_epoch_checks):
        """Return costs by trial, fold, check (the last is the end of the fold) and row."""
        shape = (n_trials, N_FOLDS, n_epoch_checks + 1)
        scales = np.array([self.epoch_shift] * n_epoch_checks + [self.shift])[:, None]
        shifts = scales * rng.standard_normal((*shape, 1))
        chances = 1 / (1 + np.exp(self.log_odds + shifts))
        costs = 2.0 * (rng.random(chances.shape) < chances)
        return np.where(rng.random(costs.shape) < self.kept, costs[:, :, -1:], costs)


def is_stopped(rule, trial, incumbent, n_candidates):
    for fold in range(N_FOLDS):
        for check in range(rule.n_epoch_checks + (fold < N_FOLDS - 1)):
            costs, others = (
                np.concatenate([*each[:fold, -1], each[fold, check]]) for each in (trial, incumbent)
            )
            n_unfinished = trial.shape[2] * (check < rule.n_epoch_checks)
            if compare(rule, costs, others, n_candidates, n_unfinished).is_behind:
                return True
    return False


def share_stopped(equals, n_candidates, n_epoch_checks=0):
    """Return the share of newcomers stopped by the best of as many trials of their kind."""
    rng = np.random.default_rng(1)
    rule = PruningRule(equals.n_rows, N_FOLDS, WRONG, n_epoch_checks)
    n_stopped = 0
    for _ in range(N_STUDIES):
        costs = equals.draw(rng, n_candidates + 1, n_epoch_checks)
        best = costs[:-1, :, -1].sum(axis=(1, 2)).argmin()
        n_stopped += is_stopped(rule, costs[-1], costs[best], n_candidates)
    return n_stopped / N_STUDIES


@pytest.mark.parametrize(
    ("n_rows_of_fold", "overdispersion"), [(20, 1.0), (20, OVERDISPERSION), (120, OVERDISPERSION)]
)
@pytest.mark.parametrize("n_candidates", [1, 20])
def test_at_most_5_percent_of_equals_are_stopped(n_rows_of_fold, overdispersion, n_candidates):
    assert share_stopped(Equals(n_rows_of_fold, overdispersion), n_candidates) < AT_MOST


@pytest.mark.parametrize("kept", [0.0, 0.8])
@pytest.mark.parametrize("n_candidates", [1, 20])
def test_at_most_5_percent_of_equals_are_stopped_with_checks_at_epochs(kept, n_candidates):
    equals = Equals(40, OVERDISPERSION, kept)
    assert share_stopped(equals, n_candidates, n_epoch_checks=1) < AT_MOST


def test_the_incumbents_selection_bias_would_stop_too_many_if_it_were_not_counted():
    equals, rule = Equals(40, OVERDISPERSION), PruningRule(200, N_FOLDS, WRONG)
    rng = np.random.default_rng(2)
    n_stopped = 0
    for _ in range(300):
        costs = equals.draw(rng, 21, 0)
        best = costs[:-1].sum(axis=(1, 2, 3)).argmin()
        n_stopped += is_stopped(rule, costs[-1], costs[best], n_candidates=1)
    assert n_stopped / 300 > 0.15


def random_costs(rng, n_rows=400, chance=0.1):
    return rng.choice([0.0, 1.0, 2.0], n_rows, p=[1 - chance, chance / 5, 4 * chance / 5])


def test_a_trial_that_costs_no_more_is_never_stopped():
    rng = np.random.default_rng(3)
    rule = PruningRule(2000, N_FOLDS, WRONG)
    for _ in range(200):
        cheap, dear = sorted((random_costs(rng), random_costs(rng)), key=np.sum)
        assert not compare(rule, cheap, dear, 1).is_behind
        assert not compare(rule, dear, dear, 1).is_behind


def test_a_trial_twice_as_bad_is_stopped_at_the_first_check():
    rows = np.random.default_rng(4).permutation(800)
    incumbent, trial = np.zeros(800), np.zeros(800)
    incumbent[rows[:52]] = 2.0  # 6.5 % wrong
    trial[rows[10:114]] = 2.0  # twice as many, not the same though
    assert compare(PruningRule(4000, N_FOLDS, WRONG), trial, incumbent, 20).is_behind


@pytest.mark.parametrize("n_unfinished", [0, 20])
@pytest.mark.parametrize("chance", [0.02, 0.2, 0.6])
def test_a_row_more_wrong_never_saves_a_lost_trial(chance, n_unfinished):
    rng = np.random.default_rng(5)
    rule = PruningRule(1000, N_FOLDS, WRONG)
    trial, incumbent = random_costs(rng, 200, chance), random_costs(rng, 200, chance)
    was_behind = False
    for row in rng.permutation(200):
        for cost in np.arange(trial[row], 2.25, 0.25):
            trial[row] = cost
            is_behind = compare(rule, trial, incumbent, 5, n_unfinished).is_behind
            assert is_behind or not was_behind
            was_behind = is_behind
    assert was_behind


def test_the_order_of_rows_is_without_influence():
    rng = np.random.default_rng(6)
    trial, incumbent = random_costs(rng), random_costs(rng)
    order = rng.permutation(len(trial))
    assert compare(PruningRule(400, 2, WRONG), trial, incumbent, 3) == compare(
        PruningRule(400, 2, WRONG), trial[order], incumbent[order], 3
    )


def test_the_verdict_is_the_gap_its_error_and_the_boundary_per_row():
    incumbent = np.zeros(1000)
    trial = np.where(np.arange(1000) < 100, 2.0, 0.0)
    verdict = compare(PruningRule(4000, 3, WRONG, overdispersion=1.0), trial, incumbent, 1)
    assert verdict.deficit == pytest.approx(200 / 1000)
    assert verdict.standard_error == pytest.approx((100 * 4) ** 0.5 / 1000)
    assert verdict.boundary == pytest.approx(1.875 * verdict.standard_error, rel=0.005)


def test_a_fold_still_in_training_must_be_worse_by_more():
    rng = np.random.default_rng(8)
    trial, incumbent = random_costs(rng), random_costs(rng)
    rule = PruningRule(2000, N_FOLDS, WRONG, n_epoch_checks=1)
    boundaries = [compare(rule, trial, incumbent, 5, n).boundary for n in (0, 100, 400)]
    assert boundaries == sorted(boundaries)
    assert boundaries[-1] == pytest.approx(
        boundaries[0] * (EPOCH_OVERDISPERSION / OVERDISPERSION) ** 0.5
    )


def test_few_rows_alone_prune_no_trial():
    trial = np.where(np.arange(800) < 4, 2.0, 0.0)
    assert not compare(PruningRule(4000, N_FOLDS, WRONG), trial, np.zeros(800), 1).is_behind


# One-sided 5 %. The same as two-sided 10 %: Pocock (1977); Jennison and Turnbull, Group
# Sequential Methods (2000), table 2.1.
@pytest.mark.parametrize(
    ("n_checks", "constant"), [(1, 1.645), (2, 1.875), (3, 1.992), (4, 2.067), (5, 2.122)]
)
def test_without_epochs_the_constant_is_pococks(n_checks, constant):
    assert check_constant(n_checks + 1, 0, 0.05) == pytest.approx(constant, abs=0.01)


def test_more_checks_and_a_smaller_alpha_ask_for_more():
    constants = [check_constant(5, n, 0.05) for n in (0, 1, 2)]
    assert constants == sorted(constants)
    assert check_constant(5, 0, 0.01) > constants[0]


@pytest.mark.parametrize("n_draws", [1, 2, 5, 20, 100])
def test_the_expected_maximum_is_that_of_simulated_normals(n_draws):
    drawn = np.random.default_rng(7).standard_normal((20_000, n_draws)).max(axis=1)
    assert expected_maximum(n_draws) == pytest.approx(drawn.mean(), abs=0.04)


def test_a_pruning_rule_without_checks_is_refused():
    with pytest.raises(ValueError, match="two folds or a check at an epoch, but got neither"):
        PruningRule(100, 1, WRONG)


@pytest.mark.parametrize(
    "wrong",
    [{"alpha": 0.5}, {"alpha": 0.0}, {"overdispersion": 0.9}, {"epoch_overdispersion": 1.2}],
)
def test_a_chance_of_one_half_or_less_noise_than_rows_have_is_refused(wrong):
    with pytest.raises(ValueError, match=r"0 < alpha < 0.5 and 1 <= overdispersion <= epoch_over"):
        PruningRule(100, 5, WRONG, **wrong)


@pytest.mark.parametrize(("n_compared", "n_unfinished"), [(0, 0), (101, 0), (50, 51), (50, -1)])
def test_impossible_numbers_of_rows_are_refused(n_compared, n_unfinished):
    costs = np.zeros(n_compared)
    said = rf"1 to 100 rows .* unfinished, but got {n_compared} and {n_unfinished}$"
    with pytest.raises(ValueError, match=said):
        compare(PruningRule(100, 5, WRONG), costs, costs, 1, n_unfinished)


def test_a_score_to_be_maximised_is_behind_where_it_is_smaller():
    hits = np.ones(800)
    misses = np.where(np.arange(800) < 200, 0.0, 1.0)
    rule = PruningRule(4000, N_FOLDS, 1.0)
    trial, incumbent = RowScores(misses, True), RowScores(hits, True)
    assert rule.compare(trial, incumbent, 1).is_behind
    assert not rule.compare(incumbent, trial, 1).is_behind


@pytest.mark.parametrize(("metric", "gap"), [(ABS_SUM, 2.0), (ACCURACY, 1.0), (LOG_LOSS, 0.0)])
def test_the_largest_gap_is_the_range_of_the_score_where_it_has_one(metric, gap):
    assert largest_gap(metric) == gap
