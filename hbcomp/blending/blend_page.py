"""A blend as tables and a page."""

from typing import Any

import numpy as np

from hbcomp.blending.methods import METHODS
from hbcomp.blending.selection import Blended
from hbcomp.experiment.report import Report
from hbcomp.experiment.report_tables import rule_table, transferability_tables
from hbcomp.reporting.pages import Table
from hbcomp.scoring.choice import fixed_rule
from hbcomp.scoring.combinations import disagreement, repairs
from hbcomp.scoring.decision import Half
from hbcomp.scoring.paired import Difference, as_text, paired_difference


def tables(blended: Blended, report: Report) -> list[Table]:
    """Return the tables of a blend, the rule that answers last."""
    return [
        _method_table(blended, report),
        _base_model_table(blended, report),
        *_pair_tables(blended),
        _calibration_table(blended),
        rule_table(report),
        *transferability_tables(report),
    ]


def _method_table(blended: Blended, report: Report) -> Table:
    rows = [
        [
            f"{each.name} (chosen)" if each is blended.method else each.name,
            METHODS[each.name].description,
            as_text(each.in_sample),
            as_text(each.cross_fitted),
            _gap(paired_difference(each.rows, blended.method.rows)),
            f"{each.seconds:.1f}",
        ]
        for each in blended.methods
    ]
    n_base_models = len(blended.base_models.names)
    title = (
        f"Blends of {n_base_models} base models by method, {report.metric_in_words}, "
        f"{_rows(blended)}, {_fixed_rule(blended)}"
    )
    header = ["method", "what it is", "in-sample", "cross-fitted", "against chosen", "seconds"]
    note = (
        "Each row is blended by weights that were fitted without its fold. The scores do not count "
        "that the best method was chosen by them, nor that calibration and rule were fitted on "
        "blends of the other folds."
        if blended.base_models.has_same_folds
        else (
            "The base models have different folds, so methods that fit weights were left out; "
            "rules and calibration are cross-fitted over the folds of "
            f"{blended.base_models.names[0]}."
        )
    )
    return Table(title, header, rows, note)


def _base_model_table(blended: Blended, report: Report) -> Table:
    weights = report.base_models
    rows = [
        [
            alone.name,
            as_text(alone.under_fixed_rule),
            as_text(alone.cross_fitted),
            alone.rule,
            "-" if weights[alone.name] is None else f"{weights[alone.name]:.3f}",
            _gap(without),
        ]
        for alone, without in zip(blended.alone, blended.without, strict=True)
    ]
    fixed, side = _fixed_rule(blended), {"lower": "above", "higher": "below"}[report.better]
    header = ["base model", fixed, "under its rule", "rule", "weight", "without it"]
    note = (
        f"Scores are {report.metric_in_words}, cross-fitted. Without it: how much higher the blend "
        f"scores under {fixed} when the same method is fitted without this model; {side} zero the "
        "model helps."
    )
    return Table(f"The {len(rows)} base models, {_rows(blended)}", header, rows, note)


def _pair_tables(blended: Blended) -> list[Table]:
    names, oof = blended.base_models.names, blended.base_models.oof
    shares = [
        [name, *(f"{100 * share:.2f} %" for share in row)]
        for name, row in zip(names, disagreement(oof), strict=True)
    ]
    counts = [
        [name, *(f"{count:,}" for count in row)]
        for name, row in zip(names, repairs(oof, blended.base_models.labels), strict=True)
    ]
    differ = "Share of rows on which the most probable classes of two base models differ"
    note = (
        "Rows that the base model at the left gets wrong and the one above gets right, by their "
        "most probable classes."
    )
    title = "Errors of one base model that another one gets right"
    return [
        Table(differ, ["", *names], shares),
        Table(title, ["wrong", *names], counts, note),
    ]


def _calibration_table(blended: Blended) -> Table:
    rows = [
        [
            f"{each.name} (chosen)" if each is blended.calibration else each.name,
            _parameters(each.calibration.model_dump(exclude={"kind"})),
            f"{each.log_loss:.5f}",
            as_text(each.cross_fitted),
            _gap(paired_difference(each.rows, blended.calibration.rows)),
        ]
        for each in blended.calibrations
    ]
    header = ["calibration", "parameters", "log loss", _fixed_rule(blended), "against chosen"]
    return Table("Calibration of the blend, cross-fitted", header, rows)


def _parameters(values: dict[str, Any]) -> str:
    lists = {name: np.atleast_1d(value) for name, value in values.items()}
    shown = [f"{name} {', '.join(f'{each:.2f}' for each in lists[name])}" for name in lists]
    return "; ".join(shown) or "-"


def _rows(blended: Blended) -> str:
    return f"{len(blended.base_models.labels):,} rows"


def _fixed_rule(blended: Blended) -> str:
    """Return the rule under which methods, weights and calibrations are scored, in words."""
    metric = blended.base_models.metric
    return "threshold 0.5" if isinstance(fixed_rule(metric), Half) else f"rule {metric.rules[0]}"


def _gap(difference: Difference) -> str:
    return f"{as_text(difference.value, '+')} ± {as_text(difference.standard_error)}"


def subtitle(blended: Blended) -> str:
    """Return a line that says what was blended and how it was scored."""
    return (
        f"{blended.method.name} of {', '.join(blended.base_models.names)}; out-of-fold, "
        f"cross-fitted, rule {blended.rule.name}, {_rows(blended)}"
    )
