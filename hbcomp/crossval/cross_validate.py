"""The main job, in order: cross-validate, answer, check, write, report."""

from pathlib import Path
from typing import Any

from hbcomp.crossval.loop import Outcome, cross_validate
from hbcomp.crossval.pseudo_labels import write_pseudo_rows
from hbcomp.crossval.run_page import draw, print_tables, profile_table, summarise, write_report
from hbcomp.crossval.training_data import load_training_data
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import write_predictions
from hbcomp.experiment.report_tables import scores_by_rule, standard_error
from hbcomp.experiment.setup import Asked, state_config
from hbcomp.reporting.pages import print_table
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance, write_submission
from hbcomp.submissions.ledger import read_ledger
from hbcomp.system.command import console
from hbcomp.system.stopwatch import Stopwatch


def run(
    asked: Asked, watch: Stopwatch, *, n_jobs: int | None, force: bool, has_profile: bool
) -> dict[str, Any]:
    """Run the main job and return the numbers of its last line.

    Configuration, beats and folds are checked before anything is written.
    """
    config, run = asked.config, asked.run
    with watch.phase("read"):
        training_data = load_training_data(config)
    with locked(run):
        if training_data.test:
            read_ledger(FOLDER)  # a damaged one is refused now, not after hours of training
        state_config(asked, force=force)
        outcome = cross_validate(config, training_data, run, watch, n_jobs=n_jobs, force=force)
        with watch.phase("write"):
            run.discard_outputs()
            _write_predictions(outcome, run)
            submission = _submit(outcome, run, config.data.id_column)
        with watch.phase("draw"):
            drawn = draw(outcome, run)
        seconds = watch.total()
        summary = summarise(outcome, config, run, seconds, watch.seconds)
        write_report(summary, drawn, run)
        run.write_manifest()
    print_tables(summary, console)
    if has_profile:
        print_table(profile_table(summary), console)
    return {
        "experiment": run.name,
        "n_rows": outcome.training_data.train.n_rows,
        "n_folds_trained": outcome.n_trained,
        "rule": outcome.chosen.name,
        "oof_per_20k": scores_by_rule(outcome.rules),
        "accuracy": summary["accuracy"],
        "seconds": round(seconds, 1),
        "seconds_by_phase": {name: round(each, 2) for name, each in watch.seconds.items()},
        "submission": str(submission) if submission else None,
        "report": str(run.path / "report.html"),
    }


def _write_predictions(outcome: Outcome, run: RunFolder) -> None:
    predictions = outcome.predictions
    write_predictions(run.path, predictions)
    if outcome.training_data.pseudo:
        of_fold = outcome.training_data.pseudo.of_fold
        rows_of_net = [(seed, fold, rows) for (seed, fold), rows in of_fold.items()]
        write_pseudo_rows(run.path / "pseudo.csv", predictions.test_ids, rows_of_net)


def _submit(outcome: Outcome, run: RunFolder, id_column: str) -> Path | None:
    test, chosen = outcome.training_data.test, outcome.chosen
    if not test:
        return None
    path = FOLDER / f"{run.name}.csv"
    provenance = Provenance(
        source=run.name,
        recipe=f"cv of {len(outcome.results)} nets, on {test.source}",
        rule=chosen.name,
        expected_per_20k=chosen.cross_fitted.per_20k,
        standard_error=standard_error(chosen.costs),
        n_scored=len(chosen.costs),
    )
    answers = chosen.rule.apply(outcome.predictions.test_probs)
    write_submission(path, outcome.predictions.test_ids, answers, provenance, id_column)
    return path
