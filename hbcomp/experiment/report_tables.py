"""The tables and pictures of a report that runs, blends and imported experiments share."""

import json
from collections.abc import Sequence

from hbcomp.data.dataset import Dataset
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import Report, as_json, oof_answers
from hbcomp.reporting import pages
from hbcomp.reporting.figures import runs as pictures
from hbcomp.scoring.by_class import confusion
from hbcomp.scoring.choice import RuleResult
from hbcomp.scoring.decision import Clip
from hbcomp.scoring.metrics import Metric
from hbcomp.scoring.paired import as_text
from hbcomp.scoring.row_metrics import RowMetric


def rule_table(report: Report) -> pages.Table:
    """Return the rules side by side."""
    title = f"Out-of-fold {report.metric_in_words} by rule, {report.data.n_train:,} rows"
    header = ["rule", "in-sample", "cross-fitted", "against chosen"]
    rows = [
        [
            f"{rule.name} (chosen)" if rule.name == report.chosen.name else rule.name,
            as_text(rule.in_sample),
            as_text(rule.cross_fitted),
            f"{as_text(rule.against_chosen, '+')} ± {as_text(rule.against_chosen_standard_error)}",
        ]
        for rule in report.rules
    ]
    return pages.Table(title, header, rows)


def class_table(report: Report) -> pages.Table:
    """Return what each true class contributes to the score."""
    names = report.metric.classes
    rows = [
        [
            names[row.label] if row.label < len(names) else str(row.label),
            f"{row.n_rows:,}",
            as_text(row.share),
            as_text(row.mean),
            f"{row.recall:.4f}",
            f"{row.n_none:,}",
        ]
        for row in report.by_class
    ]
    header = ["class", "rows", "share of score", "mean", "recall", "answered none"]
    return pages.Table("By true class, under the chosen rule, cross-fitted", header, rows)


def probs_pictures(
    metric: Metric,
    predictions: Predictions,
    rules: Sequence[RuleResult],
    chosen: RuleResult,
    classes: Sequence[str],
) -> list[pages.Picture]:
    """Return pictures of the confusion, of thresholds where there are any, and of reliability."""
    oof, labels = predictions.oof_probs, predictions.labels
    answers = oof_answers(metric, predictions, chosen.name)
    return [
        pages.Picture(
            "confusion",
            pictures.confusion(confusion(answers, labels), classes),
            f"Out-of-fold confusion under rule {chosen.name}, cross-fitted: true classes in rows, "
            "answered classes in columns; none is an answer of zeros, which names no class.",
        ),
        *_threshold_pictures(metric, predictions, rules),
        pages.Picture(
            "reliability",
            pictures.reliability(
                oof, labels, predictions.test_probs if len(predictions.test_ids) else None
            ),
            "Are the probabilities frequencies? And how confident are the averaged test "
            "probabilities beside the out-of-fold ones?",
        ),
    ]


def _threshold_pictures(
    metric: Metric, predictions: Predictions, rules: Sequence[RuleResult]
) -> list[pages.Picture]:
    """Return a picture of clipping at every pair of thresholds, where a metric has such rules."""
    points = {
        rule.name: (rule.rule.lo, rule.rule.hi) for rule in rules if isinstance(rule.rule, Clip)
    }
    if not points or not isinstance(metric, RowMetric):
        return []
    return [
        pages.Picture(
            "thresholds",
            pictures.threshold_landscape(
                predictions.oof_probs,
                predictions.labels,
                {**points, "half": (0.5, 0.5)},
                metric.scale,
            ),
            "Out-of-fold score of one threshold, and of clipping at two (in-sample).",
        )
    ]


def costliest_picture(
    predictions: Predictions, chosen: RuleResult, train: Dataset
) -> pages.Picture:
    """Return a picture of the rows that cost most."""
    figure = pictures.costliest_rows(
        train.signals,
        predictions.labels,
        predictions.oof_probs,
        chosen.rows.losses,
        train.ids,
        classes=train.classes,
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
            f"{as_text(each.gain, '+')} ± {as_text(each.gain_standard_error)}",
            as_text(each.disagreement.oof),
            as_text(each.disagreement.test),
            "yes" if each.is_accepted else "no",
        ]
        for each in report.transferability
    ]
    confidence = report.shift.confidence
    note = (
        f"Mean confidence {confidence.oof:.4f} out of fold, {confidence.test:.4f} on the "
        f"{report.data.n_test:,} test rows. The gain is that over the better fixed rule, "
        "cross-fitted. The disagreement is how far the two rules' answers lie apart, the most that "
        "can be won or lost. Where it changes by more than the gain, auto does not take the rule."
    )
    header = ["rule", "gain", "disagreement out of fold", "on the test rows", "accepted"]
    title = "Transferability: which rules are accepted for the test rows"
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
