"""The blending job in order: load, blend, write, submit, report."""

from dataclasses import asdict
from time import perf_counter
from typing import Any

from hbcomp.blending import blend_page as page
from hbcomp.blending.members import Members, load_members
from hbcomp.blending.methods import check_method_name
from hbcomp.blending.recipe import BlendRecipe, read_recipe, write_recipe
from hbcomp.blending.selection import Blended, BlendWish, blend
from hbcomp.experiment.finish import write_answers, write_report
from hbcomp.experiment.folder import RunFolder, find_run, locked
from hbcomp.experiment.report import (
    Environment,
    MethodScore,
    Report,
    Rows,
    Score,
    expectation,
    read_report,
    scorecard,
)
from hbcomp.experiment.report_tables import class_table, probs_pictures, selection_bias
from hbcomp.reporting.pages import Section, print_table, write_pictures
from hbcomp.scoring.calibration import CALIBRATIONS
from hbcomp.scoring.choice import check_rule_name
from hbcomp.system.command import console
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError, check_name


def run(names: list[str], name: str, wish: BlendWish, *, force: bool) -> dict[str, Any]:
    """Blend finished experiments into an experiment of its own and return the last line's numbers.

    Everything is checked before anything is written. The same call writes the same predictions,
    recipe and submission.
    """
    start = perf_counter()
    check_wish(wish)
    folder = find_run(name)
    members = load_members(names)
    blended = blend(members, wish)
    recipe = _recipe(blended)
    with locked(folder):
        _admit(folder, recipe, force=force)
        report = _report(blended, folder, perf_counter() - start)
        predictions = blended.predictions
        origin = f"blend by {blended.method.name} of {', '.join(members.names)}"
        submission = write_answers(folder, predictions, blended.rule, origin, report.id_column)
        write_recipe(folder.recipe_file, recipe)
        methods, *others = tables = page.tables(blended, report)
        drawn = probs_pictures(predictions, blended.rules, blended.rule)
        write_pictures(folder.pictures_folder, drawn)
        sections: list[Section] = [methods, *drawn, *others, class_table(report)]
        report_page = write_report(folder, report, page.subtitle(blended), sections)
    for table in tables:
        print_table(table, console)
    console.print(_verdict(blended))
    console.print(expectation(report))
    return {
        "experiment": folder.name,
        "members": report.members,
        "method": blended.method.name,
        "calibration": blended.calibration.name,
        "rule": blended.rule.name,
        "n_rows": len(members.labels),
        "per_20k": {
            each.name: {
                "in_sample": round(each.in_sample.per_20k, 3),
                "cross_fitted": round(each.cross_fitted.per_20k, 3),
            }
            for each in blended.methods
        },
        "expected_per_20k": round(report.expected_per_20k, 3),
        "accuracy": report.accuracy,
        "against_best_member": {
            "member": blended.best_single.name,
            "per_20k": round(blended.against_best_single.per_20k, 3),
            "standard_error": round(blended.against_best_single.standard_error, 3),
        },
        "seconds": round(perf_counter() - start, 1),
        "submission": submission,
        "recipe": str(folder.recipe_file),
        "report": report_page,
    }


def check_wish(wish: BlendWish) -> None:
    """Raise an InputError where a blend is asked for by a name that nothing has."""
    check_method_name(wish.method)
    check_rule_name(wish.rule)
    check_name("calibration", wish.calibration, ("auto", *CALIBRATIONS))


def _recipe(blended: Blended) -> BlendRecipe:
    rule = blended.rule
    return BlendRecipe(
        members=blended.members.names,
        method=blended.method.name,
        combination=blended.method.combination,
        calibration=blended.calibration.calibration,
        rule_name=rule.name,
        rule=rule.rule,
        member_fingerprints=blended.members.fingerprints,
    )


def _admit(folder: RunFolder, recipe: BlendRecipe, *, force: bool) -> None:
    """Let a blend be written where there is nothing, or the same blend; another with `force`."""
    if folder.recipe_file.exists():
        if not force and read_recipe(folder.recipe_file) != recipe:
            raise InputError(
                f"{folder.path} holds another blend; --name NEW keeps both, --force replaces it"
            )
    elif folder.report_file.exists() or folder.config_file.exists():
        raise InputError(f"{folder.path} is an experiment of another kind; choose another --name")


def _report(blended: Blended, folder: RunFolder, seconds: float) -> Report:
    members = blended.members
    weights = page.weights_of(blended) or (None,) * len(members.names)
    return Report(
        **dict(scorecard(blended.predictions, blended.rules, blended.rule)),
        experiment=folder.name,
        kind="blend",
        data=_data_numbers(members),
        environment=Environment(**asdict(machine()), seconds_of_this_call=seconds),
        method=blended.method.name,
        members=dict(zip(members.names, weights, strict=True)),
        has_same_folds=members.has_same_folds,
        selected=blended.selected,
        methods=tuple(
            MethodScore(
                name=each.name,
                in_sample=Score.model_validate(each.in_sample.to_json()),
                cross_fitted=Score.model_validate(each.cross_fitted.to_json()),
                seconds=each.seconds,
            )
            for each in blended.methods
        ),
        calibration=blended.calibration.calibration,
    )


def _data_numbers(members: Members) -> Rows:
    first = members.first
    report = read_report(find_run(members.names[0]).report_file)
    return Rows(
        train=report.data.train,
        id_column=report.id_column,
        n_train=len(first.train_ids),
        n_test=len(first.test_ids),
        n_classes=first.oof_probs.shape[1],
        fingerprint_train=first.train_fingerprint,
        fingerprint_test=first.test_fingerprint or None,
    )


def _verdict(blended: Blended) -> str:
    best, gap = blended.best_single, blended.against_best_single
    share = gap.per_20k / best.cross_fitted.per_20k if best.cross_fitted.total else 0.0
    return (
        f"{blended.method.name} of {len(blended.members.names)}: {gap.per_20k:+.1f} ± "
        f"{gap.standard_error:.1f} per 20k ({share:+.1%}) against the best member, {best.name} "
        f"({best.cross_fitted.per_20k:.1f} under {best.rule}); both cross-fitted, same rows. "
        f"{selection_bias('the blend', blended.selected)}"
    )
