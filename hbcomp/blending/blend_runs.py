"""Blending finished experiments, in order: load, blend, write, submit, report."""

from dataclasses import asdict
from time import perf_counter
from typing import Any

from hbcomp.blending import blend_page as page
from hbcomp.blending.base_models import BaseModels, load_base_models
from hbcomp.blending.methods import METHODS
from hbcomp.blending.selection import Blended, BlendOptions, blend
from hbcomp.experiment.finish import write_answers, write_report
from hbcomp.experiment.folder import RunFolder, find_run, locked
from hbcomp.experiment.recipe import BlendRecipe, read_recipe, write_recipe
from hbcomp.experiment.report import (
    EPOCHS,
    Environment,
    MethodScore,
    Report,
    Rows,
    read_report,
    scorecard,
    scores_in_words,
)
from hbcomp.experiment.report_tables import class_table, probs_pictures, selection_bias
from hbcomp.reporting.pages import Section, print_table, write_pictures
from hbcomp.scoring.calibration import CALIBRATIONS
from hbcomp.scoring.choice import check_rule_name
from hbcomp.scoring.metrics import describe_metric
from hbcomp.scoring.paired import as_text
from hbcomp.system.command import console
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError, check_name


def run(
    names: list[str],
    name: str,
    options: BlendOptions,
    *,
    force: bool,
    is_trusted: bool = False,
) -> dict[str, Any]:
    """Blend finished experiments into an experiment of its own and return the last line's numbers.

    Everything is checked before anything is written. The same call writes the same predictions,
    recipe and submission.
    """
    start = perf_counter()
    check_options(options)
    folder = find_run(name)
    base_models = load_base_models(names, is_trusted=is_trusted)
    blended = blend(base_models, options)
    recipe = _recipe(blended)
    with locked(folder):
        _check_target(folder, recipe, force=force)
        report = _report(blended, folder, perf_counter() - start)
        predictions = blended.predictions
        origin = f"blend by {blended.method.name} of {', '.join(base_models.names)}"
        submission = write_answers(
            folder,
            predictions,
            blended.rule,
            report,
            origin,
            report.form,
            is_optimistic=report.is_optimistic,
        )
        write_recipe(folder.recipe_file, recipe)
        methods, *others = tables = page.tables(blended, report)
        drawn = probs_pictures(
            base_models.metric, predictions, blended.rules, blended.rule, report.metric.classes
        )
        write_pictures(folder.pictures_folder, drawn)
        sections: list[Section] = [methods, *drawn, *others, class_table(report)]
        report_page = write_report(folder, report, page.subtitle(blended), sections)
    for table in tables:
        print_table(table, console)
    console.print(_verdict(blended, report))
    console.print(scores_in_words(report))
    return {
        "experiment": folder.name,
        "base_models": report.base_models,
        "method": blended.method.name,
        "calibration": blended.calibration.name,
        "rule": blended.rule.name,
        "n_rows": len(base_models.labels),
        "metric": base_models.metric.name,
        "method_scores": {
            each.name: {
                "in_sample": round(each.in_sample, 6),
                "cross_fitted": round(each.cross_fitted, 6),
            }
            for each in blended.methods
        },
        "score": round(report.score, 6),
        "expected": report.expected_numbers,
        "accuracy": report.accuracy,
        "against_best_base_model": {
            "base_model": blended.best_base_model.name,
            "difference": round(blended.against_best_base_model.value, 6),
            "standard_error": round(blended.against_best_base_model.standard_error, 6),
        },
        "seconds": round(perf_counter() - start, 1),
        "submission": submission,
        "recipe": str(folder.recipe_file),
        "report": report_page,
    }


def check_options(options: BlendOptions) -> None:
    """Refuse names that no method, calibration or rule has; the message lists those there are."""
    check_name("method", options.method, ("auto", *METHODS))
    check_name("calibration", options.calibration, ("auto", *CALIBRATIONS))
    check_rule_name(options.rule)


def check_folder(folder: RunFolder) -> None:
    """Refuse to write a blend into the folder of a run or of an import."""
    if not folder.recipe_file.exists() and (
        folder.report_file.exists() or folder.config_file.exists()
    ):
        raise InputError(
            f"{folder.path} is an experiment of another kind; choose another name for the blend"
        )


def _recipe(blended: Blended) -> BlendRecipe:
    return BlendRecipe(
        base_models=blended.base_models.names,
        method=blended.method.name,
        combination=blended.method.combination,
        calibration=blended.calibration.calibration,
        rule_name=blended.rule.name,
        rule=blended.rule.rule,
        fingerprints=blended.base_models.fingerprints,
        metric=blended.base_models.metric_spec,
    )


def _check_target(folder: RunFolder, recipe: BlendRecipe, *, force: bool) -> None:
    """Refuse to write over anything but the same blend; with `force` any blend is replaced."""
    check_folder(folder)
    if folder.recipe_file.exists() and not force and read_recipe(folder.recipe_file) != recipe:
        raise InputError(
            f"{folder.path} holds another blend; --name NEW keeps both, --force replaces it"
        )


def _report(blended: Blended, folder: RunFolder, seconds: float) -> Report:
    base_models = blended.base_models
    reports = [read_report(find_run(name).report_file) for name in base_models.names]
    like = reports[0]  # all are of the same rows
    epochs = (EPOCHS,) if any(each.is_optimistic for each in reports) else ()
    # A median and stacking have none.
    weights = getattr(blended.method.combination, "weights", (None,) * len(base_models.names))
    return Report(
        **dict(
            scorecard(
                base_models.metric_spec,
                base_models.metric,
                blended.predictions,
                blended.rules,
                blended.rule,
            )
        ),
        experiment=folder.name,
        kind="blend",
        data=_data_numbers(base_models, like),
        own_form=like.form,
        environment=Environment(**asdict(machine()), seconds_of_this_call=seconds),
        method=blended.method.name,
        base_models=dict(zip(base_models.names, weights, strict=True)),
        has_same_folds=base_models.has_same_folds,
        selected=(*blended.selected, *epochs),
        methods=tuple(
            MethodScore(
                name=each.name,
                in_sample=each.in_sample,
                cross_fitted=each.cross_fitted,
                seconds=each.seconds,
            )
            for each in blended.methods
        ),
        calibration=blended.calibration.calibration,
    )


def _data_numbers(base_models: BaseModels, like: Report) -> Rows:
    first = base_models.first
    return Rows(
        train=like.data.train,
        has_groups=like.data.has_groups,
        n_train=len(first.train_ids),
        n_test=len(first.test_ids),
        n_classes=first.oof_probs.shape[1],
        fingerprint_train=first.train_fingerprint,
        fingerprint_test=first.test_fingerprint or None,
    )


def _verdict(blended: Blended, report: Report) -> str:
    best, gap = blended.best_base_model, blended.against_best_base_model
    metric = describe_metric(blended.base_models.metric)
    share = gap.value / best.cross_fitted if best.cross_fitted else 0.0
    return (
        f"{blended.method.name} of {len(blended.base_models.names)}: {as_text(gap.value, '+')} ± "
        f"{as_text(gap.standard_error)} ({share:+.1%}) by {metric} against the best base model, "
        f"{best.name} ({as_text(best.cross_fitted)} under {best.rule}); both cross-fitted, on the "
        f"same rows. {selection_bias('the blend', report.selected)}"
    )
