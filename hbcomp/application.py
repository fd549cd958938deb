"""A finished run's nets and rule on other data than it was scored on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from hbcomp.config import validate
from hbcomp.data.dataset import Dataset
from hbcomp.data.load import load_data
from hbcomp.data.reader import read_dataset
from hbcomp.errors import InputError
from hbcomp.experiment import folder
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.nets.registry import build_net
from hbcomp.predictions import mean_probs
from hbcomp.scoring.decision import RULE_ADAPTER
from hbcomp.submissions import FOLDER, write_submission
from hbcomp.training.device import Compute, choose_compute
from hbcomp.training.inference import predict_probs


def apply_run(
    run: RunFolder, data: Path | None, out: Path | None, device: str | None, console: Console
) -> dict[str, Any]:
    """Write the submission that a run's nets and rule give for `data`, and return its numbers."""
    report = read_report(run)
    config = validate(Config, report["config"], run.report_file)
    beats = _beats(config, data)
    n_timepoints, n_classes = report["data"]["n_timepoints"], report["data"]["n_classes"]
    if beats.n_timepoints != n_timepoints:
        raise InputError(
            f"{beats.source}: {run.name} was trained on {n_timepoints} samples per row, "
            f"but got {beats.n_timepoints}"
        )
    compute = _compute(config, report, device)
    compute.enter()
    signals = torch.tensor(beats.signals, device=compute.device)
    parts = []
    for fold in report["folds"]:
        net = build_net(config.net, n_timepoints, n_classes, seed=0)  # its weights are replaced
        folder.load_weights(run, fold["seed"], fold["fold"], net)
        parts.append(predict_probs(net.to(compute.device), signals, compute))
        console.print(f"seed {fold['seed']} fold {fold['fold']}: {beats.n_rows:,} rows predicted")
    rule = RULE_ADAPTER.validate_json(json.dumps(report["chosen"]["rule"]))
    path = out or FOLDER / f"{run.name}{f'-{_stem(data)}' if data else ''}.csv"
    aside = write_submission(path, beats.ids, rule.apply(mean_probs(parts)))
    if aside:
        console.print(f"the former {path} differed and is kept as {aside}")
    return {
        "experiment": run.name,
        "n_rows": beats.n_rows,
        "n_nets": len(parts),
        "rule": report["chosen"]["name"],
        "submission": str(path),
    }


def read_report(run: RunFolder) -> dict[str, Any]:
    """Return what a finished run reported; an unfinished one is an InputError."""
    try:
        report: dict[str, Any] = json.loads(run.report_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{run.report_file}: no such file; has the run finished?") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{run.report_file}: not a report: {error}") from error
    return report


def _beats(config: Config, data: Path | None) -> Dataset:
    if data:
        return read_dataset(data, config.data, labelled=False)
    test = load_data(config.data).test
    if test is None:
        raise InputError("the run had no test file; name one with --data FILE")
    return test


def _compute(config: Config, report: dict[str, Any], device: str | None) -> Compute:
    wanted = config.compute.model_copy(update={"device": device} if device else {})
    compute = choose_compute(wanted, is_compute_bound=config.net.is_compute_bound)
    return replace(compute, n_threads=report["environment"]["compute"]["n_threads"])


def _stem(path: Path) -> str:
    return path.name.split(".")[0]
