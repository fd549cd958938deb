"""The exact clipping thresholds against an Optuna study, on calibrated probabilities."""

import time
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float64, Int64

from bench.timing import Spread, ratio, spread_cells
from hbcomp.reporting.pages import Table
from hbcomp.scoring.metrics import ABS_SUM
from hbcomp.scoring.thresholds import fit_clip
from hbcomp.tuning.thresholds import clip_of

N_ROWS = 20_000  # those of the competition's test file
N_TRIALS = (25, 100)
N_ROUNDS = 3
CONCENTRATION = 0.05  # of the Dirichlet; assumed: most rows are nearly sure, as a good net's are


def measure() -> dict[str, Any]:
    """Return seconds of both, and the regret of the study per 20,000 rows, over new data sets."""
    rounds = [compare(*calibrated(N_ROWS, 4, seed), N_TRIALS, seed) for seed in range(N_ROUNDS)]
    exact = [each["exact"]["seconds"] for each in rounds]
    numbers: dict[str, Any] = {"n_rows": N_ROWS, "exact": {"seconds": Spread.of(exact).to_json()}}
    for n_trials in N_TRIALS:
        key = f"optuna {n_trials} trials"
        seconds = [each[key]["seconds"] for each in rounds]
        numbers[key] = {
            "seconds": Spread.of(seconds).to_json(),
            "regret_per_20k": Spread.of([each[key]["regret"] for each in rounds]).to_json(),
            "times_the_exact": ratio(seconds, exact).to_json(),
        }
    return numbers


def calibrated(
    n: int, k: int, seed: int
) -> tuple[Float64[np.ndarray, "n k"], Int64[np.ndarray, " n"]]:
    """Return probabilities and labels drawn from them."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([CONCENTRATION] * k, n)
    labels = (rng.random((n, 1)) > probs.cumsum(axis=1)).sum(axis=1)
    return probs, labels.clip(0, k - 1).astype(np.int64)


def compare(
    probs: Float64[np.ndarray, "n k"],
    labels: Int64[np.ndarray, " n"],
    n_trials: tuple[int, ...],
    seed: int,
) -> dict[str, dict[str, float]]:
    """Return seconds and regret of the exact optimum and of one study after each of `n_trials`.

    The study is the one of `hbcomp thresholds` without the two trials that it begins with.
    """
    start = time.perf_counter()
    rule = fit_clip(probs, labels)
    found = {"exact": {"seconds": time.perf_counter() - start, "regret": 0.0}}
    best = ABS_SUM.score(rule.apply(probs), labels) * N_ROWS

    def objective(trial: optuna.Trial) -> float:
        params = {name: trial.suggest_float(name, 0.0, 1.0) for name in ("threshold", "opening")}
        return ABS_SUM.score(clip_of(params).apply(probs), labels) * N_ROWS

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=False)
    study = optuna.create_study(sampler=sampler)
    start = time.perf_counter()
    for n in n_trials:
        study.optimize(objective, n_trials=n - len(study.trials))
        seconds = time.perf_counter() - start
        found[f"optuna {n} trials"] = {"seconds": seconds, "regret": study.best_value - best}
    return found


def tables(numbers: dict[str, Any]) -> list[Table]:
    """Return the numbers for people."""
    none = {"median": None, "low": None, "high": None}
    rows = [
        [
            name,
            *spread_cells(found["seconds"]),
            *spread_cells(found.get("regret_per_20k", none)),
        ]
        for name, found in numbers.items()
        if name != "n_rows"
    ]
    header = ["thresholds", "seconds", "low", "high", "regret per 20k", "low", "high"]
    return [Table(f"deciding on {numbers['n_rows']:,} rows", header, rows)]
