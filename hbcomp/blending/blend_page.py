"""A blend as tables and a page."""

from typing import Any

import numpy as np

from hbcomp.blending.methods import METHODS
from hbcomp.blending.selection import Blended
from hbcomp.experiment.report import Report
from hbcomp.experiment.report_tables import rule_table, transferability_tables
from hbcomp.reporting.pages import Table
from hbcomp.scoring.blending import disagreement, repairs
from hbcomp.scoring.paired import Difference, paired_difference


def weights_of(blended: Blended) -> list[float] | None:
    """Return each base model's weight, or None where the method has none."""
    weights = getattr(blended.method.combination, "weights", None)
    return None if weights is None else list(weights)


def tables(blended: Blended, report: Report) -> list[Table]:
    """Return the tables of a blend, the rule that answers last."""
    return [
        _method_table(blended),
        _base_model_table(blended),
        *_pair_tables(blended),
        _calibration_table(blended),
        rule_table(report),
        *transferability_tables(report),
    ]


def _method_table(blended: Blended) -> Table:
    rows = [
        [
            f"{each.name} (chosen)" if each is blended.method else each.name,
            METHODS[each.name].description,
            f"{each.in_sample.per_20k:.1f}",
            f"{each.cross_fitted.per_20k:.1f}",
            _gap(paired_difference(each.costs, blended.method.costs)),
            f"{each.seconds:.1f}",
        ]
        for each in blended.methods
    ]
    n_base_models = len(blended.base_models.names)
    title = f"Blends of {n_base_models} base models by method, {_rows(blended)}, threshold 0.5"
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


def _base_model_table(blended: Blended) -> Table:
    names = blended.base_models.names
    weights = weights_of(blended)
    rows = [
        [
            alone.name,
            f"{alone.half.per_20k:.1f}",
            f"{alone.cross_fitted.per_20k:.1f}",
            alone.rule,
            "-" if weights is None else f"{weights[place]:.3f}",
            _gap(blended.without[place]),
        ]
        for place, alone in enumerate(blended.alone)
    ]
    header = ["base model", "threshold 0.5", "under its rule", "rule", "weight", "without it"]
    note = (
        "Abs-sum per 20k, cross-fitted. Without it: how much more the blend costs under threshold "
        "0.5 when the same method is fitted without this model; above zero the model helps."
    )
    return Table(f"The {len(names)} base models, {_rows(blended)}", header, rows, note)


def _pair_tables(blended: Blended) -> list[Table]:
    names, oof = blended.base_models.names, blended.base_models.oof
    shares = disagreement(oof)
    counts = repairs(oof, blended.base_models.labels)
    return [
        Table(
            "Share of rows on which the most probable classes of two base models differ",
            ["", *names],
            [
                [name, *(f"{100 * share:.2f} %" for share in row)]
                for name, row in zip(names, shares, strict=True)
            ],
        ),
        Table(
            "Errors of one base model that another one gets right",
            ["wrong", *names],
            [
                [name, *(f"{count:,}" for count in row)]
                for name, row in zip(names, counts, strict=True)
            ],
            "Rows that the base model at the left gets wrong and the one above gets right, by "
            "their most probable classes.",
        ),
    ]


def _calibration_table(blended: Blended) -> Table:
    rows = [
        [
            f"{each.name} (chosen)" if each is blended.calibration else each.name,
            _parameters(each.calibration.model_dump(exclude={"kind"})),
            f"{each.log_loss:.5f}",
            f"{each.cross_fitted.per_20k:.1f}",
            _gap(paired_difference(each.costs, blended.calibration.costs)),
        ]
        for each in blended.calibrations
    ]
    header = ["calibration", "parameters", "log loss", "threshold 0.5", "against chosen"]
    return Table("Calibration of the blend, cross-fitted", header, rows)


def _parameters(values: dict[str, Any]) -> str:
    lists = {name: np.atleast_1d(value) for name, value in values.items()}
    shown = [f"{name} {', '.join(f'{each:.2f}' for each in lists[name])}" for name in lists]
    return "; ".join(shown) or "-"


def _rows(blended: Blended) -> str:
    return f"{len(blended.base_models.labels):,} rows"


def _gap(difference: Difference) -> str:
    return f"{difference.per_20k:+.1f} ± {difference.standard_error:.1f}"


def subtitle(blended: Blended) -> str:
    """Return a line that says what was blended and how it was scored."""
    return (
        f"{blended.method.name} of {', '.join(blended.base_models.names)}; out-of-fold, "
        f"cross-fitted, rule {blended.rule.name}, {_rows(blended)}"
    )
