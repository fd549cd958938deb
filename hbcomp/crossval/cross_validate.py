"""The job of `hbcomp cv` in order: read, train, decide, write, report."""

from typing import Any

from hbcomp.crossval.loop import AfterFold, cross_validate, go_on
from hbcomp.crossval.pseudo_labels import write_pseudo_rows
from hbcomp.crossval.run_page import (
    draw,
    make_report,
    print_tables,
    profile_table,
    scorecard_of,
    sections,
    subtitle,
)
from hbcomp.crossval.training_data import load_training_data
from hbcomp.data.overlap_sample import overlap_warnings
from hbcomp.experiment.finish import write_answers, write_report
from hbcomp.experiment.folder import locked
from hbcomp.experiment.report import scores_by_rule
from hbcomp.experiment.setup import Request, write_config
from hbcomp.reporting.pages import print_table, write_pictures
from hbcomp.submissions import FOLDER
from hbcomp.submissions.ledger import read_ledger
from hbcomp.system.command import console
from hbcomp.system.stopwatch import Stopwatch


def run(
    request: Request,
    watch: Stopwatch,
    *,
    n_jobs: int | None,
    force: bool,
    has_profile: bool,
    after_fold: AfterFold = go_on,
) -> dict[str, Any]:
    """Cross-validate an experiment, write its outputs, and return the numbers of the last line.

    Configuration, rows and folds are checked before anything is written. What `after_fold` raises
    stops the training; the same call goes on from there.
    """
    config, run = request.config, request.run
    with watch.phase("read"):
        training_data = load_training_data(config)
        for warning in overlap_warnings(training_data.train, training_data.first_split):
            console.print(f"warning: {warning}")
        _ = training_data.metric  # a function of one's own is read now, not after training
    with locked(run):
        if training_data.test:
            read_ledger(FOLDER)  # a damaged one is refused now, not after hours of training
        write_config(request, force=force)
        outcome = cross_validate(
            config, training_data, run, watch, n_jobs=n_jobs, force=force, after_fold=after_fold
        )
        with watch.phase("write"):
            test, card = training_data.test, scorecard_of(outcome)
            recipe = f"cv of {len(outcome.results)} nets, on {test.source if test else None}"
            submission = write_answers(
                run,
                outcome.predictions,
                outcome.chosen,
                card,
                recipe,
                training_data.form,
                is_optimistic=training_data.early_stopping.is_on_scored_fold,
            )
            if pseudo := training_data.pseudo:
                write_pseudo_rows(
                    run.path / "pseudo.csv",
                    outcome.predictions.test_ids,
                    pseudo.of_fold,
                    training_data.train.classes,
                )
        with watch.phase("draw"):
            drawn = draw(outcome, run)
            write_pictures(run.pictures_folder, drawn)
        seconds = watch.total()
        report = make_report(outcome, card, config, run, seconds, watch.seconds)
        page = write_report(run, report, subtitle(report), sections(report, drawn))
    print_tables(report, console)
    if has_profile:
        print_table(profile_table(report), console)
    return {
        "experiment": run.name,
        "n_rows": outcome.training_data.train.n_rows,
        "n_folds_trained": outcome.n_trained,
        "rule": outcome.chosen.name,
        "metric": report.metric.config.name,
        "oof_scores": scores_by_rule(outcome.rules),
        "score": report.score,
        **({"selected": list(report.selected)} if report.is_optimistic else {}),
        "expected": report.expected_numbers,
        "accuracy": report.accuracy,
        "seconds": round(seconds, 1),
        "seconds_by_phase": {name: round(each, 2) for name, each in watch.seconds.items()},
        "submission": submission,
        "report": page,
    }
