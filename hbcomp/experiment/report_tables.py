"""The tables and pictures of a report that runs, blends and imported experiments share."""

import json
from collections.abc import Sequence

from hbcomp.data.dataset import Dataset
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import Report, as_json, oof_answers
from hbcomp.reporting import pages
from hbcomp.reporting.figures import runs as pictures
from hbcomp.scoring import metrics
from hbcomp.scoring.choice import RuleResult
from hbcomp.scoring.decision import Clip


def rule_table(report: Report) -> pages.Table:
    """Return the rules side by side."""
    title = (
        f"Out-of-fold abs-sum per 20k rows by rule, {report.data.n_train:,} rows (lower is better)"
    )
    header = ["rule", "in-sample", "cross-fitted", "per row", "against chosen"]
    rows = [
        [
            f"{rule.name} (chosen)" if rule.name == report.chosen.name else rule.name,
            f"{rule.in_sample.per_20k:.1f}",
            f"{rule.cross_fitted.per_20k:.1f}",
            f"{rule.cross_fitted.mean:.5f}",
            f"{rule.against_chosen_per_20k:+.1f} ± {rule.against_chosen_standard_error:.1f}",
        ]
        for rule in report.rules
    ]
    return pages.Table(title, header, rows)


def class_table(report: Report) -> pages.Table:
    """Return what each true class costs."""
    rows = [
        [
            str(row.label),
            f"{row.n_rows:,}",
            f"{row.total:.1f}",
            f"{row.mean:.5f}",
            f"{row.recall:.4f}",
            f"{row.n_none:,}",
        ]
        for row in report.by_class
    ]
    header = ["class", "rows", "abs-sum", "per row", "recall", "answered none"]
    return pages.Table("By true class, under the chosen rule, cross-fitted", header, rows)


def probs_pictures(
    predictions: Predictions, rules: Sequence[RuleResult], chosen: RuleResult
) -> list[pages.Picture]:
    """Return pictures of the chosen rule's confusion, of thresholds and of reliability."""
    oof, labels = predictions.oof_probs, predictions.labels
    points = {
        rule.name: (rule.rule.lo, rule.rule.hi) for rule in rules if isinstance(rule.rule, Clip)
    } | {"half": (0.5, 0.5)}
    return [
        pages.Picture(
            "confusion",
            pictures.confusion(metrics.confusion(oof_answers(predictions, chosen.name), labels)),
            f"Out-of-fold confusion under rule {chosen.name}, cross-fitted: true classes in rows, "
            "answered classes in columns; none is an answer of zeros, which names no class.",
        ),
        pages.Picture(
            "thresholds",
            pictures.threshold_landscape(oof, labels, points),
            "Out-of-fold cost of one threshold, and of clipping at two (in-sample).",
        ),
        pages.Picture(
            "reliability",
            pictures.reliability(
                oof, labels, predictions.test_probs if len(predictions.test_ids) else None
            ),
            "Are the probabilities frequencies? And how confident are the averaged test "
            "probabilities beside the out-of-fold ones?",
        ),
    ]


def costliest_picture(
    predictions: Predictions, chosen: RuleResult, train: Dataset
) -> pages.Picture:
    """Return a picture of the rows that cost most."""
    figure = pictures.costliest_rows(
        train.signals, predictions.labels, predictions.oof_probs, chosen.costs, train.ids
    )
    caption = "The rows that cost most, under the chosen rule, cross-fitted."
    return pages.Picture("costliest", figure, caption)


def provenance_table(report: Report, *sections: str) -> pages.Table:
    """Return these sections of a report, value by value."""
    values = as_json(report)
    rows = [
        [f"{section}.{key}", value if isinstance(value, str) else json.dumps(value)]
        for section in sections
        for key, value in values[section].items()
    ]
    return pages.Table("Where it comes from", ["what", "value"], rows)


def transferability_tables(report: Report) -> list[pages.Table]:
    """Return which rules are accepted for the test rows; no table where there are no such rows."""
    if not report.shift:
        return []
    rows = [
        [
            each.name,
            f"{each.gain_per_20k:+.1f} ± {each.gain_standard_error:.1f}",
            f"{each.disagreement_per_20k.oof:.1f}",
            f"{each.disagreement_per_20k.test:.1f}",
            "yes" if each.is_accepted else "no",
        ]
        for each in report.transferability
    ]
    confidence = report.shift.confidence
    note = (
        f"Mean confidence {confidence.oof:.4f} out of fold, {confidence.test:.4f} on the "
        f"{report.data.n_test:,} test rows. The gain is that over the better of half and argmax, "
        "cross-fitted. The disagreement is how far the two rules' answers lie apart, the most that "
        "can be won or lost. Where it changes by more than the gain, auto does not take the rule."
    )
    header = ["rule", "gain", "disagreement out of fold", "on the test rows", "accepted"]
    title = "Transferability: which rules are accepted for the test rows, per 20k rows"
    return [pages.Table(title, header, rows, note)]


def selection_bias(name: str, selected: Sequence[str]) -> str:
    """Return in a sentence that choices were made on the scored rows; nothing without any."""
    if not selected:
        return ""
    *most, last = selected
    what = f"{', '.join(most)} and {last}" if most else last
    verb = "were" if most or last.endswith("s") else "was"
    return (
        f"The {what} {verb} chosen for {name} on these very rows, which makes its score here "
        "too good (selection bias); the standard error does not count that."
    )
