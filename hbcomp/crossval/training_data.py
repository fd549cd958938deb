"""The data of a cross-validation: rows, splits and pseudo-labels, and which of them a net sees."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from hbcomp.competitions.competition import load_competition, metric_of
from hbcomp.competitions.load import load_data
from hbcomp.competitions.submission_form import SubmissionForm, form_of
from hbcomp.crossval.pseudo_labels import load_pseudo_labels
from hbcomp.crossval.size import size_warnings
from hbcomp.data.dataset import Dataset
from hbcomp.data.duplicates import Duplicates, find_duplicates
from hbcomp.data.scale import scale_warnings
from hbcomp.data.splits import MAX_SEED, Folds, make_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold
from hbcomp.experiment.resume import PSEUDO_KEY, SEED_KEY, read_run
from hbcomp.nets.registry import build_net
from hbcomp.scoring.metrics import Metric, MetricSpec
from hbcomp.system.command import console
from hbcomp.system.errors import InputError, within_memory
from hbcomp.training.device import choose_compute, streams_rows
from hbcomp.training.features import FittedFeatures, fit_features
from hbcomp.training.loader import DeviceData, put_on_device
from hbcomp.training.pseudo import PseudoLabels
from hbcomp.training.state import Replica


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingData:
    """The rows, the folds of every seed, counts of exact duplicates and, if any, pseudo-labels."""

    train: Dataset
    test: Dataset | None
    folds_of_seed: Mapping[int, Folds]
    metric_spec: MetricSpec
    form: SubmissionForm
    duplicates: Duplicates
    pseudo: PseudoLabels | None = None
    is_streamed: bool = False  # the rows do not fit into the device's memory

    @property
    def fold_keys(self) -> list[tuple[int, int]]:
        """Every (seed, fold), in order."""
        return [
            (seed, fold)
            for seed, folds in self.folds_of_seed.items()
            for fold in range(folds.n_folds)
        ]

    @cached_property
    def metric(self) -> Metric:
        """The competition's metric."""
        return metric_of(self.metric_spec)

    @property
    def n_folds(self) -> int:
        """The number of folds of every split."""
        return next(iter(self.folds_of_seed.values())).n_folds

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hashes of the rows, the folds and the pseudo-labels; stored folds are bound to them."""
        prints = self.data_fingerprints
        for seed, folds in self.folds_of_seed.items():
            prints[f"{SEED_KEY}{seed}"] = folds.fingerprint
            if self.pseudo:
                prints[f"{PSEUDO_KEY}{seed}"] = self.pseudo.fingerprint(seed)
        return prints

    @property
    def described(self) -> dict[str, str]:
        """What has these fingerprints, in words that messages can quote."""
        train, test = self.train, self.test
        return {
            "train data": _in_words(train),
            "test data": _in_words(test) if test else "none",
            **{
                f"{SEED_KEY}{seed}": f"{folds.n_folds} folds"
                for seed, folds in self.folds_of_seed.items()
            },
        }

    @property
    def data_fingerprints(self) -> dict[str, str]:
        """Hashes of the train and the test rows."""
        return {
            "train data": self.train.fingerprint,
            "test data": self.test.fingerprint if self.test else "none",
        }

    def train_rows(self, seed: int, fold: Fold) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the rows that a net trains on and, where some are pseudo-labelled, all labels.

        Test rows are numbered after the train rows.
        """
        train = self.train
        if isinstance(fold, int):
            train_idx = self.folds_of_seed[seed].train_idx(fold)
            pseudo = self.pseudo.of_fold[seed, fold] if self.pseudo else None
        else:
            train_idx = np.arange(train.n_rows)
            pseudo = self.pseudo.of_all if self.pseudo else None
        if pseudo is None:
            return train_idx, None
        return (
            np.concatenate([train_idx, train.n_rows + pseudo.test_idx]),
            np.concatenate([train.known_labels[train_idx], pseudo.labels]),
        )

    def replica(self, seed: int, fold: Fold, device: torch.device) -> Replica:
        """Return the net of a fold as it is trained, with its rows on the device."""
        return replica_of(seed, fold, *self.train_rows(seed, fold), device)

    def on_device(self, device: str) -> DeviceData:
        """Copy the rows to a device."""
        return put_on_device(
            self.train.signals,
            self.train.known_labels,
            device,
            self.test.signals if self.test else None,
            trains_on_test=self.pseudo is not None,
            is_streamed=self.is_streamed,
        )


def _in_words(dataset: Dataset) -> str:
    return f"{Path(dataset.source).name} with {dataset.n_rows:,} rows"


def load_training_data(config: Config) -> TrainingData:
    """Return the checked rows and folds; whatever is wrong with them or the net is found here.

    Duplicates are no error, but they make the score too good, so a warning is printed; and so it is
    for values that do not suit the scale of the signals.
    """
    train, test = load_data(config.data)
    folds_of_seed = {seed: make_folds(config.folds, train, seed) for seed in config.folds.seeds}
    first_split = next(iter(folds_of_seed.values())).fold_of_row
    duplicates = find_duplicates(train, test, first_split)
    for warning in [*scale_warnings(train, test, config.signals.scale), *duplicates.warnings()]:
        console.print(f"warning: {warning}")
    # Tried now, because nothing may be written for a net or a device that cannot be had.
    compute = choose_compute(config.compute, is_compute_bound=config.net.is_compute_bound)
    signals = [train.signals, test.signals if test else None]
    is_streamed = streams_rows(config.compute, compute.device, *signals)
    for warning in size_warnings(config, compute, train, test, is_streamed=is_streamed):
        console.print(f"warning: {warning}")
    shape = config.features.shape(train.shape, train.n_classes)
    with within_memory("a net of this size cannot be built; make it smaller (net.*)"):
        build_net(config.net, shape, train.n_classes, 0, config.recipe.signals)
    pseudo = load_pseudo_labels(config.pseudo, train, test, folds_of_seed)
    if pseudo:
        console.print(f"pseudo-labels: {pseudo.summary()}")
    return TrainingData(
        form=form_of(config.data, train.classes),
        metric_spec=load_competition(config.data.competition).metric_spec(train.classes),
        train=train,
        test=test,
        folds_of_seed=folds_of_seed,
        duplicates=duplicates,
        pseudo=pseudo,
        is_streamed=is_streamed,
    )


def load_training_data_again(config: Config, run: RunFolder) -> TrainingData:
    """Return the data that a run's nets were trained on; if it has changed, raise an InputError."""
    training_data = load_training_data(config)
    record = read_run(run)
    stored = record.identity if record else {}
    changed = [
        name
        for name, value in training_data.fingerprints.items()
        # Of the test rows only pseudo-labelled ones matter, which have a fingerprint of their own.
        if name != "test data" and stored.get(name) != value
    ]
    if changed:
        raise InputError(f"{run.path}: its nets were trained with other {', '.join(changed)}")
    return training_data


def features_of_net(
    config: Config, training_data: TrainingData, seed: int, fold: Fold, device: str
) -> FittedFeatures:
    """Return the features that one net of a run was trained on."""
    data = training_data.on_device(device)
    replica = training_data.replica(seed, fold, data.device)
    return fit_features(config.features, config.signals, data, replica)


def replica_of(
    seed: int,
    fold: Fold,
    train_idx: np.ndarray,
    train_labels: np.ndarray | None,
    device: torch.device,
) -> Replica:
    """Return a net to train, with its rows on the device; seed and fold alone seed it."""
    return Replica(
        torch.tensor(train_idx, device=device),
        (seed, fold if isinstance(fold, int) else MAX_SEED),  # a number that no fold has
        None if train_labels is None else torch.tensor(train_labels, device=device),
    )
