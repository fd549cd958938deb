"""The report, the tables and the pictures of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import cast

import numpy as np
import pandas as pd
from rich.console import Console

from hbcomp.competitions.load import layout_of
from hbcomp.crossval.fold import WATCHED
from hbcomp.crossval.loop import Outcome
from hbcomp.crossval.training_data import TrainingData
from hbcomp.experiment import stored_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import FoldResult, Predictions
from hbcomp.experiment.report import (
    EPOCHS,
    Computed,
    Environment,
    FoldScore,
    PseudoRowNumbersOfNet,
    Report,
    Scorecard,
    data_numbers,
    scorecard,
    scores_in_words,
)
from hbcomp.experiment.report_tables import (
    class_table,
    costliest_picture,
    probs_pictures,
    provenance_table,
    rule_table,
    transferability_tables,
)
from hbcomp.reporting import pages
from hbcomp.reporting.figures import runs as pictures
from hbcomp.scoring.by_class import accuracy
from hbcomp.scoring.choice import RULES
from hbcomp.scoring.metrics import Metric, describe_metric
from hbcomp.scoring.paired import as_text
from hbcomp.submissions.ledger import OPTIMISTIC
from hbcomp.system.environment import machine, peak_memory_mib


def scorecard_of(outcome: Outcome) -> Scorecard:
    """Return the scores of a cross-validation."""
    training_data = outcome.training_data
    return scorecard(
        training_data.metric_spec,
        training_data.metric,
        outcome.predictions,
        outcome.rules,
        outcome.chosen,
    )


def make_report(
    outcome: Outcome,
    card: Scorecard,
    config: Config,
    run: RunFolder,
    seconds: float,
    seconds_by_phase: Mapping[str, float],
) -> Report:
    """Return everything that was measured."""
    report = Report(
        **dict(card),
        experiment=run.name,
        kind="run",
        own_form=outcome.training_data.form,
        config=config.model_dump(mode="json", exclude_none=True),
        data=data_numbers(outcome.training_data.train, outcome.training_data.test).model_copy(
            update={
                "duplicates": outcome.training_data.duplicates,
                "padding_value": layout_of(config.data).padding_value,
            }
        ),
        environment=_environment(outcome, seconds),
        folds=tuple(
            fold_score(
                outcome.training_data.metric, outcome.predictions, run, each, outcome.chosen.name
            )
            for each in outcome.results
        ),
        pseudo=_pseudo_rows(outcome.training_data),
        seconds_by_phase=dict(seconds_by_phase),
    )
    if config.train.early_stopping.is_on_scored_fold:
        report = report.model_copy(update={"selected": (EPOCHS,)})
    return report


def fold_score(
    metric: Metric, predictions: Predictions, run: RunFolder, result: FoldResult, chosen: str
) -> FoldScore:
    """Return one net's scores on its own held-out rows; fitted rules saw the other rows only.

    The accuracy is that of its answers under the chosen rule.
    """
    labels, oof = predictions.labels, predictions.oof_probs
    is_other = np.ones(len(labels), dtype=bool)
    is_other[result.valid_idx] = False
    truth = labels[result.valid_idx]
    valid_probs = result.valid_probs.astype(np.float64)
    answers_by = {
        name: RULES[name](metric, oof[is_other], labels[is_other]).apply(valid_probs)
        for name in metric.rules
    }
    history = stored_folds.load_history(run, result.seed, result.fold)
    score = FoldScore(
        seed=result.seed,
        fold=cast(int, result.fold),  # only nets with held-out rows are scored
        n_rows=len(truth),
        scores={name: metric.score(answers, truth) for name, answers in answers_by.items()},
        accuracy=accuracy(answers_by[chosen], truth),
        last_loss=float(history["loss"].iloc[-1]),
        train_seconds=float(history["seconds"].sum()),
        n_threads=int(history["n_threads"].iloc[-1]),
    )
    return score.model_copy(update=_epochs(history))


def _epochs(history: pd.DataFrame) -> dict[str, int]:
    """Return how many epochs a net trained and which it was taken from, under early stopping."""
    if WATCHED not in history:
        return {}
    best = int(history[WATCHED].argmin())
    return {"n_epochs": len(history), "best_epoch": int(history["epoch"].iloc[best])}


def _pseudo_rows(training_data: TrainingData) -> tuple[PseudoRowNumbersOfNet, ...]:
    """Return how many rows each net was given under pseudo-labels; nothing where that is off."""
    if training_data.pseudo is None:
        return ()
    n_classes = training_data.train.n_classes
    return tuple(
        PseudoRowNumbersOfNet(seed=seed, fold=fold, **rows.numbers(n_classes))
        for (seed, fold), rows in training_data.pseudo.of_fold.items()
    )


def _environment(outcome: Outcome, seconds: float) -> Environment:
    return Environment(
        **asdict(machine()),
        compute=Computed(**asdict(outcome.resources.compute)),
        n_jobs=outcome.resources.n_jobs,
        seconds_of_this_call=seconds,
        n_folds_trained_by_this_call=outcome.n_trained,
        peak_memory_mib=peak_memory_mib(),
    )


def print_tables(report: Report, console: Console) -> None:
    """Print the rules side by side and the folds below each other."""
    for table in (rule_table(report), _fold_table(report)):
        pages.print_table(table, console)
    console.print(scores_in_words(report))


def _fold_table(report: Report) -> pages.Table:
    names = [rule.name for rule in report.rules]
    stops = any(fold.n_epochs for fold in report.folds)
    header = ["fold", "rows", *names, "accuracy", *(["best epoch"] if stops else [])]
    header += ["train s", "threads"]
    rows = [
        [
            f"{fold.seed}-{fold.fold}",
            f"{fold.n_rows:,}",
            *(as_text(fold.scores[name]) for name in names),
            f"{fold.accuracy:.4f}",
            *([f"{fold.best_epoch} of {fold.n_epochs}"] if stops else []),
            f"{fold.train_seconds:.0f}",
            str(fold.n_threads or "-"),
        ]
        for fold in report.folds
    ]
    overall = [as_text(rule.cross_fitted) for rule in report.rules]
    n_rows = f"{report.data.n_train:,}"
    seconds = f"{sum(fold.train_seconds for fold in report.folds):.0f}"
    between = [""] if stops else []
    rows.append(["all", n_rows, *overall, f"{report.accuracy:.4f}", *between, seconds, ""])
    title = f"Each net on its held-out fold (seed-fold), {report.metric_in_words}, cross-fitted"
    return pages.Table(title, header, rows)


def _pseudo_tables(report: Report) -> list[pages.Table]:
    if not report.pseudo:
        return []
    pseudo, n_test = report.config["pseudo"], report.data.n_test
    classes = [f"class {report.metric.classes[row.label]}" for row in report.by_class]
    rows = [
        [
            f"{net.seed}-{net.fold}",
            f"{net.n_rows:,}",
            *(f"{count:,}" for count in net.by_class),
            "-" if net.agreement is None else f"{net.agreement:.4f}",
        ]
        for net in report.pseudo
    ]
    title = (
        f"Pseudo-labelled rows of each net (seed-fold), of {n_test:,} test rows: where "
        f"{', '.join(pseudo['runs'])} all give one class at least {pseudo['min_prob']:g}"
    )
    note = (
        "Agreement: the share of all test rows that all of them put into the same class. Their "
        "probabilities are those of the nets that held out the same fold, so no net learns from "
        "the labels it is scored on. Scores are of labelled rows only."
    )
    return [pages.Table(title, ["net", "rows", *classes, "agreement"], rows, note)]


def profile_table(report: Report) -> pages.Table:
    """Return where the time of the call went; folds that were stored already took none."""
    by_phase, n_jobs = report.seconds_by_phase, report.environment.n_jobs
    total = report.environment.seconds_of_this_call or 0.0
    rows = [[name, f"{seconds:.2f}"] for name, seconds in by_phase.items()]
    if n_jobs == 1:
        rows.append(["other", f"{total - sum(by_phase.values()):.2f}"])
    rows.append(["this call", f"{total:.2f}"])
    summed = f", summed over {n_jobs} processes" if n_jobs > 1 else ""
    return pages.Table(f"Seconds by phase{summed}", ["phase", "seconds"], rows)


def sections(report: Report, drawn: Sequence[pages.Picture]) -> list[pages.Section]:
    """Return what the page shows: the score under every rule, pictures, then the other tables."""
    return [
        rule_table(report),
        *drawn,
        *transferability_tables(report),
        _fold_table(report),
        class_table(report),
        *_pseudo_tables(report),
        profile_table(report),
        provenance_table(report, "environment", "config", "data"),
    ]


def subtitle(report: Report) -> str:
    """Return in a line what was scored, and how."""
    grouped = f", grouped by {report.grouped_by}" if report.grouped_by else ""
    return (
        f"out-of-fold, cross-fitted, rule {report.chosen.name}, {report.data.n_train:,} rows, "
        f"{len(report.folds)} nets{grouped}"
        + (f"; optimistic: {OPTIMISTIC}" if report.is_optimistic else "")
    )


def draw(outcome: Outcome, run: RunFolder) -> list[pages.Picture]:
    """Return the pictures of the page."""
    metric = outcome.training_data.metric
    described = describe_metric(metric)
    histories = {}
    for seed, fold in outcome.training_data.fold_keys:
        history = stored_folds.load_history(run, seed, fold)
        histories[f"{seed}-{fold}"] = {
            name: history[name].to_numpy(dtype=np.float64) for name in history.columns
        }
    return [
        pages.Picture(
            "curves",
            pictures.training_curves(histories, described),
            f"Training loss, and {described} of the held-out fold under rule {metric.rules[0]}, by "
            "epoch.",
        ),
        *probs_pictures(
            metric,
            outcome.predictions,
            outcome.rules,
            outcome.chosen,
            outcome.training_data.train.classes,
        ),
        costliest_picture(outcome.predictions, outcome.chosen, outcome.training_data.train),
    ]
