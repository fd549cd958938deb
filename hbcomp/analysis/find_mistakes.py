"""From the name of a finished experiment to the page of its mistakes and the list of its doubts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console

from hbcomp.analysis import mistakes_page as page
from hbcomp.analysis.compare_runs import find_beats
from hbcomp.analysis.mistakes import Answered, Findings, examine
from hbcomp.blending.base_models import load_base_models
from hbcomp.blending.recipe import read_recipe
from hbcomp.experiment import stored_folds
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import Predictions, check_aligned, mean_oof
from hbcomp.experiment.report import Report, read_report
from hbcomp.reporting import pages
from hbcomp.scoring.choice import CANDIDATES
from hbcomp.scoring.confusions import check_min_prob
from hbcomp.system.errors import InputError
from hbcomp.system.files import csv_bytes, write_bytes

Probs = Float64[np.ndarray, "n k"]


def write_mistakes(
    run: RunFolder, further: Sequence[str], min_prob: float, console: Console
) -> dict[str, Any]:
    """Write mistakes.html and doubts.csv into a finished experiment's folder; return the numbers.

    `further` are experiments on the same beats whose word counts beside that of its members.
    """
    check_min_prob(min_prob)
    report = read_report(run.report_file)
    if report.chosen.name not in CANDIDATES:
        raise InputError(
            f"{run.report_file}: its rule {report.chosen.name!r} cannot be cross-fitted here; "
            f"it must be one of {', '.join(CANDIDATES)}"
        )
    predictions = Predictions.load(run.predictions_file)
    members = _members(run, report, predictions, further)
    beats = find_beats([report], predictions.train_fingerprint)
    answered = Answered(run.name, report.chosen.name, predictions)
    findings = examine(answered, members, beats.signals, min_prob)
    written, listed = run.mistakes_file, run.doubts_file
    with locked(run):
        _write_doubts(listed, findings)
        page.write(written, findings, beats.signals)
    for table in page.printed(findings):
        pages.print_table(table, console)
    console.print(page.summary(findings))
    return {**page.numbers(findings), "page": str(written), "doubts": str(listed)}


def _members(
    run: RunFolder, report: Report, own: Predictions, further: Sequence[str]
) -> Mapping[str, Probs]:
    """Return the probabilities of a blend's members or a run's seeds, and those of `further`."""
    is_blend = run.recipe_file.exists()
    if not is_blend and not further:
        return _seeds(run, report, own)
    names = [*(read_recipe(run.recipe_file).base_models if is_blend else [run.name]), *further]
    members = load_base_models(names).predictions
    check_aligned({run.name: own, **members})
    return {name: each.oof_probs for name, each in members.items()}


def _seeds(run: RunFolder, report: Report, own: Predictions) -> dict[str, Probs]:
    """Return what each seed's nets say; the experiment's own word where the nets are not here."""
    if not report.folds or not run.stored_folds():
        return {run.name: own.oof_probs}
    results = [stored_folds.load_fold(run, None, each.seed, each.fold) for each in report.folds]
    return {
        f"seed {seed}": mean_oof(
            [each for each in results if each.seed == seed], own.oof_probs.shape
        )
        for seed in dict.fromkeys(each.seed for each in results)
    }


def _write_doubts(path: Path, findings: Findings) -> None:
    doubts, predictions = findings.doubts, findings.answered.predictions
    rows = zip(
        predictions.train_ids[doubts.rows].tolist(),
        predictions.labels[doubts.rows].tolist(),
        doubts.answers.tolist(),
        doubts.least_probs.tolist(),
        strict=True,
    )
    write_bytes(path, csv_bytes(["id", "label", "answer", "least_probability"], rows))
