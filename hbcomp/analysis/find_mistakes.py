"""From the name of a finished experiment to its page of mistakes and its list of label issues."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console

from hbcomp.analysis import mistakes_page as page
from hbcomp.analysis.mistakes import Findings, examine
from hbcomp.analysis.scored_rows import ScoredRows, load_train_rows
from hbcomp.blending.base_models import load_base_models
from hbcomp.competitions.competition import metric_of
from hbcomp.experiment import stored_folds
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import Predictions, check_aligned, mean_oof
from hbcomp.experiment.report import Report, read_report
from hbcomp.reporting import pages
from hbcomp.scoring.confusions import check_min_prob
from hbcomp.system.errors import InputError
from hbcomp.system.files import csv_bytes, write_bytes

Probs = Float64[np.ndarray, "n k"]


def write_mistakes(
    run: RunFolder, further: Sequence[str], min_prob: float, console: Console
) -> dict[str, Any]:
    """Write mistakes.html and label_issues.csv into an experiment's folder; return the numbers.

    `further` are experiments on the same rows that must agree, too, on a label issue.
    """
    check_min_prob(min_prob)
    report = read_report(run.report_file)
    metric = metric_of(report.metric)
    if report.chosen.name not in metric.rules:
        raise InputError(
            f"{run.report_file}: its rule {report.chosen.name!r} cannot be cross-fitted here; "
            f"it must be one of {', '.join(metric.rules)}"
        )
    predictions = Predictions.load(run.predictions_file)
    models = _models(run, report, predictions, further)
    signals = load_train_rows([run.name], predictions.train_fingerprint).signals
    classes = report.metric.classes
    scored = ScoredRows(run.name, metric, report.chosen.name, predictions, classes)
    findings = examine(scored, models, signals, min_prob)
    with locked(run):
        _write_label_issues(run.label_issues_file, findings)
        page.write(run.mistakes_file, findings, signals)
    for table in page.printed(findings):
        pages.print_table(table, console)
    console.print(page.summary(findings))
    return {
        **page.numbers(findings),
        "page": str(run.mistakes_file),
        "label_issues": str(run.label_issues_file),
    }


def _models(
    run: RunFolder, report: Report, own: Predictions, further: Sequence[str]
) -> Mapping[str, Probs]:
    """Return the probabilities of a blend's base models or a run's seeds, and of `further`."""
    if not report.base_models and not further:
        return _seeds(run, report, own)
    names = [*(report.base_models or [run.name]), *further]
    models = load_base_models(names).predictions
    check_aligned({run.name: own, **models})
    return {name: each.oof_probs for name, each in models.items()}


def _seeds(run: RunFolder, report: Report, own: Predictions) -> dict[str, Probs]:
    """Return what each seed's nets predict; without the nets, what the experiment predicts."""
    if not report.folds or not run.stored_folds():
        return {run.name: own.oof_probs}
    results = [stored_folds.load_fold(run, None, each.seed, each.fold) for each in report.folds]
    return {
        f"seed {seed}": mean_oof(
            [each for each in results if each.seed == seed], own.oof_probs.shape
        )
        for seed in dict.fromkeys(each.seed for each in results)
    }


def _write_label_issues(path: Path, findings: Findings) -> None:
    issues, predictions = findings.issues, findings.scored.predictions
    rows = zip(
        predictions.train_ids[issues.rows].tolist(),
        map(findings.class_name, predictions.labels[issues.rows].tolist()),
        map(findings.class_name, issues.answers.tolist()),
        issues.least_probs.tolist(),
        strict=True,
    )
    write_bytes(path, csv_bytes(["id", "label", "predicted", "least_probability"], rows))
