"""What out-of-fold probabilities are worth: the numbers and tables every report shares."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float64

from hbcomp.data.load import Data
from hbcomp.experiment.predictions import Predictions
from hbcomp.reporting import pages
from hbcomp.reporting.figures import runs as pictures
from hbcomp.scoring import metrics
from hbcomp.scoring.choice import CANDIDATES, RuleResult, cross_fitted_answers
from hbcomp.scoring.decision import Clip
from hbcomp.scoring.paired import paired_difference
from hbcomp.scoring.transfer import measure_shift, measure_transfers

Summary = Mapping[str, Any]


def scorecard(
    predictions: Predictions, rules: Sequence[RuleResult], chosen: RuleResult
) -> dict[str, Any]:
    """Return every rule's scores, the chosen one, accuracy, classes and confusion as JSON values.

    With test rows, also how their probabilities differ and which rules survive that. `rules` are
    those of `evaluate_rules` on the predictions; accuracy, classes and confusion are those of the
    chosen rule's cross-fitted answers.
    """
    labels, oof, test = predictions.labels, predictions.oof_probs, predictions.test_probs
    has_test = len(test) > 1
    answers = oof_answers(predictions, chosen.name)
    return {
        "rules": [_rule_numbers(rule, chosen) for rule in rules],
        "chosen": {"name": chosen.name, "rule": chosen.rule.model_dump(mode="json")},
        "expected_per_20k": chosen.cross_fitted.per_20k,
        "expected_standard_error": standard_error(chosen.costs),
        "accuracy": metrics.accuracy(answers, labels),
        "by_class": [asdict(row) for row in metrics.abs_sum_by_class(answers, labels)],
        "confusion": metrics.confusion(answers, labels).tolist(),
        "shift": measure_shift(oof, test).to_json() if has_test else None,
        "transfers": [
            {
                "name": each.name,
                "is_safe": each.is_safe,
                "gain_per_20k": each.gain.per_20k,
                "gain_standard_error": each.gain.standard_error,
                "reach_per_20k": each.reach.to_json(),
            }
            for each in (measure_transfers(rules, oof, test) if has_test else [])
        ],
    }


def oof_answers(predictions: Predictions, rule: str) -> Float64[np.ndarray, "n k"]:
    """Return the out-of-fold answers under the candidate rule of that name, cross-fitted."""
    return cross_fitted_answers(
        CANDIDATES[rule], predictions.oof_probs, predictions.labels, predictions.fold_of_row
    )


def scores_by_rule(rules: Sequence[RuleResult]) -> dict[str, dict[str, float]]:
    """Return each rule's scores per 20k rows, as the last line of a command gives them."""
    return {
        rule.name: {
            "in_sample": round(rule.in_sample.per_20k, 3),
            "cross_fitted": round(rule.cross_fitted.per_20k, 3),
        }
        for rule in rules
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
            f"{row['n_none']:,}",
        ]
        for row in summary["by_class"]
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


def transfer_tables(summary: Summary) -> list[pages.Table]:
    """Return which rules can be trusted on the test rows; no table where there are none."""
    if not summary["transfers"]:
        return []
    rows = [
        [
            each["name"],
            f"{each['gain_per_20k']:+.1f} ± {each['gain_standard_error']:.1f}",
            f"{each['reach_per_20k']['oof']:.1f}",
            f"{each['reach_per_20k']['test']:.1f}",
            "yes" if each["is_safe"] else "no",
        ]
        for each in summary["transfers"]
    ]
    confidence = summary["shift"]["confidence"]
    note = (
        f"Mean confidence {confidence['oof']:.4f} out of fold, {confidence['test']:.4f} on the "
        f"{summary['data']['n_test']:,} test rows. Gain: over the better of half and argmax, "
        "cross-fitted. Reach: how far the answers lie from it, the most that can be won or lost; "
        "where it differs by more than the gain, auto does not take the rule."
    )
    header = ["rule", "gain", "reach out of fold", "reach on test", "safe"]
    title = "Which rules the test rows can keep, per 20k rows"
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


def expectation(summary: Summary) -> str:
    """Return in a sentence what the leaderboard is expected to say."""
    n_none = sum(row["n_none"] for row in summary["by_class"])
    return (
        f"answers by rule {summary['chosen']['name']!r}: expected "
        f"{summary['expected_per_20k']:.1f} ± {summary['expected_standard_error']:.1f} per 20k "
        "rows (out-of-fold, cross-fitted, ± one standard error of the row sample); "
        f"accuracy of the answers {summary['accuracy']:.4f}"
        + (f", with {n_none:,} rows answered none, which is never right" if n_none else "")
    )
