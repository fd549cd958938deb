"""Which pruner spends a fixed budget of fold trainings best? Simulated searches, real pruners.

    python experiments/pruners.py           # or with the numbers of searches and of newcomers

4,000 rows, 5 folds of equal cost; all pruners see the same trials. Trials are drawn at random, so
what is compared is the stopping alone. Each answer is right or costs 2; a row is answered wrongly
where difficulty + configuration + net + noise exceeds the trial's threshold. A newcomer races
against the best of one or twenty equals. The last line is one JSON object.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist

import numpy as np
import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.trial import TrialState, create_trial

from hbcomp.scoring.paired import RowScores
from hbcomp.scoring.pruning import PruningRule, check_constant

N_ROWS, N_FOLDS = 4000, 5
FOLD_ROWS = N_ROWS // N_FOLDS
WRONG = 2.0  # what a wrong row costs, so the largest gap that there is
SCALE_ROWS = 20_000  # the heartbeat leaderboard shows the costs of so many rows
BUDGET = 100  # fold trainings of a search: 20 whole trials
N_SEARCHES, N_NEWCOMERS = 16, 100  # about three minutes on one core
# Measured on quickstart, 27 nets: 3.6 % wrong, and two nets of one configuration and fold differ
# on 1.7 % of the rows. With these spreads (difficulty has 1) the simulated ones do so too.
ERROR_RATE = 0.0365
NOISE = 0.17
NET_SPREAD = 0.028  # a fold's overdispersion becomes 1.5, measured 1.2: what our rule allows for
CONFIG_SPREAD = 0.15  # rows on which configurations differ for good; assumed
TOTAL_SPREAD = (1 + NOISE**2 + NET_SPREAD**2 + CONFIG_SPREAD**2) ** 0.5


@dataclass(frozen=True)
class Trial:
    """The costs of all rows in the order of the folds, and what a row costs in truth."""

    costs: np.ndarray
    true_cost: float


def draw_trial(
    rng: np.random.Generator, difficulty: np.ndarray, rate: float, of_config: np.ndarray
) -> Trial:
    threshold = -TOTAL_SPREAD * NormalDist().inv_cdf(rate)
    nets = np.repeat(NET_SPREAD * rng.standard_normal(N_FOLDS), FOLD_ROWS)
    noise = NOISE * rng.standard_normal(N_ROWS)
    is_wrong = difficulty + of_config + nets + noise > threshold
    return Trial(WRONG * is_wrong, WRONG * rate)


def draw_config(rng: np.random.Generator) -> np.ndarray:
    return CONFIG_SPREAD * rng.standard_normal(N_ROWS)


def draw_rate(rng: np.random.Generator) -> float:
    """Return an error rate: six in ten about 12 % off a good one, the others 15 % worse and more.

    Assumed, after the usual picture of a random search over learning rates and widths.
    """
    if rng.random() < 0.6:
        return ERROR_RATE * float(np.exp(0.12 * rng.standard_normal() + 0.1))
    return min(0.75, ERROR_RATE * float(np.exp(0.15 + rng.exponential(0.7))))


def of_rows(costs: np.ndarray) -> RowScores:
    return RowScores(costs, greater_is_better=False)


class RacingPruner(BasePruner):
    """Our rule behind Optuna's interface; rows are steps. `counts_luck` off: an ablation."""

    def __init__(self, *, alpha: float = 0.05, counts_luck: bool = True) -> None:
        self.race = PruningRule(N_ROWS, N_FOLDS, WRONG, alpha=alpha)
        self.counts_luck = counts_luck

    def prune(self, study, trial) -> bool:
        n_candidates = len(study.get_trials(deepcopy=False))
        if not n_candidates:
            return False
        costs, best = (
            np.array(list(each.intermediate_values.values())) for each in (trial, study.best_trial)
        )
        n_candidates = n_candidates if self.counts_luck else 1
        rows, incumbent = of_rows(costs), of_rows(best[: len(costs)])
        return self.race.compare(rows, incumbent, n_candidates).is_behind


def rows_as_steps(costs: np.ndarray) -> dict[int, float]:
    return dict(enumerate(costs.tolist()))


def folds_as_steps(costs: np.ndarray) -> dict[int, float]:
    return rows_as_steps(costs.reshape(-1, FOLD_ROWS).mean(axis=1))


def running_means(costs: np.ndarray) -> dict[int, float]:
    folds = costs.reshape(-1, FOLD_ROWS).mean(axis=1)
    return rows_as_steps(folds.cumsum() / np.arange(1, len(folds) + 1))


# What is reported follows each pruner's documentation: single values for Wilcoxon's test, an
# estimate of the final value for the median. Its p for repeated looks is Pocock's.
POCOCK_P = 1 - NormalDist().cdf(check_constant(N_FOLDS, 0, 0.05))
Report = Callable[[np.ndarray], dict[int, float]]
WAYS: dict[str, tuple[Callable[[], BasePruner], Report]] = {
    "none": (NopPruner, folds_as_steps),
    "racing": (RacingPruner, rows_as_steps),
    "racing, alpha 0.2": (partial(RacingPruner, alpha=0.2), rows_as_steps),
    "racing, alpha 0.4": (partial(RacingPruner, alpha=0.4), rows_as_steps),
    "racing, luck not counted": (partial(RacingPruner, counts_luck=False), rows_as_steps),
    "Wilcoxon, rows": (WilcoxonPruner, rows_as_steps),
    "Wilcoxon, rows, Pocock's p": (partial(WilcoxonPruner, p_threshold=POCOCK_P), rows_as_steps),
    "Wilcoxon, folds": (WilcoxonPruner, folds_as_steps),
    "median": (MedianPruner, running_means),
}


def run_trial(study: optuna.Study, trial: Trial, report: Report) -> int:
    """Give the study a trial fold by fold; return the folds trained until it ended.

    Optuna's pruner decides on a running trial made at once: 4,000 calls of `report` for each
    would copy as many values every time.
    """
    for n_folds in range(1, N_FOLDS):
        values = report(trial.costs[: n_folds * FOLD_ROWS])
        running = create_trial(state=TrialState.RUNNING, intermediate_values=values)
        if study.pruner.prune(study, running):
            study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values=values))
            return n_folds
    study.add_trial(create_trial(value=trial.costs.mean(), intermediate_values=report(trial.costs)))
    return N_FOLDS


@dataclass
class Tally:
    """What a way did in all searches; one number for each search."""

    n_trials: list[int] = field(default_factory=list)
    picked: list[float] = field(default_factory=list)
    good_pruned: list[float] = field(default_factory=list)
    better_pruned: list[float] = field(default_factory=list)
    seconds: float = 0.0


def search(name: str, trials: list[Trial], tally: Tally) -> None:
    """Spend the budget on the trials in their order."""
    make, report = WAYS[name]
    study = optuna.create_study(pruner=make())
    start, spent, ended = time.perf_counter(), 0, []
    median = float(np.median([trial.true_cost for trial in trials]))
    best, n_better = None, [0, 0]
    for trial in trials:
        if spent + N_FOLDS > BUDGET:
            break
        n_folds = run_trial(study, trial, report)
        spent += n_folds
        is_pruned = n_folds < N_FOLDS
        if best is not None and trial.true_cost < best.true_cost:
            n_better[0] += is_pruned
            n_better[1] += 1
        if not is_pruned and (best is None or trial.costs.mean() < best.costs.mean()):
            best = trial
        ended.append((trial, is_pruned))
    tally.seconds += time.perf_counter() - start
    tally.n_trials.append(len(ended))
    tally.picked.append(best.true_cost * SCALE_ROWS)
    tally.good_pruned.append(np.mean([p for trial, p in ended if trial.true_cost <= median]))
    tally.better_pruned.append(n_better[0] / max(1, n_better[1]))


def draw_race(
    rng: np.random.Generator, n_candidates: int, times: float, is_equal: bool
) -> tuple[list[Trial], Trial]:
    """Return trials of one configuration, the best last, and one `times` as bad to race it."""
    difficulty, config = rng.standard_normal(N_ROWS), draw_config(rng)
    old = [draw_trial(rng, difficulty, ERROR_RATE, config) for _ in range(n_candidates)]
    of_newcomer = config if is_equal else draw_config(rng)
    newcomer = draw_trial(rng, difficulty, times * ERROR_RATE, of_newcomer)
    return sorted(old, key=lambda trial: -trial.costs.mean()), newcomer


def share_of_equals_pruned(name: str, n_candidates: int, n_newcomers: int) -> float:
    """Return how often the best of some trials of one configuration stops one more of them."""
    rng = np.random.default_rng(n_candidates)
    make, report = WAYS[name]
    n_pruned = 0
    for _ in range(n_newcomers):
        old, newcomer = draw_race(rng, n_candidates, 1.0, is_equal=True)
        study = optuna.create_study(pruner=make())
        for trial in old:
            values = report(trial.costs)
            study.add_trial(create_trial(value=trial.costs.mean(), intermediate_values=values))
        n_pruned += run_trial(study, newcomer, report) < N_FOLDS
    return n_pruned / n_newcomers


def stopped_after(times: float, n_candidates: int, n_newcomers: int) -> list[float]:
    """Return the share of newcomers that our rule has stopped after 1, 2, ... folds.

    Newcomers `times` as bad are of another configuration, unless they are as good.
    """
    rng = np.random.default_rng(n_candidates)
    race = PruningRule(N_ROWS, N_FOLDS, WRONG)
    counts = np.zeros(N_FOLDS - 1)
    for _ in range(n_newcomers):
        old, newcomer = draw_race(rng, n_candidates, times, is_equal=times == 1.0)
        is_lost = [
            race.compare(
                of_rows(newcomer.costs[:n]), of_rows(old[-1].costs[:n]), n_candidates
            ).is_behind
            for n in range(FOLD_ROWS, N_ROWS, FOLD_ROWS)
        ]
        counts += np.maximum.accumulate(is_lost)
    return [round(float(share), 3) for share in counts / n_newcomers]


def realised_noise(rng: np.random.Generator) -> dict[str, float]:
    """Return the errors, disagreements and overdispersion of simulated trials of one kind."""
    difficulty, config = rng.standard_normal(N_ROWS), draw_config(rng)
    costs = np.array(
        [draw_trial(rng, difficulty, ERROR_RATE, config).costs for _ in range(200)]
    ).reshape(200, N_FOLDS, FOLD_ROWS)
    sums = costs.sum(axis=2).var(axis=0, ddof=1).sum()
    return {
        "wrong": round(float((costs > 0).mean()), 4),
        "differ": round(float((costs[::2] != costs[1::2]).mean()), 4),
        "overdispersion": round(float(sums / costs.var(axis=0, ddof=1).sum()), 2),
    }


def mean_and_error(values: list[float]) -> tuple[float, float]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), spread / len(values) ** 0.5


def summary(tally: Tally, none: Tally) -> dict[str, object]:
    gaps = [here - there for here, there in zip(tally.picked, none.picked, strict=True)]
    return {
        "trials": round(float(np.mean(tally.n_trials)), 1),
        "times": round(sum(tally.n_trials) / sum(none.n_trials), 2),
        "pick": [round(each, 1) for each in mean_and_error(tally.picked)],
        "pick_minus_none": [round(each, 1) for each in mean_and_error(gaps)],
        "good_half_pruned": round(float(np.mean(tally.good_pruned)), 3),
        "better_pruned": round(float(np.mean(tally.better_pruned)), 3),
        "ms_per_trial": round(1000 * tally.seconds / sum(tally.n_trials), 1),
    }


def main(n_searches: int, n_newcomers: int) -> None:
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tallies = {name: Tally() for name in WAYS}
    for seed in range(n_searches):
        rng = np.random.default_rng(seed)
        difficulty = rng.standard_normal(N_ROWS)
        trials = [
            draw_trial(rng, difficulty, draw_rate(rng), draw_config(rng)) for _ in range(BUDGET)
        ]
        for name, tally in tallies.items():
            search(name, trials, tally)
    rows = {}
    for name, tally in tallies.items():
        rows[name] = summary(tally, tallies["none"])
        for n_candidates in (1, 20):
            share = share_of_equals_pruned(name, n_candidates, n_newcomers)
            rows[name][f"equals_pruned_by_best_of_{n_candidates}"] = share
        print(f"{name:28}", *(f"{key} {value}" for key, value in rows[name].items()), sep="  ")
    stopped = {
        f"{times} times, best of {m}": stopped_after(times, m, 2 * n_newcomers)
        for times in (1.0, 1.1, 1.2, 1.5, 2.0)
        for m in (1, 20)
    }
    for name, shares in stopped.items():
        print(f"racing, stopped after folds 1 to 4, newcomer {name}: {shares}")
    counts = {"n_searches": n_searches, "n_newcomers": n_newcomers}
    noise = realised_noise(np.random.default_rng(0))
    print(json.dumps({**counts, **noise, "ways": rows, "stopped_after": stopped}))


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]] or [N_SEARCHES, N_NEWCOMERS]
    main(*numbers)
