"""A plan: experiments to train one after the other, and the blend of what they found."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from hbcomp.blending import make_blend as blending
from hbcomp.blending.recipe import BlendRecipe, read_recipe
from hbcomp.blending.selection import BlendWish
from hbcomp.crossval.cross_validate import run as cross_validate
from hbcomp.experiment.folder import find_run
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.setup import Request, check_kind, find_file, like, prepare
from hbcomp.system.command import console
from hbcomp.system.config import Section, read_toml, unique, validate
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch


class BlendPlan(Section):
    """Which of the experiments to blend, and how; the options of `hbcomp blend`."""

    members: Annotated[tuple[str, ...], unique("members")] = Field(min_length=2)
    method: str = "auto"
    calibration: str = "auto"
    rule: str = "auto"

    @property
    def wish(self) -> BlendWish:
        """What is asked of the blend."""
        return BlendWish(self.method, self.calibration, self.rule)


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
        f"blend.members: {member} is not one of runs"
        for member in plan.blend.members
        if member not in plan.runs
    ]
    if name in plan.runs:
        problems.append(f"runs: {name} is to be the blend, so no run may have that name")
    try:
        blending.check_wish(plan.blend.wish)
    except InputError as error:
        problems.append(f"blend: {error}")
    return problems


def prepare_all(plan: Plan, assignments: list[str]) -> list[Request]:
    """Return what every run of the plan asks for; one that names no files takes the others'.

    Runs in folders of another kind, on unlike files, or that learn from a later one are refused.
    """
    asked = [prepare(each, assignments, None) for each in plan.runs]
    named = [each.config.data for each in asked if each.config.data.train]
    asked = [
        each
        if each.config.data.train or not named
        else replace(each, config=each.config.model_copy(update={"data": named[0]}))
        for each in asked
    ]
    for each in asked:
        check_kind(each.run)
    first = asked[0]
    problems = [
        f"{each.run.name} and {first.run.name} must name the same files and columns under [data]"
        for each in asked[1:]
        if each.config.data != first.config.data
    ]
    problems += [
        f"{each.run.name}: pseudo.runs names {source}, which is trained after it"
        for place, each in enumerate(asked)
        for source in each.config.pseudo.runs
        if find_run(source).name in plan.runs[place:]
    ]
    if problems:
        raise InputError.of("", problems)
    return asked


def carry_out(
    name: str,
    plan: Plan,
    asked: list[Request],
    watch: Stopwatch,
    *,
    n_jobs: int | None,
    force: bool,
) -> dict[str, Any]:
    """Train what is missing, blend, and return the numbers of the last line.

    Every finished fold is kept, so the same call after a stop of any kind goes on where it was.
    """
    _check_folder(name, plan, asked, force=force)
    runs = {}
    for place, each in enumerate(asked, start=1):
        console.print(f"{name}: {each.run.name}, {place} of {len(asked)}")
        numbers = cross_validate(each, Stopwatch(), n_jobs=n_jobs, force=force, has_profile=False)
        runs[each.run.name] = {
            "n_folds_trained": numbers["n_folds_trained"],
            "rule": numbers["rule"],
            "per_20k": numbers["oof_per_20k"][numbers["rule"]]["cross_fitted"],
            "seconds": numbers["seconds"],
        }
    blended = blending.run(list(plan.blend.members), name, plan.blend.wish, force=force)
    return {
        "experiment": name,
        "runs": runs,
        "members": blended["members"],
        "method": blended["method"],
        "rule": blended["rule"],
        "n_rows": blended["n_rows"],
        "expected_per_20k": blended["expected_per_20k"],
        "seconds": round(watch.total(), 1),
        "submission": blended["submission"],
        "report": blended["report"],
    }


def _check_folder(name: str, plan: Plan, asked: list[Request], *, force: bool) -> None:
    """Refuse now what the blend would refuse after hours of training."""
    folder = find_run(name)
    if folder.recipe_file.exists():
        changes = _changes(plan.blend, read_recipe(folder.recipe_file)) + _new_seeds(plan, asked)
        if changes and not force:
            raise InputError(
                f"{folder.path} holds another blend ({'; '.join(changes)}); --force replaces it, a "
                "copy of the plan under another name keeps both"
            )
    elif folder.report_file.exists() or folder.config_file.exists():
        raise InputError(
            f"{folder.path} is an experiment of another kind; copy the plan to another name"
        )


def _changes(asked: BlendPlan, recipe: BlendRecipe) -> list[str]:
    """Return in what a blend that is there differs from what is asked and stored now."""
    pairs = {
        "members": (list(recipe.members), list(asked.members)),
        "method": (recipe.method, asked.method),
        "calibration": (recipe.calibration.kind, asked.calibration),
        "rule": (recipe.rule_name, asked.rule),
    }
    changes = [
        f"{key} {was}, now {now}" for key, (was, now) in pairs.items() if now not in (was, "auto")
    ]
    for member, fingerprint in zip(recipe.members, recipe.member_fingerprints, strict=True):
        stored = find_run(member).predictions_file
        # One whose outputs are missing was stopped while it wrote them again.
        if stored.exists() and Predictions.load(stored).fingerprint != fingerprint:
            changes.append(f"{member} has other probabilities now")
    return changes


def _new_seeds(plan: Plan, asked: list[Request]) -> list[str]:
    """Return which members whose outputs are stored are now asked for further seeds."""
    changes = []
    for each in asked:
        known = {path.name.partition("-")[0] for path in each.run.stored_folds()}
        seeds = [seed for seed in each.config.folds.seeds if str(seed) not in known]
        is_whole = each.run.predictions_file.exists() and bool(known)
        if each.run.name in plan.blend.members and is_whole and seeds:
            changes.append(f"{each.run.name} is asked for the further seeds {seeds}")
    return changes


def n_kept(asked: list[Request]) -> int:
    """Return how many finished folds the runs of a plan have."""
    return sum(len(each.run.stored_folds()) for each in asked)
