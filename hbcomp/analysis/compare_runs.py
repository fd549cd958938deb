"""Two experiments on the same rows: how much they differ, beyond noise or not, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from hbcomp.analysis import compare_page as page
from hbcomp.analysis.scored_rows import ScoredRows, load_train_rows
from hbcomp.competitions.competition import metric_of
from hbcomp.experiment import ROOT
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.predictions import Predictions, check_aligned, have_same_folds
from hbcomp.experiment.report import Report, read_report
from hbcomp.reporting import pages
from hbcomp.reporting.links import BETWEEN, COMPARISONS
from hbcomp.reporting.pages import Link, Picture, Text
from hbcomp.scoring.disagreement import changes
from hbcomp.scoring.metrics import Metric, describe_metric
from hbcomp.scoring.own_metric import OwnMetric
from hbcomp.scoring.paired import (
    LEVEL_OF_NOISE,
    RowScores,
    bootstrap_interval,
    mcnemar,
    paired_difference,
)
from hbcomp.scoring.row_metrics import class_name
from hbcomp.system.errors import InputError, check_name
from hbcomp.system.files import csv_bytes, write_bytes

Numbers = dict[str, Any]


def compare_experiments(run_a: RunFolder, run_b: RunFolder, rule: str, console: Console) -> Numbers:
    """Write the page and the changed rows of a comparison, print it, and return its numbers.

    Both must be finished, made on the same rows and scored by the same metric; `rule` is one for
    both, or `auto`.
    """
    if run_a == run_b:
        raise InputError(f"two experiments are compared, but got {run_a.name!r} twice")
    runs = (run_a, run_b)
    reports = [read_report(run.report_file) for run in runs]
    metric = _shared_metric(runs, reports)
    check_name("rule", rule, ("auto", *metric.rules))
    predictions = {run.name: Predictions.load(run.predictions_file) for run in runs}
    check_aligned(predictions)
    a, b = (
        ScoredRows(name, metric, _rule_of(name, metric, rule, report), each, report.metric.classes)
        for (name, each), report in zip(predictions.items(), reports, strict=True)
    )
    numbers = {
        **compare(a, b),
        "has_same_folds": have_same_folds(predictions),
        "is_grouped": [_is_grouped(report) for report in reports],
        "selected": [_selected(run, each) for run, each in zip(runs, reports, strict=True)],
    }
    changed = changed_rows(a, b)
    page_file, rows_file = _files(a.name, b.name)
    cells = changed.drop(columns="row")
    for column in ("label", "predicted_a", "predicted_b"):
        cells[column] = [class_name(label, a.classes) for label in cells[column]]
    write_bytes(rows_file, csv_bytes(cells.columns, cells.itertuples(index=False, name=None)))
    drawn = _drawn(changed, predictions)
    rows_link = Link(rows_file.name, PurePath(rows_file.name))
    page.write_page(page_file, numbers, drawn, rows_link)
    for table in page.tables(numbers):
        pages.print_table(table, console)
    console.print(page.verdict(numbers))
    for note in page.notes(numbers):
        console.print(note)
    return {**numbers, "page": str(page_file), "changed_rows": str(rows_file)}


def compare(a: ScoredRows, b: ScoredRows) -> Numbers:
    """Return the numbers of a comparison as JSON values; differences are A minus B."""
    gap = paired_difference(a.rows, b.rows)
    low, high = bootstrap_interval(a.rows, b.rows)
    right = mcnemar(a.is_right, b.is_right)
    a_test, b_test = a.test_answers, b.test_answers
    return {
        "a": _numbers_of(a),
        "b": _numbers_of(b),
        "metric": a.metric.name,
        "metric_in_words": describe_metric(a.metric),
        "n_rows": len(a.labels),
        "difference": {
            **asdict(gap),
            "low": low,
            "high": high,
            "level": LEVEL_OF_NOISE,
            "is_beyond_noise": gap.is_beyond_noise,
        },
        "by_class": _class_numbers(a, b),
        "n_both_right": int((a.is_right & b.is_right).sum()),
        "n_only_a_right": right.n_only_first,
        "n_only_b_right": right.n_only_second,
        "n_both_wrong": int((~a.is_right & ~b.is_right).sum()),
        "mcnemar_p_value": right.p_value,
        "test": changes(a.metric, a_test, b_test).to_json() if len(a_test) else None,
    }


def _numbers_of(rows: ScoredRows) -> Numbers:
    return {
        "experiment": rows.name,
        "rule": rows.rule,
        "score": rows.score,
        "standard_error": rows.rows.standard_error,
        "accuracy": float(rows.is_right.mean()),
    }


def _class_numbers(a: ScoredRows, b: ScoredRows) -> list[Numbers]:
    """Return each true class's share of both scores and of their difference.

    The other classes' rows count as zeros, so the differences of the classes add up to the whole.
    There are none under a function of one's own, where the rows of a block share a contribution.
    """
    if isinstance(a.metric, OwnMetric):
        return []
    classes = []
    for label in np.unique(a.labels).tolist():
        is_of_class = a.labels == label
        rows_a, rows_b = (
            RowScores(each.contributions * is_of_class, each.metric.greater_is_better)
            for each in (a, b)
        )
        classes.append(
            {
                "label": label,
                "name": class_name(label, a.classes),
                "n_rows": int(is_of_class.sum()),
                "share_a": rows_a.score,
                "share_b": rows_b.score,
                "difference": asdict(paired_difference(rows_a, rows_b)),
            }
        )
    return classes


def changed_rows(a: ScoredRows, b: ScoredRows) -> pd.DataFrame:
    """Return the rows that the two predict differently, the largest change first.

    The change is that of what a row contributes, whose mean over all rows is the score. `right`
    says who predicts the label: a, b or neither. `row` is the position in the data.
    """
    (rows,) = np.nonzero(a.predicted != b.predicted)
    table = pd.DataFrame(
        {
            "row": rows,
            "id": a.predictions.train_ids[rows],
            "label": a.labels[rows],
            "right": np.select([a.is_right[rows], b.is_right[rows]], ["a", "b"], "neither"),
            "predicted_a": a.predicted[rows],
            "predicted_b": b.predicted[rows],
            "contribution_a": a.contributions[rows],
            "contribution_b": b.contributions[rows],
        }
    )
    change = (table["contribution_a"] - table["contribution_b"]).abs()
    return table.loc[change.sort_values(ascending=False, kind="stable").index]


def _shared_metric(runs: Sequence[RunFolder], reports: Sequence[Report]) -> Metric:
    """Return the metric that scored all of them; others cannot be compared."""
    first, *others = reports
    if any(each.metric != first.metric for each in others):
        named = (
            f"{run.name}: {each.metric_in_words}" for run, each in zip(runs, reports, strict=True)
        )
        raise InputError(f"only scores of one metric can be compared, but got {'; '.join(named)}")
    return metric_of(first.metric)


def _rule_of(name: str, metric: Metric, wanted: str, report: Report) -> str:
    chosen = report.chosen.name if wanted == "auto" else wanted
    if chosen not in metric.rules:
        raise InputError(
            f"{name}: its rule {chosen!r} cannot be cross-fitted here; give both one with --rule"
        )
    return chosen


def _selected(run: RunFolder, report: Report) -> list[str]:
    """Return what of an experiment was chosen by the rows that it is scored on."""
    return [*(["hyperparameters"] if run.is_tuned else []), *report.selected_by_rows]


def _is_grouped(report: Report) -> bool:
    """Whether an experiment, or a base model of a blend whose report is here, held out groups."""
    files = [find_run(name).report_file for name in report.base_models]
    reports = [report, *(read_report(path) for path in files if path.exists())]
    return any(each.grouped_by for each in reports)


def _files(name_a: str, name_b: str) -> tuple[Path, Path]:
    stem = ROOT / COMPARISONS / f"{name_a}{BETWEEN}{name_b}"
    return Path(f"{stem}.html"), Path(f"{stem}.csv")


def _drawn(
    changed: pd.DataFrame, predictions: Mapping[str, Predictions]
) -> list[Picture] | list[Text]:
    """Return pictures of the changed rows' signals, or why there are none."""
    fingerprint = next(iter(predictions.values())).train_fingerprint
    try:
        train = load_train_rows(predictions, fingerprint)
    except (InputError, OSError) as error:
        return [Text(f"The waveforms are not drawn: {error}", "The rows that changed")]
    return page.pictures_of(changed, predictions, train)
