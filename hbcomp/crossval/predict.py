"""Prediction: the nets and the rule of a finished run, applied to other data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from torch import Tensor

from hbcomp.competitions.load import load_sample, padded_to, read_rows, with_files
from hbcomp.crossval.training_data import (
    features_of_nets,
    load_training_data_again,
    seed_of_net,
)
from hbcomp.data.dataset import Dataset, in_words
from hbcomp.data.scale import Range, scale_warnings, unit_warnings
from hbcomp.experiment import stored_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.finish import provenance_of
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import ALL, Fold, mean_probs
from hbcomp.experiment.report import Computed, Refit, Report, read_part, read_report
from hbcomp.nets.registry import ScaledNet, build_net
from hbcomp.nets.signal_input import Scale
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance, write_submission
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.system.files import stem
from hbcomp.training.device import Compute, ComputeConfig, choose_compute, streams_rows
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import StreamedSignals, all_rows, put_signals


@dataclass(frozen=True)
class Trained:
    """A finished run with nets: its report and its configuration."""

    report: Report
    config: Config
    shape: tuple[int, int]  # channels and time steps
    n_classes: int

    @property
    def nets(self) -> list[tuple[int, Fold]]:
        """The seed and the fold of each net, in the order in which the run itself sums."""
        return sorted((each.seed, each.fold) for each in self.report.folds)


def apply_run(
    run: RunFolder,
    data: Path | None,
    out: Path | None,
    device: str | None,
    console: Console,
    *,
    is_refit: bool = False,
) -> dict[str, Any]:
    """Write the submission that a run's nets and rule give for `data`, and return its numbers.

    The nets are those of the folds, or with `is_refit` those that were trained on everything.
    """
    trained = read_trained(run)
    report, nets, chosen = trained.report, trained.nets, trained.report.chosen
    if is_refit:
        refit = read_part(run.refit_file, Refit, f"is `cv {run.name} --fold all` done?")
        nets, chosen = [(seed, ALL) for seed in refit.seeds], refit.chosen
    rows, probs = _probs(run, trained, nets, data, device, console)
    name = f"{run.name}-{ALL}" if is_refit else run.name
    path = out or FOLDER / f"{name}{f'-{stem(data)}' if data else ''}.csv"
    recipe = f"predict of {len(nets)} nets{' on everything' * is_refit}, on {rows.source}"
    if is_refit:  # no row is left to score nets on that were trained on everything
        metric = report.metric.config.name
        provenance = Provenance(run.name, recipe, chosen.name, metric, report.better)
    else:
        card, n_scored = report.of_other_rows(len(probs)) if data else report, report.data.n_train
        provenance = provenance_of(
            card, run.name, recipe, n_scored, is_optimistic=report.is_optimistic
        )
    form = report.form.of_other_rows(rows.ids.tolist()) if data else report.form
    write_submission(path, rows.ids, chosen.rule.apply(probs), provenance, form)
    return {
        "experiment": run.name,
        "n_rows": rows.n_rows,
        "n_nets": len(nets),
        "rule": chosen.name,
        "submission": str(path),
    }


def probs_of_folds(
    run: RunFolder, data: Path | None, device: str | None, console: Console
) -> tuple[Dataset, Float64[np.ndarray, "n k"]]:
    """Return the rows of `data`, or of the run's test file, and the mean over its folds' nets."""
    trained = read_trained(run)
    return _probs(run, trained, trained.nets, data, device, console)


def _probs(
    run: RunFolder,
    trained: Trained,
    nets: Sequence[tuple[int, Fold]],
    data: Path | None,
    device: str | None,
    console: Console,
) -> tuple[Dataset, Float64[np.ndarray, "n k"]]:
    config = trained.config
    compute = computed_as(config, trained.report.environment.compute, device)
    rows = padded_to(_read_rows(config, data), trained.shape[1], config.data)
    if rows.shape != trained.shape:
        raise InputError(
            f"{rows.source}: {run.name} was trained on {in_words(trained.shape)} per row, but got "
            f"{in_words(rows.shape)}"
        )
    console.print(f"{run.name}: on {compute.device} in {compute.precision} ({compute.reason})")
    compute.enter()
    inputs = _inputs(config, run, rows, nets, compute)
    parts: list[np.ndarray] = []
    for seed, fold in nets:
        net = load_net(run, config, trained.shape, trained.n_classes, (seed, fold))
        if not parts:
            for warning in _unit_warnings(net, config, run, rows):
                console.print(f"warning: {warning}")
        net.to(compute.device)
        parts.append(predict_probs(net, inputs(seed, fold), compute))
        console.print(f"seed {seed} fold {fold}: {rows.n_rows:,} rows predicted")
    return rows, mean_probs(parts)


def load_net(
    run: RunFolder,
    config: Config,
    shape: tuple[int, int],
    n_classes: int,
    net: tuple[int, Fold],
) -> ScaledNet:
    """Return the net of a seed and a fold with its weights; `shape` is that of the signals."""
    seen = config.features.shape(shape, n_classes)
    built = build_net(config.net, seen, n_classes, 0, config.recipe.signals)  # weights come next
    stored_folds.load_weights(run, *net, built)
    return built


def _unit_warnings(net: ScaledNet, config: Config, run: RunFolder, rows: Dataset) -> Iterator[str]:
    """Yield what is wrong with the unit of rows, beside those that the net was trained on."""
    if not isinstance(net.scale, Scale) or config.signals.scale != "min-max":
        yield from scale_warnings(rows, None, config.signals.scale)
        return
    low = net.scale.offset[:, 0].double().numpy()
    trained = Range(low, low + net.scale.unit[:, 0].double().numpy())
    yield from unit_warnings(rows, trained, f"the training rows of {run.name}", "min-max")


def _inputs(
    config: Config,
    run: RunFolder,
    rows: Dataset,
    nets: Sequence[tuple[int, Fold]],
    compute: Compute,
) -> Callable[[int, Fold], Tensor | StreamedSignals]:
    """Return a function that gives the inputs for the net of a seed and a fold."""
    device = compute.device
    is_streamed = streams_rows(config.compute, device, rows.signals)
    signals = put_signals([rows.signals], device, is_streamed)
    if not config.features.is_of_fold:
        return lambda seed, fold: signals
    signals = all_rows(signals)
    # Features need the train rows, and the test rows only if nets trained on some.
    needed: dict[str, Any] = {"compute": ComputeConfig(device=device)}
    if not config.pseudo.runs:
        needed["data"] = config.data.model_copy(update={"test": None})
    training_data = load_training_data_again(config.model_copy(update=needed), run)
    test = training_data.test
    is_own_test = test is not None and test.fingerprint == rows.fingerprint
    features = features_of_nets(config, training_data, nets, device, compute.n_threads)
    made = features.of_test(signals) if is_own_test else features.of_signals(signals)
    return lambda seed, fold: made[features.position[seed_of_net(seed, fold)]]


def read_trained(run: RunFolder) -> Trained:
    """Return what a run reported of its nets; an experiment without nets is an InputError."""
    report = read_report(run.report_file)
    if report.kind == "imported":
        raise InputError(
            f"{run.name} was imported: it has no nets; predict new rows with the model that made "
            "its probabilities"
        )
    data, nets = report.data, {(each.seed, each.fold) for each in report.folds}
    needed = {
        "config": report.config,
        "data.n_timepoints": data.n_timepoints,
        "data.n_classes": data.n_classes,
        "folds": nets,
        "environment.compute": report.environment.compute.device,
    }
    if missing := [name for name, value in needed.items() if not value]:
        raise InputError(f"{run.report_file}: there is no {', '.join(missing)}")
    if len(nets) < len(report.folds):
        raise InputError(f"{run.report_file}: folds must be unique")
    assert data.n_timepoints
    assert data.n_classes
    config = validate(Config, report.config, run.report_file)
    return Trained(report, config, (data.n_channels, data.n_timepoints), data.n_classes)


def _read_rows(config: Config, data: Path | None) -> Dataset:
    if data:
        return read_rows(data, config.data, labelled=False)
    files = with_files(config.data)
    if files.train is None:
        return load_sample()[1]
    if files.test is None:
        raise InputError("the run had no test file; name one with --data FILE")
    return read_rows(files.test, config.data, labelled=False)


def computed_as(config: Config, used: Computed, device: str | None) -> Compute:
    """Return where the run was computed, or the requested device."""
    options: dict[str, Any] = {"device": device or used.device, "n_threads": used.n_threads}
    if device is None:
        options["precision"] = used.precision
    request = validate(ComputeConfig, options, "--device")
    return choose_compute(request, is_compute_bound=config.net.is_compute_bound)
