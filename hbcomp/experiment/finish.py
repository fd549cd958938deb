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
from hbcomp.experiment.report import Refit, Report, write_part
from hbcomp.reporting import pages
from hbcomp.reporting.links import links_from
from hbcomp.reporting.pages import Section
from hbcomp.scoring.choice import RuleResult
from hbcomp.scoring.metrics import Metric
from hbcomp.scoring.paired import as_text
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance, write_submission


def write_answers(
    run: RunFolder,
    metric: Metric,
    predictions: Predictions,
    chosen: RuleResult,
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
    provenance = Provenance(
        source=run.name,
        recipe=recipe,
        rule=chosen.name,
        metric=metric.name,
        better="higher" if metric.greater_is_better else "lower",
        expected=chosen.rows.score,
        standard_error=chosen.rows.standard_error,
        n_scored=len(chosen.rows.values),
        is_optimistic=is_optimistic,
    )
    answers = chosen.rule.apply(predictions.test_probs)
    return submit(run.name, predictions.test_ids, answers, provenance, form)


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
    pages.write_page(page, title, subtitle, sections, links)
    write_part(run.report_file, report)
    run.write_manifest()
    return str(page)


def write_refit(run: RunFolder, refit: Refit) -> None:
    """Write refit.json, then the manifest."""
    write_part(run.refit_file, refit)
    run.write_manifest()
