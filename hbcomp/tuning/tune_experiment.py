"""The steps of `hbcomp tune` in order: check, search, confirm, write the winner, report."""

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from hbcomp.crossval.cluster import compute_of_worker
from hbcomp.crossval.resources import Slot, slots_for
from hbcomp.crossval.training_data import TrainingData, load_training_data
from hbcomp.data.splits import make_folds
from hbcomp.experiment import ROOT
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import TUNED, RunFolder, find_run, locked
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.setup import Request, write_config
from hbcomp.reporting.pages import print_table
from hbcomp.scoring.metrics import ABS_SUM, describe_metric
from hbcomp.scoring.paired import as_text, is_better
from hbcomp.system.command import Interrupted, console
from hbcomp.system.config import to_toml
from hbcomp.system.environment import machine, n_cores
from hbcomp.system.errors import InputError, check_name
from hbcomp.system.files import write_text
from hbcomp.training.device import Compute, choose_compute
from hbcomp.tuning.cluster import StudyCluster, study_cluster
from hbcomp.tuning.confirm import Confirmed, confirm, folds_of_host, fresh_seeds, to_json
from hbcomp.tuning.search import StudyStorage, retry, search
from hbcomp.tuning.search_space import Space
from hbcomp.tuning.storage import (
    WARM_START,
    n_finished,
    open_storage,
    open_study,
    readable,
    reap,
    usable,
)
from hbcomp.tuning.thresholds import found_thresholds
from hbcomp.tuning.trial import (
    HOST,
    STOPPED,
    UNSCORED,
    StudyContext,
    best_first,
    fixed_rules,
    params_in,
    value_of,
)
from hbcomp.tuning.tuning_page import tables, write_page


@dataclass(frozen=True)
class TuneOptions:
    """The options of a call, apart from the experiment and the space."""

    n_trials: int
    timeout: float | None
    n_jobs: int
    url: str | None
    name: str
    rule: str | None  # None: the metric's own
    seed: int
    n_epoch_checks: int
    alpha: float
    n_folds: int | None
    n_best: int
    is_fresh: bool


def run(request: Request, space: Space, options: TuneOptions) -> dict[str, Any]:
    """Tune an experiment and return the numbers of the last line.

    Everything is checked before the first trial. Finished trials are kept whatever happens.
    """
    start = time.perf_counter()
    if request.config.pseudo.runs:
        raise InputError(
            "a study draws folds that no source of pseudo-labels has nets for; tune without them: "
            "--set 'pseudo.runs=[]'"
        )
    if request.config.train.early_stopping.is_on_scored_fold:
        raise InputError(
            "trials are compared by the folds that they hold out, so no net may watch its own; "
            "tune with --set train.early_stopping.watch=inner"
        )
    if request.config.compute.cluster and options.n_epoch_checks:
        raise InputError(
            "a cluster returns the scores of a fold once it has been trained, so trials are pruned "
            "between folds only; leave --interim-checks out"
        )
    find_run(f"{request.run.name}-tuned")  # the winner's name: a wrong one is refused now
    space.check(request.config)
    training_data = load_training_data(request.config)
    if (options.n_folds or 0) > training_data.n_folds:
        raise InputError(
            f"--folds must be at most {training_data.n_folds}, the number of folds, but got "
            f"{options.n_folds}"
        )
    rules = fixed_rules(training_data.metric)
    context = StudyContext(
        base=request.config,
        fingerprint=training_data.train.fingerprint,
        space=space,
        metric_spec=training_data.metric_spec,
        rule=check_name("--rule", options.rule or next(iter(rules)), rules),
        seed=options.seed,
        n_epoch_checks=options.n_epoch_checks,
        alpha=options.alpha,
        n_folds=options.n_folds,
    )
    _warn_of_min_steps(context, training_data)
    slots = _slots(request.config, options.n_jobs, training_data.n_folds)
    with locked(request.run):
        with readable(options.url, request.run):
            # A storage that cannot be opened leaves nothing behind.
            storage = open_storage(options.url, request.run)
        write_config(request, force=False)
        with usable(options.url, request.run):
            with readable(options.url, request.run):
                study = _open(storage, context, training_data, options, len(slots))
            try:
                confirmed = _work(study, request, context, training_data, options, slots)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"{n_finished(study)} finished trials are kept; the same command continues"
                ) from None
            summary = summarise(study, request, context, training_data, confirmed)
        winner = _winner(confirmed, study, request, context)
        folder = request.run.path / "tuning"
        write_text(folder / "tune.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
        page = write_page(summary, folder)
    best = best_first(
        [trial for trial in study.get_trials(deepcopy=False) if WARM_START not in trial.user_attrs],
        training_data.metric.greater_is_better,
    )
    for table in tables(summary):
        print_table(table, console)
    return {
        "experiment": request.run.name,
        "study": study.study_name,
        "n_trials": n_finished(study),
        "n_pruned": sum(trial["state"] == "pruned" for trial in summary["trials"]),
        "metric": summary["metric"],
        "best_in_search": value_of(best[0]) if best else None,
        "confirmed": summary["confirmed"],
        "winner": winner,
        "seconds": round(time.perf_counter() - start, 1),
        "page": str(page),
    }


def _open(
    storage: RDBStorage,
    context: StudyContext,
    training_data: TrainingData,
    options: TuneOptions,
    n_workers: int,
) -> optuna.Study:
    study = open_study(
        storage,
        options.name,
        context.space,
        _binding(context, training_data),
        options.seed,
        greater_is_better=training_data.metric.greater_is_better,
        n_workers=n_workers,
        is_fresh=options.is_fresh,
        params_in=partial(params_in, context),
    )
    if options.url is None:
        retry(study)  # their processes have exited: we hold the run's lock
    else:
        reap(study)
    own = context.space.base_values(context.base)
    if own is not None:
        # The base is the first trial: the search starts where the user is.
        study.enqueue_trial(own, skip_if_exists=True)
    else:
        outside = ", ".join(context.space.outside(context.base))
        console.print(
            "warning: the experiment itself is not a trial, because its own values of "
            f"{outside} lie outside {context.space.source}"
        )
    return study


def _binding(context: StudyContext, training_data: TrainingData) -> dict[str, str]:
    """Return what must be equal for two trials to be compared."""
    identity = {key: json.dumps(value) for key, value in context.base.identity().items()}
    folds = next(iter(training_data.folds_of_seed.values()))
    return {
        **identity,
        "train data": context.fingerprint,
        "n_folds": f"{context.n_folds or folds.n_folds} of {folds.n_folds}",
        "folds": context.base.folds.model_dump_json(exclude={"seeds"}),
        "metric": describe_metric(context.metric),
        "metric options": context.metric_spec.model_dump_json(
            exclude={"file": True, "config": {"name", "scale_rows"}}, exclude_defaults=True
        ),
        "rule": context.rule,
        "seed": str(context.seed),
        "interim checks": str(context.n_epoch_checks),
    }


def _warn_of_min_steps(context: StudyContext, training_data: TrainingData) -> None:
    """Warn where the epochs of some trials make no difference, as few rows ask for more."""
    entry = context.space.entries.get("train.n_epochs")
    one_epoch = context.base.train.model_copy(update={"n_epochs": 1})
    n_rows = len(training_data.rows_of_net(*training_data.fold_keys[0]).train_idx)
    least = one_epoch.for_rows(n_rows).n_epochs
    if entry and any(n_epochs < least for n_epochs in entry.probes):
        console.print(
            f"warning: train.n_epochs below {least} makes no difference, because train.min_steps "
            f"asks for {one_epoch.min_steps:,} steps; tune that, or --set train.min_steps=0"
        )


def _work(
    study: optuna.Study,
    request: Request,
    context: StudyContext,
    training_data: TrainingData,
    options: TuneOptions,
    slots: Sequence[Slot],
) -> Confirmed | None:
    _announce(request.config.compute.cluster, slots)
    storage = StudyStorage(options.url, request.run, study.study_name, len(slots))
    with _cluster(context, training_data, slots[0].compute) as cluster:
        search(study, context, storage, slots, options.n_trials, options.timeout, cluster)
        if not options.n_best:
            return None
        return confirm(study, context, training_data.n_folds, slots, options.n_best, cluster)


def _slots(config: Config, n_jobs: int, n_folds: int) -> list[Slot]:
    """Return a slot for each trial at once: those requested, or a cluster's workers."""
    bound = config.net.is_compute_bound
    if config.compute.cluster:
        compute, n_workers = compute_of_worker(config.compute, None, is_compute_bound=bound)
        return [Slot(number, compute) for number in range(n_workers)]
    # The threads of `cv`, whatever the number of jobs: a configuration scores the same in both.
    return slots_for(
        choose_compute(config.compute, is_compute_bound=bound, n_folds=n_folds), n_jobs
    )


def _announce(address: str, slots: Sequence[Slot]) -> None:
    n_slots, compute = len(slots), slots[0].compute
    if not address and n_slots * compute.n_threads > n_cores():
        console.print(f"warning: {n_slots} jobs of {compute.threads} share {n_cores()} cores")
    noun, place = ("worker", f" of {address}") if address else ("job", "")
    console.print(
        f"{n_slots} {noun}{'s' * (n_slots > 1)}{place} on {compute.device} in {compute.precision}, "
        f"{compute.threads} each ({compute.reason})"
    )


def _cluster(
    context: StudyContext, training_data: TrainingData, compute: Compute
) -> AbstractContextManager[StudyCluster | None]:
    """Send a study's rows and the folds of all its seeds to the workers of its cluster, if any."""
    if not context.base.compute.cluster:
        return nullcontext()
    folds_of_seed = {
        seed: make_folds(context.base.folds, training_data.train, seed)
        for seed in (context.seed, *fresh_seeds(context.seed))
    }
    return study_cluster(context, training_data, folds_of_seed, compute)


def summarise(
    study: optuna.Study,
    request: Request,
    context: StudyContext,
    training_data: TrainingData,
    confirmed: Confirmed | None,
) -> dict[str, Any]:
    """Return everything about the study as plain values; this is tune.json."""
    folds = next(iter(training_data.folds_of_seed.values()))
    trials = study.get_trials(deepcopy=False)
    own = context.space.base_values(context.base)
    metric = training_data.metric
    best_possible = metric.bounds[metric.greater_is_better]
    return {
        "experiment": request.run.name,
        "study": study.study_name,
        "metric": describe_metric(metric),
        "greater_is_better": metric.greater_is_better,
        "best_possible": best_possible if math.isfinite(best_possible) else None,
        "rule": context.rule,
        "n_rows": int((folds.fold_of_row < (context.n_folds or folds.n_folds)).sum()),
        "n_folds": context.n_folds or folds.n_folds,
        "seed": context.seed,
        "base_trial": next((each.number for each in trials if each.params == own), None),
        "trials": [_trial_numbers(trial) for trial in trials if trial.state.is_finished()],
        "importances": _importances(study),
        "confirmed": to_json(confirmed) if confirmed else None,
        "thresholds": (
            found_thresholds(request.run, Predictions.load(request.run.predictions_file), metric)
            if metric.name == ABS_SUM.name and request.run.predictions_file.exists()
            else None
        ),
        "space": {
            path: entry.model_dump(mode="json", exclude_defaults=True)
            for path, entry in context.space.entries.items()
        },
        "machines": _machines(study, trials),
        "environment": asdict(machine()),
    }


def _machines(study: optuna.Study, trials: Sequence[FrozenTrial]) -> dict[str, dict[str, int]]:
    """Return how many trials and folds on fresh seeds each machine trained."""
    n_trials = Counter(trial.user_attrs[HOST] for trial in trials if HOST in trial.user_attrs)
    n_fresh = folds_of_host(study)
    return {
        host: {"trials": n_trials[host], "folds on fresh seeds": n_fresh[host]}
        for host in sorted({*n_trials, *n_fresh})
    }


def _trial_numbers(trial: FrozenTrial) -> dict[str, Any]:
    reported = trial.intermediate_values
    value = trial.value if trial.value is not None else reported.get(max(reported, default=-1))
    return {
        "number": trial.number,
        "state": "carried" if WARM_START in trial.user_attrs else STATES[trial.state],
        "score": value,
        "n_folds": len(reported),
        "params": trial.params,
        "seconds": trial.duration.total_seconds() if trial.duration else 0.0,
        "stopped": trial.user_attrs.get(STOPPED),
        "unscored": trial.user_attrs.get(UNSCORED),
    }


STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def _importances(study: optuna.Study) -> dict[str, float]:
    """Return each parameter's share of the variation, by fANOVA (Hutter et al. 2014), or nothing.

    Over complete trials only, and only parameters that all of them have.
    """
    values = {trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}
    if len(values) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except RuntimeError:  # "zero total variance": the scores are equal but for rounding
        return {}
    return {path: share for path, share in found.items() if math.isfinite(share)}


def _winner(
    confirmed: Confirmed | None, study: optuna.Study, request: Request, context: StudyContext
) -> str | None:
    """Print the score on the fresh seed; return the name of the new experiment if it is better."""
    if not confirmed:
        console.print(
            "no trial was trained again, so the best score is that of the search and has a "
            "selection bias"
        )
        return None
    difference = confirmed.difference
    noise = "" if difference.is_beyond_noise else " (within noise)"
    console.print(
        f"trial {confirmed.winner.number} on fresh seed {confirmed.seeds[1]}: "
        f"score {as_text(confirmed.winner_fresh)} against {as_text(confirmed.base_fresh)} of "
        f"{request.run.name}, {as_text(difference.value, '+')} ± "
        f"{as_text(difference.standard_error)}{noise}, {describe_metric(context.metric)}, "
        f"rule {context.rule}, {confirmed.n_rows:,} rows, paired"
    )
    if not is_better(difference.value, 0.0, difference.greater_is_better):
        console.print(f"{request.run.name} stays as it is, because no trial is better")
        return None
    return _write_winner(confirmed, study, request, context)


def _write_winner(
    confirmed: Confirmed, study: optuna.Study, request: Request, context: StudyContext
) -> str:
    """Write the winner as an experiment, headed by its origin; return its name."""
    config = context.space.apply(context.base, context.space.values_of(confirmed.winner.params))
    difference = confirmed.difference
    provenance = (
        f"{TUNED} {confirmed.winner.number} of study {study.study_name!r} of {request.run.name}.\n"
        f"# On fresh seed {confirmed.seeds[1]}, rule {context.rule}, {confirmed.n_rows} rows, "
        f"{describe_metric(context.metric)}:\n"
        f"# {as_text(confirmed.winner_fresh)} against {as_text(confirmed.base_fresh)} of "
        f"{request.run.name}, difference {as_text(difference.value, '+')} ± "
        f"{as_text(difference.standard_error)} (paired).\n"
    )
    text = provenance + "\n" + to_toml(config)
    run = _free_folder(request.run.name, text)
    space = run.path / "space.toml"
    if not space.exists():
        write_text(space, Path(context.space.source).read_text(encoding="utf-8"))
    write_text(run.config_file, text)
    console.print(f"the winner is experiment {run.name}")
    return run.name


def _free_folder(base: str, text: str) -> RunFolder:
    """Return `BASE-tuned`, or the first numbered name that is free or has this configuration."""
    names = [f"{base}-tuned", *(f"{base}-tuned-{n}" for n in range(2, 1000))]
    for run in (RunFolder(ROOT / name) for name in names):
        if not run.path.exists() or (
            run.config_file.exists() and run.config_file.read_text(encoding="utf-8") == text
        ):
            return run
    raise InputError(f"there are 999 experiments named {base}-tuned already")
