"""The end of every experiment: which files are written, and in which order.

Without report.json an experiment is unfinished, and without manifest.json it is not damaged. Both
are deleted before the first output changes and written after the last one, so a process may be
killed at any moment: the same command, given again, completes the experiment.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Shaped

from hbcomp.competitions.submission_form import SubmissionForm
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Predictions, write_predictions
from hbcomp.experiment.report import Refit, Report, Scorecard, write_part
from hbcomp.reporting import pages
from hbcomp.reporting.links import links_from
from hbcomp.reporting.pages import Section
from hbcomp.scoring.choice import RuleResult
from hbcomp.scoring.paired import as_text
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance, write_submission


def write_answers(
    run: RunFolder,
    predictions: Predictions,
    chosen: RuleResult,
    card: Scorecard,
    recipe: str,
    form: SubmissionForm,
    *,
    is_optimistic: bool = False,
) -> str | None:
    """Replace an experiment's outputs by new predictions and return their submission's path.

    The submission holds the chosen rule's answers to the test rows, and `recipe` describes their
    origin in the ledger, with a mark where the score is too good because early stopping watched the
    scored rows. Without test rows there is no submission.
    """
    run.discard_outputs()
    write_predictions(run.path, predictions, form.classes)
    n_scored = len(predictions.labels)
    provenance = provenance_of(card, run.name, recipe, n_scored, is_optimistic=is_optimistic)
    answers = chosen.rule.apply(predictions.test_probs)
    return submit(run.name, predictions.test_ids, answers, provenance, form)


def provenance_of(
    card: Scorecard, source: str, recipe: str, n_scored: int, *, is_optimistic: bool
) -> Provenance:
    """Return what the ledger says of the answers of a scored experiment to its own test rows."""
    expected = card.expected
    return Provenance(
        source=source,
        recipe=recipe,
        rule=card.chosen.name,
        metric=card.metric.config.name,
        better=card.better,
        out_of_fold=card.score,
        standard_error=card.standard_error,
        n_scored=n_scored,
        expected=expected.value if expected else None,
        low=expected.low if expected else None,
        high=expected.high if expected else None,
        is_optimistic=is_optimistic,
    )


def submit(
    name: str,
    ids: Shaped[np.ndarray, " m"],
    answers: Float64[np.ndarray, "m k"],
    provenance: Provenance,
    form: SubmissionForm,
) -> str | None:
    """Write the submission of that name and return its path, or None where there are no rows."""
    if not len(ids):
        return None
    path = FOLDER / f"{name}.csv"
    write_submission(path, ids, answers, provenance, form)
    return str(path)


def write_report(run: RunFolder, report: Report, subtitle: str, sections: Sequence[Section]) -> str:
    """Write report.html, then report.json, then the manifest; return the page's path."""
    page = run.path / "report.html"
    mark = " (optimistic)" if report.is_optimistic else ""
    title = f"{run.name}: {as_text(report.score)} {report.metric.config.name}{mark}"
    links = links_from(page, [run.name, *report.base_models], run.path.parent)
    pages.write_page(page, title, f"{subtitle}{_promise(report)}", sections, links)
    write_part(run.report_file, report)
    run.write_manifest()
    return str(page)


def _promise(report: Report) -> str:
    """Return in words what the submission is expected to score."""
    expected = report.expected
    if expected is None:
        return ""
    return (
        f"; the submission is expected to score {as_text(expected.value)}, with 95 % between "
        f"{as_text(expected.low)} and {as_text(expected.high)}"
    )


def write_refit(run: RunFolder, refit: Refit) -> None:
    """Write refit.json, then the manifest."""
    write_part(run.refit_file, refit)
    run.write_manifest()
