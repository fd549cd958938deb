"""A finished run's nets and rule on other data than it was scored on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float64
from pydantic import Field
from rich.console import Console
from torch import Tensor, nn

from hbcomp.crossval.training_data import features_of_net, load_training_data_again
from hbcomp.data.dataset import Dataset
from hbcomp.data.reader import read_dataset
from hbcomp.data.row_checks import MAX_LABEL
from hbcomp.data.sample import load_sample
from hbcomp.data.scale import scale_warnings
from hbcomp.data.splits import Seed
from hbcomp.experiment import stored_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import ALL, Fold, mean_probs
from hbcomp.experiment.report import Chosen, Part, Refit, Rows, read_part, read_report
from hbcomp.nets.registry import build_net
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance, write_submission
from hbcomp.system.config import unique, validate
from hbcomp.system.errors import InputError
from hbcomp.system.files import stem
from hbcomp.training.device import Compute, ComputeConfig, Precision, choose_compute
from hbcomp.training.inference import predict_probs


class Ran(Part):
    """Where and how precisely a run was computed."""

    device: str
    precision: Precision
    n_threads: Annotated[int, Field(ge=1)]


class Machine(Part):
    """The part of the environment that answers may depend on."""

    compute: Ran


class TrainedOn(Rows):
    """The beats that nets were trained on, and their shape."""

    n_timepoints: Annotated[int, Field(ge=1)]
    n_classes: Annotated[int, Field(ge=2, le=MAX_LABEL + 1)]


class StoredNet(Part):
    """A net of a cross-validation."""

    seed: Seed
    fold: Annotated[int, Field(ge=0)]


class Trained(Part):
    """What a run's report.json says of its nets, as far as they are applied again."""

    config: Config
    data: TrainedOn
    folds: Annotated[tuple[StoredNet, ...], Field(min_length=1), unique("folds")]
    chosen: Chosen
    environment: Machine
    expected_per_20k: float
    expected_standard_error: float


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
    report = read_trained(run)
    nets, chosen = _nets_of_refit(run) if is_refit else (_nets_of_folds(report), report.chosen)
    beats, probs = _probs(run, report, nets, data, device, console)
    name = f"{run.name}-{ALL}" if is_refit else run.name
    path = out or FOLDER / f"{name}{f'-{stem(data)}' if data else ''}.csv"
    recipe = f"predict of {len(nets)} nets{' on everything' * is_refit}, on {beats.source}"
    provenance = Provenance(
        source=run.name,
        recipe=recipe,
        rule=chosen.name,
        # No row is left to score nets on that were trained on everything.
        expected_per_20k=None if is_refit else report.expected_per_20k,
        standard_error=None if is_refit else report.expected_standard_error,
        n_scored=None if is_refit else report.data.n_train,
    )
    id_column = report.config.data.id_column
    write_submission(path, beats.ids, chosen.rule.apply(probs), provenance, id_column)
    return {
        "experiment": run.name,
        "n_rows": beats.n_rows,
        "n_nets": len(nets),
        "rule": chosen.name,
        "submission": str(path),
    }


def probs_of_folds(
    run: RunFolder, data: Path | None, device: str | None, console: Console
) -> tuple[Dataset, Float64[np.ndarray, "n k"]]:
    """Return the beats of `data`, or of the run's test file, and the mean of its folds' nets."""
    report = read_trained(run)
    return _probs(run, report, _nets_of_folds(report), data, device, console)


def _probs(
    run: RunFolder,
    report: Trained,
    nets: Sequence[tuple[int, Fold]],
    data: Path | None,
    device: str | None,
    console: Console,
) -> tuple[Dataset, Float64[np.ndarray, "n k"]]:
    config = report.config
    compute = computed_as(config, report.environment.compute, device)
    beats = _beats(config, data)
    for warning in scale_warnings(beats):
        console.print(f"warning: {warning}")
    n_timepoints, n_classes = report.data.n_timepoints, report.data.n_classes
    if beats.n_timepoints != n_timepoints:
        raise InputError(
            f"{beats.source}: {run.name} was trained on {n_timepoints} samples per row, "
            f"but got {beats.n_timepoints}"
        )
    console.print(f"{run.name}: on {compute.device} in {compute.precision} ({compute.reason})")
    compute.enter()
    shown = _shown(config, run, beats, compute.device)
    parts = []
    for seed, fold in nets:
        net = load_net(run, config, (n_timepoints, n_classes), (seed, fold)).to(compute.device)
        parts.append(predict_probs(net, shown(seed, fold), compute))
        console.print(f"seed {seed} fold {fold}: {beats.n_rows:,} rows predicted")
    return beats, mean_probs(parts)


def load_net(
    run: RunFolder, config: Config, shape: tuple[int, int], net: tuple[int, Fold]
) -> nn.Module:
    """Return the net of a seed and a fold with its weights; `shape` is time steps and classes."""
    width = config.features.width(*shape)
    built = build_net(config.net, width, shape[1], seed=0)  # its weights are replaced
    return stored_folds.load_weights(run, *net, built)


def _shown(
    config: Config, run: RunFolder, beats: Dataset, device: str
) -> Callable[[int, Fold], Tensor]:
    """Return what shows the beats to the net of a seed and a fold, as they were in training."""
    signals = torch.tensor(beats.signals, device=device)
    if not config.features.is_of_fold:
        return lambda seed, fold: signals
    # Only what the features are made of: no other device, and test rows if nets trained on some.
    needed: dict[str, Any] = {"compute": ComputeConfig(device=device)}
    if not config.pseudo.runs:
        needed["data"] = config.data.model_copy(update={"test": None})
    training_data = load_training_data_again(config.model_copy(update=needed), run)
    test = training_data.test
    is_own_test = test is not None and test.fingerprint == beats.fingerprint

    def shown(seed: int, fold: Fold) -> Tensor:
        features = features_of_net(config, training_data, seed, fold, device)
        return features.of_test(signals) if is_own_test else features.of_signals(signals)

    return shown


def _nets_of_folds(report: Trained) -> list[tuple[int, Fold]]:
    # In the order of (seed, fold), as the run itself sums: the same bits.
    return sorted((fold.seed, fold.fold) for fold in report.folds)


def _nets_of_refit(run: RunFolder) -> tuple[list[tuple[int, Fold]], Chosen]:
    refit = read_part(run.refit_file, Refit, f"is `cv {run.name} --fold all` done?")
    return [(seed, ALL) for seed in refit.seeds], refit.chosen


def read_trained(run: RunFolder) -> Trained:
    """Return what a run reported of its nets; one that has none is an InputError."""
    kind = read_report(run.report_file).kind
    if kind == "imported":
        raise InputError(
            f"{run.name} was imported: it has no nets; probabilities of new rows have to be made "
            "where its own were"
        )
    return read_part(run.report_file, Trained)


def _beats(config: Config, data: Path | None) -> Dataset:
    if data:
        return read_dataset(data, config.data, labelled=False)
    if config.data.train is None:
        return load_sample()[1]
    if config.data.test is None:
        raise InputError("the run had no test file; name one with --data FILE")
    return read_dataset(config.data.test, config.data, labelled=False)


def computed_as(config: Config, ran: Ran, device: str | None) -> Compute:
    """Return where the run was computed, or the requested device."""
    options: dict[str, Any] = {"device": device or ran.device, "n_threads": ran.n_threads}
    if device is None:
        options["precision"] = ran.precision
    request = validate(ComputeConfig, options, "--device")
    return choose_compute(request, is_compute_bound=config.net.is_compute_bound)
