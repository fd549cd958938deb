"""The tuning job in order: check, search, confirm, write the winner, report."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from hbcomp.crossval.resources import Slot, slots_for
from hbcomp.crossval.training_data import Material, load_material
from hbcomp.experiment import ROOT
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import TUNED, RunFolder, find_run, locked
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.setup import Asked, state_config
from hbcomp.reporting.pages import print_table
from hbcomp.system.command import Interrupted, console
from hbcomp.system.config import to_toml
from hbcomp.system.environment import machine, n_cores
from hbcomp.system.errors import InputError, check_name
from hbcomp.system.files import write_text
from hbcomp.training.device import choose_compute
from hbcomp.tuning.confirm import Confirmed, confirm, to_json
from hbcomp.tuning.search import Place, retry, search
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
from hbcomp.tuning.trial import RULES, STOPPED, UNSCORED, Ground, params_in
from hbcomp.tuning.tuning_page import tables, write_page


@dataclass(frozen=True)
class Wish:
    """What a call asks for beside the experiment and the space."""

    n_trials: int
    timeout: float | None
    n_jobs: int
    url: str | None
    name: str
    rule: str
    seed: int
    n_epoch_looks: int
    alpha: float
    n_folds: int | None
    n_best: int
    is_fresh: bool


def run(asked: Asked, space: Space, wish: Wish) -> dict[str, Any]:
    """Tune an experiment and return the numbers of the last line.

    Everything is checked before the first trial. What was finished is kept whatever happens.
    """
    start = time.perf_counter()
    check_name("--rule", wish.rule, RULES)
    if asked.config.pseudo.runs:
        raise InputError(
            "a study draws folds that no source of pseudo-labels has nets for; tune without them: "
            "--set 'pseudo.runs=[]'"
        )
    find_run(f"{asked.run.name}-tuned")  # the winner's name: a wrong one is refused now
    space.check(asked.config)
    material = load_material(asked.config)
    _check_folds(wish.n_folds, material)
    ground = Ground(
        base=asked.config,
        fingerprint=material.data.train.fingerprint,
        space=space,
        rule=wish.rule,
        seed=wish.seed,
        n_epoch_looks=wish.n_epoch_looks,
        alpha=wish.alpha,
        n_folds=wish.n_folds,
    )
    with locked(asked.run):
        with readable(wish.url, asked.run):
            # One that cannot be had leaves nothing behind.
            storage = open_storage(wish.url, asked.run)
        state_config(asked, force=False)
        with usable(wish.url, asked.run):
            with readable(wish.url, asked.run):
                study = _open(storage, ground, material, wish)
            try:
                confirmed = _work(study, asked, ground, material, wish)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"{n_finished(study)} finished trials are kept; the same command continues"
                ) from None
            summary = summarise(study, asked, ground, material, confirmed)
        winner = _winner(confirmed, study, asked, ground)
        page = _write(summary, asked.run)
    for table in tables(summary):
        print_table(table, console)
    return {
        "experiment": asked.run.name,
        "study": study.study_name,
        "n_trials": n_finished(study),
        "n_pruned": sum(trial["state"] == "pruned" for trial in summary["trials"]),
        "best_in_search_per_20k": _best(summary),
        "confirmed": summary["confirmed"],
        "winner": winner,
        "seconds": round(time.perf_counter() - start, 1),
        "page": str(page),
    }


def _check_folds(n_folds: int | None, material: Material) -> None:
    """Refuse to train more folds a trial than there are."""
    if n_folds is not None and n_folds > material.n_folds:
        raise InputError(
            f"--folds must be at most {material.n_folds}, the number of folds, but got {n_folds}"
        )


def _open(storage: RDBStorage, ground: Ground, material: Material, wish: Wish) -> optuna.Study:
    study = open_study(
        storage,
        wish.name,
        ground.space,
        _binding(ground, material),
        wish.seed,
        n_workers=wish.n_jobs,
        is_fresh=wish.is_fresh,
        params_in=partial(params_in, ground),
    )
    if wish.url is None:
        retry(study)  # whoever ran them is dead: we hold the run's lock
    else:
        reap(study)
    own = ground.space.base_values(ground.base)
    if own is not None:
        # The base is the first trial: the search starts where the user is.
        study.enqueue_trial(own, skip_if_exists=True)
    else:
        outside = ", ".join(ground.space.outside(ground.base))
        console.print(
            f"warning: no trial is the experiment as it is, because {ground.space.source} leaves "
            f"out its own {outside}"
        )
    return study


def _binding(ground: Ground, material: Material) -> dict[str, str]:
    """Return what trials must agree in to be compared."""
    identity = {key: json.dumps(value) for key, value in ground.base.identity().items()}
    folds = next(iter(material.folds_of_seed.values()))
    return {
        **identity,
        "train data": ground.fingerprint,
        "n_folds": f"{ground.n_folds or folds.n_folds} of {folds.n_folds}",
        "folds": ground.base.folds.model_dump_json(exclude={"seeds"}),
        "rule": ground.rule,
        "seed": str(ground.seed),
        "epoch looks": str(ground.n_epoch_looks),
    }


def _work(
    study: optuna.Study, asked: Asked, ground: Ground, material: Material, wish: Wish
) -> Confirmed | None:
    slots = _slots(asked.config, wish.n_jobs, material.n_folds)
    place = Place(wish.url, asked.run, study.study_name, wish.n_jobs)
    search(study, ground, place, slots, wish.n_trials, wish.timeout)
    if not wish.n_best:
        return None
    return confirm(study, ground, material.n_folds, slots, wish.n_best)


def _slots(config: Config, n_jobs: int, n_folds: int) -> list[Slot]:
    # The threads of `cv`, whatever the number of jobs: a configuration scores the same in both.
    compute = choose_compute(
        config.compute, is_compute_bound=config.net.is_compute_bound, n_folds=n_folds
    )
    if n_jobs * compute.n_threads > n_cores():
        console.print(f"warning: {n_jobs} jobs of {compute.threads} share {n_cores()} cores")
    console.print(
        f"{n_jobs} job{'s' * (n_jobs > 1)} on {compute.device} in {compute.precision}, "
        f"{compute.threads} each ({compute.reason})"
    )
    return slots_for(compute, n_jobs)


def summarise(
    study: optuna.Study,
    asked: Asked,
    ground: Ground,
    material: Material,
    confirmed: Confirmed | None,
) -> dict[str, Any]:
    """Return everything about the study as plain values; this is tune.json."""
    folds = next(iter(material.folds_of_seed.values()))
    trials = study.get_trials(deepcopy=False)
    return {
        "experiment": asked.run.name,
        "study": study.study_name,
        "rule": ground.rule,
        "n_rows": int((folds.fold_of_row < (ground.n_folds or folds.n_folds)).sum()),
        "n_folds": ground.n_folds or folds.n_folds,
        "seed": ground.seed,
        "base_trial": _base_trial(study, ground),
        "trials": [_trial_numbers(trial) for trial in trials if trial.state.is_finished()],
        "importances": _importances(study),
        "confirmed": to_json(confirmed) if confirmed else None,
        "thresholds": _thresholds(asked.run),
        "space": {
            path: entry.model_dump(mode="json", exclude_defaults=True)
            for path, entry in ground.space.entries.items()
        },
        "environment": machine(),
    }


def _trial_numbers(trial: FrozenTrial) -> dict[str, Any]:
    reported = trial.intermediate_values
    value = trial.value if trial.value is not None else reported.get(max(reported, default=-1))
    return {
        "number": trial.number,
        "state": "carried" if WARM_START in trial.user_attrs else STATES[trial.state],
        "per_20k": value,
        "n_folds": len(reported),
        "params": trial.params,
        "seconds": trial.duration.total_seconds() if trial.duration else 0.0,
        "stopped": trial.user_attrs.get(STOPPED),
        "unscored": trial.user_attrs.get(UNSCORED),
    }


def _base_trial(study: optuna.Study, ground: Ground) -> int | None:
    """Return the number of the trial that is the base experiment."""
    own = ground.space.base_values(ground.base)
    numbers = [each.number for each in study.get_trials(deepcopy=False) if each.params == own]
    return numbers[0] if own is not None and numbers else None


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
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {path: share for path, share in found.items() if math.isfinite(share)}


def _best(summary: Mapping[str, Any]) -> float | None:
    complete = [trial["per_20k"] for trial in summary["trials"] if trial["state"] == "complete"]
    return min(complete, default=None)


def _write(summary: Mapping[str, Any], run: RunFolder) -> Path:
    folder = run.path / "tuning"
    write_text(folder / "tune.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return write_page(summary, folder)


def _winner(
    confirmed: Confirmed | None, study: optuna.Study, asked: Asked, ground: Ground
) -> str | None:
    """Say what the fresh seed said; return the name of the new experiment if it was better."""
    if not confirmed:
        console.print(
            "no trial was trained again: the best score is that of the search, and partly luck"
        )
        return None
    difference = confirmed.difference
    noise = "" if difference.is_beyond_noise else " (within noise)"
    console.print(
        f"trial {confirmed.winner.number} on fresh seed {confirmed.seeds[1]}: "
        f"{confirmed.winner_fresh:.1f} per 20k against {confirmed.base_fresh:.1f} of "
        f"{asked.run.name}, {difference.per_20k:+.1f} ± {difference.standard_error:.1f}{noise}, "
        f"rule {ground.rule}, {confirmed.n_rows:,} rows, paired"
    )
    if difference.per_20k >= 0:
        console.print(f"so {asked.run.name} stays as it is")
        return None
    return _write_winner(confirmed, study, asked, ground)


def _write_winner(confirmed: Confirmed, study: optuna.Study, asked: Asked, ground: Ground) -> str:
    """Write the winner as an experiment, with where it comes from; return its name."""
    config = ground.space.apply(ground.base, ground.space.values_of(confirmed.winner.params))
    difference = confirmed.difference
    provenance = (
        f"{TUNED} {confirmed.winner.number} of study {study.study_name!r} of {asked.run.name}.\n"
        f"# On fresh seed {confirmed.seeds[1]}, rule {ground.rule}, {confirmed.n_rows} rows: "
        f"{confirmed.winner_fresh:.1f} per 20k\n"
        f"# against {confirmed.base_fresh:.1f} of {asked.run.name}, difference "
        f"{difference.per_20k:+.1f} ± {difference.standard_error:.1f} (paired).\n"
    )
    text = provenance + "\n" + to_toml(config)
    run = _free_folder(asked.run.name, text)
    space = run.path / "space.toml"
    if not space.exists():
        write_text(space, Path(ground.space.source).read_text(encoding="utf-8"))
    write_text(run.config_file, text)
    console.print(f"the winner is experiment {run.name}")
    return run.name


def _free_folder(base: str, text: str) -> RunFolder:
    """Return `BASE-tuned`, or the first numbered one that is free or says the same already."""
    names = [f"{base}-tuned", *(f"{base}-tuned-{n}" for n in range(2, 1000))]
    for run in (RunFolder(ROOT / name) for name in names):
        if not run.path.exists() or (
            run.config_file.exists() and run.config_file.read_text(encoding="utf-8") == text
        ):
            return run
    raise InputError(f"there are 999 experiments named {base}-tuned already")


def _thresholds(run: RunFolder) -> dict[str, Any] | None:
    """Return what the thresholds study of the run's present predictions found, if there is one."""
    if not run.predictions_file.exists():
        return None
    return found_thresholds(run, Predictions.load(run.predictions_file))
