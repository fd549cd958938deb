"""What out-of-fold probabilities are worth: the numbers and tables every report shares."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float64

from hbcomp import pages
from hbcomp.data.load import Data
from hbcomp.predictions import Predictions
from hbcomp.scoring import metrics
from hbcomp.scoring.choice import RuleResult
from hbcomp.scoring.paired import paired_difference

Summary = Mapping[str, Any]


def scorecard(
    predictions: Predictions, rules: Sequence[RuleResult], chosen: RuleResult
) -> dict[str, Any]:
    """Return every rule's scores, the chosen one, accuracy, classes and confusion as JSON values.

    `rules` are those of `evaluate_rules` on the predictions; the classes are scored under the
    chosen rule fitted on all rows, the confusion by the most probable class.
    """
    labels, oof = predictions.labels, predictions.oof_probs
    answers = chosen.rule.apply(oof)
    return {
        "rules": [_rule_numbers(rule, chosen) for rule in rules],
        "chosen": {"name": chosen.name, "rule": chosen.rule.model_dump(mode="json")},
        "expected_per_20k": chosen.cross_fitted.per_20k,
        "expected_standard_error": standard_error(chosen.costs),
        "accuracy": metrics.accuracy(oof, labels),
        "by_class": [asdict(row) for row in metrics.abs_sum_by_class(answers, labels)],
        "confusion": metrics.confusion(oof, labels).tolist(),
    }


def data_numbers(data: Data) -> dict[str, Any]:
    """Return which beats were used: their files, sizes and fingerprints."""
    train, test = data.train, data.test
    return {
        "train": train.source,
        "test": test.source if test else None,
        "n_train": train.n_rows,
        "n_test": test.n_rows if test else 0,
        "n_timepoints": train.n_timepoints,
        "n_classes": train.n_classes,
        "fingerprint_train": train.fingerprint,
        "fingerprint_test": test.fingerprint if test else None,
    }


def _rule_numbers(rule: RuleResult, chosen: RuleResult) -> dict[str, Any]:
    against = paired_difference(rule.costs, chosen.costs)
    return {
        "name": rule.name,
        "rule": rule.rule.model_dump(mode="json"),
        "in_sample": rule.in_sample.to_json(),
        "cross_fitted": rule.cross_fitted.to_json(),
        "against_chosen_per_20k": against.per_20k,
        "against_chosen_standard_error": against.standard_error,
    }


def standard_error(costs: Float64[np.ndarray, " n"]) -> float:
    """Return the standard error of a score per 20k rows that comes from which rows were drawn."""
    return float(costs.std(ddof=1) / len(costs) ** 0.5 * metrics.ROWS_OF_THE_LEADERBOARD)


def rule_table(summary: Summary) -> pages.Table:
    """Return the rules side by side."""
    title = (
        f"Out-of-fold abs-sum per 20k rows by rule, {summary['data']['n_train']:,} rows "
        "(lower is better)"
    )
    header = ["rule", "in-sample", "cross-fitted", "per row", "against chosen"]
    rows = [
        [
            f"{rule['name']} (chosen)"
            if rule["name"] == summary["chosen"]["name"]
            else rule["name"],
            f"{rule['in_sample']['per_20k']:.1f}",
            f"{rule['cross_fitted']['per_20k']:.1f}",
            f"{rule['cross_fitted']['mean']:.5f}",
            f"{rule['against_chosen_per_20k']:+.1f} ± {rule['against_chosen_standard_error']:.1f}",
        ]
        for rule in summary["rules"]
    ]
    return pages.Table(title, header, rows)


def class_table(summary: Summary) -> pages.Table:
    """Return what each true class costs."""
    rows = [
        [
            str(row["label"]),
            f"{row['n_rows']:,}",
            f"{row['total']:.1f}",
            f"{row['mean']:.5f}",
            f"{row['recall']:.4f}",
        ]
        for row in summary["by_class"]
    ]
    header = ["class", "rows", "abs-sum", "per row", "recall"]
    return pages.Table("By true class, under the chosen rule fitted on all rows", header, rows)


def expectation(summary: Summary) -> str:
    """Return in a sentence what the leaderboard is expected to say."""
    return (
        f"answers by rule {summary['chosen']['name']!r}: expected "
        f"{summary['expected_per_20k']:.1f} ± {summary['expected_standard_error']:.1f} per 20k "
        "rows (out-of-fold, cross-fitted, ± one standard error of the row sample); "
        f"accuracy {summary['accuracy']:.4f}"
    )
