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
    """Return each member's weight, or None where the method has none."""
    weights = getattr(blended.method.combination, "weights", None)
    return None if weights is None else list(weights)


def tables(blended: Blended, report: Report) -> list[Table]:
    """Return what a person wants to see of a blend, the result last."""
    return [
        _method_table(blended),
        _member_table(blended),
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
    title = f"Blends of {len(blended.members.names)} members by method, {_rows(blended)}, rule half"
    header = ["method", "what it is", "in-sample", "cross-fitted", "against chosen", "seconds"]
    note = (
        "Each row is blended by weights fitted without its fold. That the best of these was taken "
        "is not counted, nor, below, that calibration and rule saw blends of the other folds."
        if blended.members.has_same_folds
        else (
            "The members have different folds, so methods that fit weights were left out; rules "
            f"and calibration are cross-fitted over the folds of {blended.members.names[0]}."
        )
    )
    return Table(title, header, rows, note)


def _member_table(blended: Blended) -> Table:
    names = blended.members.names
    weights = weights_of(blended)
    rows = [
        [
            single.name,
            f"{single.half.per_20k:.1f}",
            f"{single.cross_fitted.per_20k:.1f}",
            single.rule,
            "-" if weights is None else f"{weights[place]:.3f}",
            _gap(blended.without[place]),
        ]
        for place, single in enumerate(blended.singles)
    ]
    header = ["member", "half", "under its rule", "rule", "weight", "blend without it"]
    note = (
        "Abs-sum per 20k, cross-fitted. Without it: what the blend, fitted again by the same "
        "method, costs more under rule half; above zero the member helps."
    )
    return Table(f"The {len(names)} members, {_rows(blended)}", header, rows, note)


def _pair_tables(blended: Blended) -> list[Table]:
    names, oof = blended.members.names, blended.members.oof
    differ, mended = disagreement(oof), repairs(oof, blended.members.labels)
    share = [
        [name, *(f"{100 * value:.2f} %" for value in row)]
        for name, row in zip(names, differ, strict=True)
    ]
    count = [
        [name, *(f"{value:,}" for value in row)] for name, row in zip(names, mended, strict=True)
    ]
    return [
        Table("Rows on which the most probable classes of two members differ", ["", *names], share),
        Table(
            "Who repairs whose errors",
            ["wrong", *names],
            count,
            "Rows whose most probable class is wrong by the member at the left and right by that "
            "above.",
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
    header = ["calibration", "parameters", "log loss", "half", "against chosen"]
    return Table("Calibration of the blend, cross-fitted", header, rows)


def _parameters(values: dict[str, Any]) -> str:
    shown = [
        f"{name} {', '.join(f'{number:.2f}' for number in np.atleast_1d(value))}"
        for name, value in values.items()
    ]
    return "; ".join(shown) or "-"


def _rows(blended: Blended) -> str:
    return f"{len(blended.members.labels):,} rows"


def _gap(difference: Difference) -> str:
    return f"{difference.per_20k:+.1f} ± {difference.standard_error:.1f}"


def subtitle(blended: Blended) -> str:
    """Return in a line what was blended, and how it was scored."""
    return (
        f"{blended.method.name} of {', '.join(blended.members.names)}; out-of-fold, "
        f"cross-fitted, rule {blended.rule.name}, {_rows(blended)}"
    )
