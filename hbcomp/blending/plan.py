"""A plan: experiments to train one after the other, and the blend of what they found."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from hbcomp.blending import blend_runs
from hbcomp.blending.selection import BlendOptions
from hbcomp.crossval.cross_validate import run as cross_validate
from hbcomp.crossval.loop import AfterFold, go_on
from hbcomp.data.dataset import DataConfig
from hbcomp.experiment.folder import find_run
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.recipe import BlendRecipe, read_recipe
from hbcomp.experiment.setup import Request, check_kind, find_file, like, prepare
from hbcomp.system.command import console
from hbcomp.system.config import Section, read_toml, unique, validate
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch


class BlendPlan(Section):
    """Which of the experiments to blend, and how; the options of `hbcomp blend`."""

    base_models: Annotated[tuple[str, ...], unique("base_models")] = Field(min_length=2)
    method: str = "auto"
    calibration: str = "auto"
    rule: str = "auto"

    @property
    def options(self) -> BlendOptions:
        """How to blend."""
        return BlendOptions(self.method, self.calibration, self.rule)


class Plan(Section):
    """A plan.toml: `runs` are trained in order, so that a later one may learn from an earlier."""

    runs: Annotated[tuple[str, ...], unique("runs")] = Field(min_length=1)
    blend: BlendPlan


def read_plan(name: str) -> Plan:
    """Return the plan of an experiment's folder, or the one that comes with the package."""
    folder = find_run(name)
    path = find_file(folder, "plan.toml")
    if path is None:
        hint = like(folder.name, "plan.toml")
        raise InputError(f"{folder.path / 'plan.toml'}: no such plan{hint}")
    plan = validate(Plan, read_toml(path), path)
    if problems := _problems(plan, folder.name):
        raise InputError.of(path, problems)
    return plan


def _problems(plan: Plan, name: str) -> list[str]:
    problems = [
        f"a run's name must stand alone, without {Path(each).parent}/, but got {each}"
        for each in plan.runs
        if find_run(each).name != each
    ]
    problems += [
        f"blend.base_models: {each} is not one of runs"
        for each in plan.blend.base_models
        if each not in plan.runs
    ]
    if name in plan.runs:
        problems.append(f"runs: the blend will be called {name}, so no run may have that name")
    try:
        blend_runs.check_options(plan.blend.options)
    except InputError as error:
        problems.append(f"blend: {error}")
    return problems


def prepare_all(plan: Plan, assignments: list[str]) -> list[Request]:
    """Return the configurations of all runs; one that names no data files takes the others'.

    Runs in folders of another kind, on different files, or that learn from a later one are refused.
    """
    requests = [prepare(each, assignments, None) for each in plan.runs]
    named = [each.config.data for each in requests if each.config.data != DataConfig()]
    requests = [
        each
        if each.config.data in named or not named
        else replace(each, config=each.config.model_copy(update={"data": named[0]}))
        for each in requests
    ]
    for each in requests:
        check_kind(each.run)
    first = requests[0]
    problems = [
        f"{each.run.name} and {first.run.name} must name the same competition and files in [data]"
        for each in requests[1:]
        if each.config.data != first.config.data
    ]
    problems += [
        f"{each.run.name}: pseudo.runs names {source}, which is trained after it"
        for place, each in enumerate(requests)
        for source in each.config.pseudo.runs
        if find_run(source).name in plan.runs[place:]
    ]
    if problems:
        raise InputError.of("", problems)
    return requests


def carry_out(
    name: str,
    plan: Plan,
    requests: list[Request],
    watch: Stopwatch,
    *,
    n_jobs: int | None,
    force: bool,
) -> dict[str, Any]:
    """Train what is missing, blend, and return the numbers of the last line.

    Every finished fold is kept, so the same call continues after a stop of any kind.
    """
    check_folder(name, plan, requests, force=force)
    runs = {}
    for place, each in enumerate(requests, start=1):
        console.print(f"{name}: {each.run.name}, {place} of {len(requests)}")
        runs[each.run.name] = train(each, n_jobs, force=force)
    blended = blend_runs.run(list(plan.blend.base_models), name, plan.blend.options, force=force)
    return last_numbers(runs, blended, watch)


def train(
    request: Request, n_jobs: int | None, *, force: bool, after_fold: AfterFold = go_on
) -> dict[str, Any]:
    """Train the missing folds of an experiment, and return the numbers of its last line."""
    return cross_validate(
        request, Stopwatch(), n_jobs=n_jobs, force=force, has_profile=False, after_fold=after_fold
    )


def last_numbers(
    runs: Mapping[str, Mapping[str, Any]], last: Mapping[str, Any], watch: Stopwatch
) -> dict[str, Any]:
    """Return the numbers of the last line of a plan, from those of its runs and of the blend.

    Where a single run was finished, `last` are its own numbers.
    """
    kept = (
        *("base_models", "method", "rule", "n_rows", "metric", "score", "expected"),
        *("submission", "report"),
    )
    return {
        "experiment": last["experiment"],
        "runs": {
            name: {
                "n_folds_trained": numbers["n_folds_trained"],
                "rule": numbers["rule"],
                "score": numbers["score"],
                "seconds": numbers["seconds"],
            }
            for name, numbers in runs.items()
        },
        **{key: last[key] for key in kept if key in last},
        "seconds": round(watch.total(), 1),
    }


def check_folder(name: str, plan: Plan, requests: list[Request], *, force: bool) -> None:
    """Refuse now what the blend would refuse after hours of training."""
    folder = find_run(name)
    blend_runs.check_folder(folder)
    if force or not folder.recipe_file.exists():
        return
    if changes := _changes(plan.blend, read_recipe(folder.recipe_file)) + _new_seeds(
        plan, requests
    ):
        raise InputError(
            f"{folder.path} holds another blend ({'; '.join(changes)}); --force replaces it, a "
            "copy of the plan under another name keeps both"
        )


def _changes(wanted: BlendPlan, recipe: BlendRecipe) -> list[str]:
    """Return how a stored blend differs from the plan, and which base models have changed since."""
    pairs = {
        "base_models": (list(recipe.base_models), list(wanted.base_models)),
        "method": (recipe.method, wanted.method),
        "calibration": (recipe.calibration.kind, wanted.calibration),
        "rule": (recipe.rule_name, wanted.rule),
    }
    changes = [
        f"{key} {was}, now {now}" for key, (was, now) in pairs.items() if now not in (was, "auto")
    ]
    for name, fingerprint in zip(recipe.base_models, recipe.fingerprints, strict=True):
        stored = find_run(name).predictions_file
        # One whose outputs are missing was stopped while it wrote them again.
        if stored.exists() and Predictions.load(stored).fingerprint != fingerprint:
            changes.append(f"{name} has other probabilities now")
    return changes


def _new_seeds(plan: Plan, requests: list[Request]) -> list[str]:
    """Return which finished base models would be trained with further seeds."""
    changes = []
    for each in requests:
        known = {path.name.partition("-")[0] for path in each.run.stored_folds()}
        seeds = [seed for seed in each.config.folds.seeds if str(seed) not in known]
        is_whole = each.run.predictions_file.exists() and bool(known)
        if each.run.name in plan.blend.base_models and is_whole and seeds:
            changes.append(f"{each.run.name} is asked for the further seeds {seeds}")
    return changes


def n_kept(requests: list[Request]) -> int:
    """Return how many finished folds the runs of a plan have."""
    return sum(len(each.run.stored_folds()) for each in requests)
