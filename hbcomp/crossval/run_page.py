"""What came out of a run, as numbers (report.json), tables, pictures and a page."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from rich.console import Console

import hbcomp
from hbcomp.crossval.loop import Outcome
from hbcomp.crossval.training_data import TrainingData
from hbcomp.experiment import folder
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import FoldResult, Predictions
from hbcomp.experiment.report_tables import (
    Summary,
    class_table,
    data_numbers,
    expectation,
    probs_pictures,
    rule_table,
    scorecard,
    transfer_tables,
)
from hbcomp.reporting import pages
from hbcomp.reporting.figures import runs as pictures
from hbcomp.scoring import metrics
from hbcomp.scoring.choice import CANDIDATES
from hbcomp.system.environment import n_cores, peak_memory_mib, processor
from hbcomp.system.files import write_text


def summarise(
    outcome: Outcome,
    config: Config,
    run: RunFolder,
    seconds: float,
    seconds_by_phase: Mapping[str, float],
) -> Summary:
    """Return everything that was measured, as plain JSON values; this is report.json."""
    return {
        "experiment": run.name,
        "kind": "run",
        "config": config.model_dump(mode="json", exclude_none=True),
        "data": {
            **data_numbers(outcome.training_data),
            "duplicates": asdict(outcome.training_data.duplicates),
        },
        **scorecard(outcome.predictions, outcome.rules, outcome.chosen),
        "folds": [
            fold_numbers(outcome.predictions, run, each, outcome.chosen.name)
            for each in outcome.results
        ],
        "pseudo": _pseudo_numbers(outcome.training_data),
        "environment": _environment(outcome, seconds),
        "seconds_by_phase": dict(seconds_by_phase),
    }


def fold_numbers(
    predictions: Predictions, run: RunFolder, result: FoldResult, chosen: str
) -> dict[str, Any]:
    """Return one net's scores on its own held-out rows; fitted rules saw the other rows only.

    The accuracy is that of its answers under the chosen rule.
    """
    labels, oof = predictions.labels, predictions.oof_probs
    is_other = np.ones(len(labels), dtype=bool)
    is_other[result.valid_idx] = False
    truth = labels[result.valid_idx]
    answers_by = {
        name: fit(oof[is_other], labels[is_other]).apply(result.valid_probs)
        for name, fit in CANDIDATES.items()
    }
    history = folder.load_history(run, result.seed, result.fold)
    return {
        "seed": result.seed,
        "fold": result.fold,
        "n_rows": len(truth),
        "per_20k": {
            name: metrics.abs_sum(answers, truth).per_20k for name, answers in answers_by.items()
        },
        "accuracy": metrics.accuracy(answers_by[chosen], truth),
        "last_loss": float(history["loss"].iloc[-1]),
        "train_seconds": float(history["seconds"].sum()),
        # Not in the histories of folds from before it was stored.
        **{key: int(history[key].iloc[-1]) for key in ("n_threads",) if key in history},
    }


def _pseudo_numbers(training_data: TrainingData) -> list[dict[str, Any]]:
    """Return how many rows each net was given under pseudo-labels; nothing where that is off."""
    if training_data.pseudo is None:
        return []
    n_classes = training_data.train.n_classes
    return [
        {"seed": seed, "fold": fold, **rows.numbers(n_classes)}
        for (seed, fold), rows in training_data.pseudo.of_fold.items()
    ]


def _environment(outcome: Outcome, seconds: float) -> dict[str, Any]:
    return {
        "hbcomp": hbcomp.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cpu": processor(),
        "n_cores": n_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "compute": asdict(outcome.resources.compute),
        "n_jobs": outcome.resources.n_jobs,
        "seconds_of_this_call": seconds,
        "n_folds_trained_by_this_call": outcome.n_trained,
        "peak_memory_mib": peak_memory_mib(),
    }


def print_tables(summary: Summary, console: Console) -> None:
    """Print the rules side by side and the folds below each other."""
    for table in (rule_table(summary), _fold_table(summary)):
        pages.print_table(table, console)
    console.print(expectation(summary))


def _fold_table(summary: Summary) -> pages.Table:
    names = list(CANDIDATES)
    header = ["fold", "rows", *names, "accuracy", "train s", "threads"]
    rows = [
        [
            f"{fold['seed']}-{fold['fold']}",
            f"{fold['n_rows']:,}",
            *(f"{fold['per_20k'][name]:.0f}" for name in names),
            f"{fold['accuracy']:.4f}",
            f"{fold['train_seconds']:.0f}",
            str(fold.get("n_threads", "-")),
        ]
        for fold in summary["folds"]
    ]
    overall = [f"{rule['cross_fitted']['per_20k']:.0f}" for rule in summary["rules"]]
    n_rows = f"{summary['data']['n_train']:,}"
    seconds = f"{sum(fold['train_seconds'] for fold in summary['folds']):.0f}"
    rows.append(["all", n_rows, *overall, f"{summary['accuracy']:.4f}", seconds, ""])
    title = "Each net on its held-out fold (seed-fold), abs-sum per 20k rows, cross-fitted"
    return pages.Table(title, header, rows)


def _pseudo_tables(summary: Summary) -> list[pages.Table]:
    if not summary["pseudo"]:
        return []
    pseudo, n_test = summary["config"]["pseudo"], summary["data"]["n_test"]
    classes = [f"class {label}" for label in range(summary["data"]["n_classes"])]
    rows = [
        [
            f"{net['seed']}-{net['fold']}",
            f"{net['n_rows']:,}",
            *(f"{count:,}" for count in net["by_class"]),
            "-" if net["agreement"] is None else f"{net['agreement']:.4f}",
        ]
        for net in summary["pseudo"]
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


def profile_table(summary: Summary) -> pages.Table:
    """Return where the time of the call went; folds that were stored already took none."""
    environment, by_phase = summary["environment"], summary["seconds_by_phase"]
    n_jobs, total = environment["n_jobs"], environment["seconds_of_this_call"]
    rows = [[name, f"{seconds:.2f}"] for name, seconds in by_phase.items()]
    if n_jobs == 1:
        rows.append(["other", f"{total - sum(by_phase.values()):.2f}"])
    rows.append(["this call", f"{total:.2f}"])
    summed = f", summed over {n_jobs} processes" if n_jobs > 1 else ""
    return pages.Table(f"Seconds by phase{summed}", ["phase", "seconds"], rows)


def write_report(summary: Summary, drawn: Sequence[pages.Picture], run: RunFolder) -> None:
    """Write report.html, then report.json."""
    pages.write_page(
        run.path / "report.html",
        title=f"{run.name}: {summary['expected_per_20k']:.1f} per 20k",
        subtitle=(
            f"out-of-fold, cross-fitted, rule {summary['chosen']['name']}, "
            f"{summary['data']['n_train']:,} rows, {len(summary['folds'])} nets"
            f"{_grouped_by(summary['config'])}"
        ),
        sections=[
            rule_table(summary),
            *transfer_tables(summary),
            _fold_table(summary),
            class_table(summary),
            *_pseudo_tables(summary),
            *drawn,
            profile_table(summary),
            _provenance(summary),
        ],
    )
    write_text(run.report_file, json.dumps(summary, indent=2, allow_nan=False) + "\n")


def _grouped_by(config: Mapping[str, Any]) -> str:
    """Return what groups were kept in one fold, for a subtitle; nothing without groups."""
    source = config["folds"].get("groups") or config["data"].get("group_column")
    return f", grouped by {source}" if source else ""


def _provenance(summary: Summary) -> pages.Table:
    sections = ("environment", "config", "data")
    rows = [
        [f"{section}.{key}", value if isinstance(value, str) else json.dumps(value)]
        for section in sections
        for key, value in summary[section].items()
    ]
    return pages.Table("Where it comes from", ["what", "value"], rows)


def draw(outcome: Outcome, run: RunFolder) -> list[pages.Picture]:
    """Write the report's pictures as files and return them."""
    drawn = _pictures(outcome, run)
    pages.write_pictures(run.path / "pictures", drawn)
    return drawn


def _pictures(outcome: Outcome, run: RunFolder) -> list[pages.Picture]:
    predictions, train = outcome.predictions, outcome.training_data.train
    histories = {}
    for seed, fold in outcome.training_data.fold_keys:
        history = folder.load_history(run, seed, fold)
        histories[f"{seed}-{fold}"] = {
            name: history[name].to_numpy(dtype=np.float64) for name in history.columns
        }
    oof, labels = predictions.oof_probs, predictions.labels
    costs = outcome.chosen.costs
    return [
        pages.Picture(
            "curves",
            pictures.training_curves(histories),
            "Training loss, and abs-sum per 20k of the held-out fold (rule half), by epoch.",
        ),
        *probs_pictures(predictions, outcome.rules, outcome.chosen),
        pages.Picture(
            "costliest",
            pictures.costliest_beats(train.signals, labels, oof, costs, train.ids),
            "The beats that cost most, under the chosen rule, cross-fitted.",
        ),
    ]
