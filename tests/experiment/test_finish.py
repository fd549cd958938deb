"""The one end of every experiment: the report and the manifest go first and come last."""

from types import SimpleNamespace

import pytest
from finished_experiments import write_experiment, write_files

from hbcomp.competitions.competition import metric_of
from hbcomp.experiment import finish
from hbcomp.experiment.folder import find_run
from hbcomp.experiment.manifest import read_manifest
from hbcomp.experiment.report import read_report
from hbcomp.scoring.choice import choose, evaluate_rules


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A finished experiment in the working directory, and the rule that answers."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    predictions, _ = write_experiment(tmp_path, "a")
    run = find_run("a")
    report = read_report(run.report_file)
    metric = metric_of(report.metric)
    oof, folds = predictions.oof_probs, predictions.fold_of_row
    rules = evaluate_rules(metric, oof, predictions.labels, folds)
    return SimpleNamespace(
        run=run,
        report=report,
        arguments=(run, predictions, choose(rules, "half"), report, "a recipe", report.form),
    )


def test_while_answers_are_written_there_is_neither_report_nor_manifest(made, monkeypatch):
    seen = []
    made.run.write_manifest()
    for name in ("write_predictions", "write_submission"):
        write = getattr(finish, name)

        def watched(*arguments, write=write):
            seen.append(made.run.report_file.exists() or made.run.manifest_file.exists())
            return write(*arguments)

        monkeypatch.setattr(finish, name, watched)
    assert finish.write_answers(*made.arguments) == "submissions/a.csv"
    assert seen == [False, False]


def test_the_manifest_is_written_last_and_covers_page_report_and_predictions(made):
    finish.write_answers(*made.arguments)
    assert finish.write_report(made.run, made.report, "", []) == "experiments/a/report.html"
    covered = {"oof.csv", "predictions.npz", "report.html", "report.json", "test.csv"}
    assert set(read_manifest(made.run.path)) == covered
    assert read_report(made.run.report_file) == made.report
