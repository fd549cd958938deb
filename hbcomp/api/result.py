"""The result of a finished experiment, read from its folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from hbcomp.experiment.finish import provenance_of
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import Report, read_report, scores_in_words
from hbcomp.scoring.decision import most_likely
from hbcomp.submissions.files import write_submission
from hbcomp.system.command import as_library
from hbcomp.system.errors import InputError


@dataclass(frozen=True, eq=False)
class Result:
    """The score and the probabilities of an experiment; `run` is the name of its folder.

    The score is that of all out-of-fold rows under the chosen rule, cross-fitted, and its standard
    error that of the row sample. `oof_probs` has a row per training row and `test_probs` one per
    test row, columns in the order of `classes`. `answers` are what is submitted: the test
    probabilities after the rule.
    """

    run: str
    score: float
    standard_error: float
    metric: str
    rule: str
    classes: Shaped[np.ndarray, " k"]
    labels: Int64[np.ndarray, " n"]
    oof_probs: Float64[np.ndarray, "n k"]
    fold_of_row: Int64[np.ndarray, " n"]
    test_ids: Shaped[np.ndarray, " m"]
    test_probs: Float64[np.ndarray, "m k"]
    answers: Float64[np.ndarray, "m k"]
    report: Report

    @property
    def page(self) -> Path:
        """The page of the experiment, with its tables and pictures."""
        return find_run(self.run).path / "report.html"

    @property
    def predicted(self) -> Shaped[np.ndarray, " m"]:
        """The class of each test row."""
        return most_likely(self.classes, self.answers, self.test_probs)

    def submit(self, path: str | Path) -> Path:
        """Write the answers as a submission, check it, and return its path.

        A file of that name with other content is renamed. In the folder submissions/ both are
        recorded in the ledger.
        """
        report, file = self.report, Path(path)
        origin = f"{report.kind} {self.run}, on {report.data.test}"
        provenance = provenance_of(
            report, self.run, origin, len(self.labels), is_optimistic=report.is_optimistic
        )
        with as_library(has_bars=False):
            write_submission(file, self.test_ids, self.answers, provenance, report.form)
        return file

    def __repr__(self) -> str:
        return f"Result({self.run!r}: {scores_in_words(self.report)})"


def read_result(run: RunFolder, classes: Shaped[np.ndarray, " k"] | None = None) -> Result:
    """Return the result of a finished experiment; an unfinished one is an InputError.

    The classes are those given, or else their names.
    """
    report, predictions = read_report(run.report_file), Predictions.load(run.predictions_file)
    names = np.array(report.metric.classes)
    if classes is not None and len(classes) != len(names):
        raise InputError(
            f"{run.path}: there are {len(names)} classes, but {len(classes)} are given"
        )
    return Result(
        run=run.name,
        score=report.score,
        standard_error=report.standard_error,
        metric=report.metric.config.name,
        rule=report.chosen.name,
        classes=names if classes is None else classes,
        labels=predictions.labels,
        oof_probs=predictions.oof_probs,
        fold_of_row=predictions.fold_of_row,
        test_ids=predictions.test_ids,
        test_probs=predictions.test_probs,
        answers=report.chosen.rule.apply(predictions.test_probs),
        report=report,
    )
