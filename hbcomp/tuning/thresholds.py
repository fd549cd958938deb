"""An Optuna study of the two clipping thresholds, measured against their exact optimum."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import Progress

from hbcomp.competitions.competition import metric_of
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import read_report
from hbcomp.reporting import pages
from hbcomp.reporting.figures import runs as pictures
from hbcomp.scoring.choice import cross_fitted_scores
from hbcomp.scoring.decision import Clip
from hbcomp.scoring.metrics import ABS_SUM, Metric
from hbcomp.scoring.paired import as_text
from hbcomp.scoring.row_metrics import RowMetric
from hbcomp.scoring.thresholds import fit_clip
from hbcomp.system.command import Interrupted
from hbcomp.system.errors import InputError
from hbcomp.tuning.storage import open_storage, readable, storage_file, usable


def tune_thresholds(run: RunFolder, n_trials: int, seed: int, console: Console) -> dict[str, Any]:
    """Bring the run's threshold study to `n_trials` trials and compare it with the exact optimum.

    Returns both rules, their in-sample scores and the regret, and the exact rule's cross-fitted
    score, which has no selection bias. The study is bound to the predictions it scored: its name
    contains their fingerprint and the seed, so a changed run or another seed gets a new study.
    Thresholds clip the answers of abs-sum only; a run of another metric is refused.
    """
    predictions, metric = Predictions.load(run.predictions_file), _abs_sum_of(run)
    probs, labels = predictions.oof_probs, predictions.labels
    with locked(run), usable(None, run):
        with readable(None, run):
            study = _open_study(run, f"thresholds-{predictions.fingerprint}-{seed}", seed)
            n_before = _n_complete(study)
        try:
            _optimize(study, n_trials - n_before, _objective(metric, probs, labels), console)
        except KeyboardInterrupt:
            message = f"{_n_complete(study)} trials are kept; the same command continues"
            raise Interrupted(message) from None
        with readable(None, run):
            tuned, found = clip_of(study.best_params), study.best_value
    exact, exact_score, cross_fitted = _exact_thresholds(metric, predictions)
    points = {"Optuna": (tuned.lo, tuned.hi), "exact": (exact.lo, exact.hi), "0.1/0.9": (0.1, 0.9)}
    figure = pictures.threshold_landscape(probs, labels, points, metric.scale)
    picture = pages.Picture("threshold-study", figure, "The study's best pair and the exact one.")
    pages.write_pictures(run.path / "pictures", [picture])
    numbers = {
        "experiment": run.name,
        "n_rows": len(labels),
        "n_trials": max(n_before, n_trials),
        "n_new_trials": max(0, n_trials - n_before),
        "optuna": {"lo": tuned.lo, "hi": tuned.hi, "in_sample": found},
        "exact": {"lo": exact.lo, "hi": exact.hi, "in_sample": exact_score},
        "regret": found - exact_score,
        "exact_cross_fitted": cross_fitted,
        "study": str(storage_file(run)),
        "picture": str(run.path / "pictures/threshold-study.png"),
    }
    _print(numbers, console)
    console.print(_use(run))
    return numbers


def _abs_sum_of(run: RunFolder) -> RowMetric:
    """Return the metric of a run, which must be abs-sum."""
    metric = metric_of(read_report(run.report_file).metric)
    if not isinstance(metric, RowMetric) or metric.name != ABS_SUM.name:
        raise InputError(
            f"{run.name}: thresholds clip answers for abs-sum, but its metric is {metric.name}, "
            f"whose rules are {', '.join(metric.rules)}"
        )
    return metric


def found_thresholds(
    run: RunFolder, predictions: Predictions, metric: Metric
) -> dict[str, Any] | None:
    """Return the best of the run's threshold studies of these predictions beside the exact optimum.

    None where no study of these predictions has a trial.
    """
    if not storage_file(run).exists():
        return None
    with readable(None, run):
        storage = open_storage(None, run, has_heartbeat=False)
        studies = [
            optuna.load_study(study_name=name, storage=storage)
            for name in optuna.get_all_study_names(storage)
            if name.startswith(f"thresholds-{predictions.fingerprint}-")
        ]
        scored = [(study.best_value, _n_complete(study)) for study in studies if _n_complete(study)]
    if not scored:
        return None
    best, n_trials = min(scored)
    _, exact, cross_fitted = _exact_thresholds(metric, predictions)
    return {
        "n_trials": n_trials,
        "optuna": best,
        "exact": exact,
        "regret": best - exact,
        "exact_cross_fitted": cross_fitted,
    }


def _exact_thresholds(metric: Metric, predictions: Predictions) -> tuple[Clip, float, float]:
    """Return the optimal rule with its in-sample and its cross-fitted score."""
    probs, labels = predictions.oof_probs, predictions.labels
    rule = fit_clip(probs, labels)
    rows = cross_fitted_scores("tuned", metric, probs, labels, predictions.fold_of_row)
    return rule, metric.score(rule.apply(probs), labels), rows.score


def clip_of(params: dict[str, float]) -> Clip:
    """Return the rule of a trial's parameters.

    The study's space is a square, the threshold and how far the band around it opens, because
    TPE models a fixed space; every pair lo <= hi in [0, 1] is a point of it.
    """
    threshold, opening = params["threshold"], params["opening"]
    return Clip(lo=threshold * (1 - opening), hi=threshold + (1 - threshold) * opening)


def _n_complete(study: optuna.Study) -> int:
    return len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))


def _objective(
    metric: Metric, probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> Callable[[optuna.Trial], float]:
    def objective(trial: optuna.Trial) -> float:
        params = {name: trial.suggest_float(name, 0.0, 1.0) for name in ("threshold", "opening")}
        return metric.score(clip_of(params).apply(probs), labels)

    return objective


def _open_study(run: RunFolder, name: str, seed: int) -> optuna.Study:
    storage = open_storage(None, run, has_heartbeat=False)
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True)
    # A continued study must not draw its first trials again, so the seed moves with the trials.
    study.sampler = optuna.samplers.TPESampler(
        seed=seed + len(study.trials), multivariate=True, constant_liar=False
    )
    return study


def _optimize(
    study: optuna.Study,
    n_trials: int,
    objective: Callable[[optuna.Trial], float],
    console: Console,
) -> None:
    if n_trials <= 0:
        return
    if not study.trials:
        # The study starts with the reference solution's rule and with the theoretical optimum.
        study.enqueue_trial({"threshold": 0.5, "opening": 0.8})
        study.enqueue_trial({"threshold": 0.5, "opening": 0.0})
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("trials", total=n_trials)
        study.optimize(
            objective,
            n_trials=n_trials,
            callbacks=[lambda _study, _trial: progress.advance(task)],
        )


def _print(numbers: dict[str, Any], console: Console) -> None:
    for name in ("optuna", "exact"):
        rule = numbers[name]
        console.print(
            f"{name:>6}: lo {rule['lo']:.4f} hi {rule['hi']:.4f}  "
            f"score {as_text(rule['in_sample'])} in-sample"
        )
    console.print(
        f"regret of {numbers['n_trials']} trials: {as_text(numbers['regret'])}; "
        f"the exact optimum cross-fitted: {as_text(numbers['exact_cross_fitted'])} "
        f"({numbers['n_rows']:,} out-of-fold rows)"
    )


def _use(run: RunFolder) -> str:
    """Return that the study changes no submission, and the command that would."""
    if run.recipe_file.exists():
        how = "blend the base models again with --rule tuned"
    elif run.config_file.exists():
        how = f"hbcomp cv {run.name} --set decision.rule=tuned"
    else:
        how = "import it again with --set decision.rule=tuned"
    return (
        f"The study is stored in {storage_file(run)} and changes no submission. To use the "
        f"exact thresholds in one: {how}"
    )
