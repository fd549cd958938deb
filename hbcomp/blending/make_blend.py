"""The blending job in order: load, blend, write, submit, report."""

import json
from time import perf_counter
from typing import Any

from hbcomp.blending import blend_page as page
from hbcomp.blending.members import Members, load_members
from hbcomp.blending.methods import check_method_name
from hbcomp.blending.recipe import BlendRecipe, read_recipe, write_recipe
from hbcomp.blending.selection import Blended, BlendWish, blend
from hbcomp.experiment.folder import RunFolder, find_run, locked
from hbcomp.experiment.predictions import write_predictions
from hbcomp.experiment.report import read_report
from hbcomp.experiment.report_tables import expectation, scorecard, selection_bias
from hbcomp.reporting.pages import print_table
from hbcomp.scoring.calibration import CALIBRATIONS
from hbcomp.scoring.choice import check_rule_name
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance, write_submission
from hbcomp.system.command import console
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError, check_name
from hbcomp.system.files import write_text


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
        summary = _summarise(blended, folder, perf_counter() - start)
        submission = _write(blended, recipe, summary, folder)
    for table in page.tables(blended, summary):
        print_table(table, console)
    console.print(_verdict(blended))
    console.print(expectation(summary))
    return {
        "experiment": folder.name,
        "members": summary["members"],
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
        "expected_per_20k": round(summary["expected_per_20k"], 3),
        "accuracy": summary["accuracy"],
        "against_best_member": {
            "member": blended.best_single.name,
            "per_20k": round(blended.against_best_single.per_20k, 3),
            "standard_error": round(blended.against_best_single.standard_error, 3),
        },
        "seconds": round(perf_counter() - start, 1),
        "submission": submission,
        "recipe": str(folder.recipe_file),
        "report": str(folder.path / "report.html"),
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
        folder.discard_outputs()
    elif folder.report_file.exists() or folder.config_file.exists():
        raise InputError(f"{folder.path} is an experiment of another kind; choose another --name")


def _summarise(blended: Blended, folder: RunFolder, seconds: float) -> dict[str, Any]:
    """Return everything that was measured, as plain values; this is report.json."""
    members = blended.members
    weights = page.weights_of(blended)
    return {
        "experiment": folder.name,
        "kind": "blend",
        "method": blended.method.name,
        "members": {
            name: weights[place] if weights else None for place, name in enumerate(members.names)
        },
        "has_same_folds": members.has_same_folds,
        "selected": list(blended.selected),
        "data": _data_numbers(members),
        **scorecard(blended.predictions, blended.rules, blended.rule),
        "methods": [
            {
                "name": each.name,
                "in_sample": each.in_sample.to_json(),
                "cross_fitted": each.cross_fitted.to_json(),
                "seconds": each.seconds,
            }
            for each in blended.methods
        ],
        "calibration": blended.calibration.calibration.model_dump(mode="json"),
        "environment": {**machine(), "seconds_of_this_call": seconds},
    }


def _data_numbers(members: Members) -> dict[str, Any]:
    first = members.first
    report = read_report(find_run(members.names[0]).report_file)
    return {
        "train": report.data.train,
        "id_column": report.id_column,
        "n_train": len(first.train_ids),
        "n_test": len(first.test_ids),
        "n_classes": first.oof_probs.shape[1],
        "fingerprint_train": first.train_fingerprint,
        "fingerprint_test": first.test_fingerprint or None,
    }


def _write(
    blended: Blended, recipe: BlendRecipe, summary: dict[str, Any], folder: RunFolder
) -> str | None:
    """Write all files of the blend, the manifest last; return the submission's path."""
    predictions = blended.predictions
    write_predictions(folder.path, predictions)
    submission = None
    if len(predictions.test_ids):
        submission = FOLDER / f"{folder.name}.csv"
        answers = recipe.answers(blended.members.test)
        write_submission(
            submission,
            predictions.test_ids,
            answers,
            _provenance(blended, summary),
            summary["data"]["id_column"],
        )
    write_recipe(folder.recipe_file, recipe)
    page.write(blended, summary, folder)
    write_text(folder.report_file, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    folder.write_manifest()
    return str(submission) if submission else None


def _provenance(blended: Blended, summary: dict[str, Any]) -> Provenance:
    return Provenance(
        source=summary["experiment"],
        recipe=f"blend by {blended.method.name} of {', '.join(blended.members.names)}",
        rule=blended.rule.name,
        expected_per_20k=summary["expected_per_20k"],
        standard_error=summary["expected_standard_error"],
        n_scored=summary["data"]["n_train"],
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
