"""A finished run's nets and rule on other data than it was scored on."""

import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from hbcomp.config import validate
from hbcomp.data.dataset import Dataset
from hbcomp.data.reader import read_dataset
from hbcomp.data.sample import load_sample
from hbcomp.errors import InputError
from hbcomp.experiment import folder
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.files import stem
from hbcomp.nets.registry import build_net
from hbcomp.predictions import mean_probs
from hbcomp.scoring.decision import RULE_ADAPTER
from hbcomp.submissions import FOLDER, write_submission
from hbcomp.training.device import Compute, ComputeConfig, choose_compute
from hbcomp.training.inference import predict_probs


def apply_run(
    run: RunFolder, data: Path | None, out: Path | None, device: str | None, console: Console
) -> dict[str, Any]:
    """Write the submission that a run's nets and rule give for `data`, and return its numbers."""
    report = read_report(run)
    config = validate(Config, report["config"], run.report_file)
    compute = _compute(config, report, device)
    beats = _beats(config, data)
    n_timepoints, n_classes = report["data"]["n_timepoints"], report["data"]["n_classes"]
    if beats.n_timepoints != n_timepoints:
        raise InputError(
            f"{beats.source}: {run.name} was trained on {n_timepoints} samples per row, "
            f"but got {beats.n_timepoints}"
        )
    console.print(f"{run.name}: on {compute.device} in {compute.precision} ({compute.reason})")
    compute.enter()
    signals = torch.tensor(beats.signals, device=compute.device)
    parts = []
    # In the order of (seed, fold), as the run itself sums: the same bits.
    for fold in sorted(report["folds"], key=lambda fold: (fold["seed"], fold["fold"])):
        net = build_net(config.net, n_timepoints, n_classes, seed=0)  # its weights are replaced
        folder.load_weights(run, fold["seed"], fold["fold"], net)
        parts.append(predict_probs(net.to(compute.device), signals, compute))
        console.print(f"seed {fold['seed']} fold {fold['fold']}: {beats.n_rows:,} rows predicted")
    rule = RULE_ADAPTER.validate_json(json.dumps(report["chosen"]["rule"]))
    path = out or FOLDER / f"{run.name}{f'-{stem(data)}' if data else ''}.csv"
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
    wanted = {"config", "data", "folds", "chosen", "environment"}
    try:
        report: dict[str, Any] = json.loads(run.report_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{run.report_file}: no such file; has the run finished?") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{run.report_file}: not a report: {error}") from error
    if not isinstance(report, dict) or not wanted <= report.keys():
        raise InputError(f"{run.report_file}: a report must have {', '.join(sorted(wanted))}")
    return report


def _beats(config: Config, data: Path | None) -> Dataset:
    if data:
        return read_dataset(data, config.data, labelled=False)
    if config.data.train is None:
        return load_sample()[1]
    if config.data.test is None:
        raise InputError("the run had no test file; name one with --data FILE")
    return read_dataset(config.data.test, config.data, labelled=False)


def _compute(config: Config, report: dict[str, Any], device: str | None) -> Compute:
    """Return where the run was computed, or the device asked for."""
    ran = Compute(**report["environment"]["compute"])
    wish = {"device": device or ran.device, "n_threads": ran.n_threads}
    if device is None:
        wish["precision"] = ran.precision
    asked = validate(ComputeConfig, wish, "--device")
    return choose_compute(asked, is_compute_bound=config.net.is_compute_bound)
