"""The data of a cross-validation: rows, splits and pseudo-labels, and which of them a net sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from hbcomp.data.splits import MAX_SEED, Folds, inner_split, make_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold
from hbcomp.experiment.resume import PSEUDO_KEY, SEED_KEY, read_run
from hbcomp.nets.registry import build_net
from hbcomp.scoring.metrics import Metric, MetricSpec
from hbcomp.system.command import console
from hbcomp.system.errors import InputError, within_memory
from hbcomp.training.device import choose_compute, streams_rows
from hbcomp.training.early_stopping import EarlyStopping
from hbcomp.training.features import FittedFeatures, fit_features
from hbcomp.training.loader import DeviceData, all_rows, put_on_device, put_signals
from hbcomp.training.pseudo import PseudoLabels
from hbcomp.training.state import Replica

INNER = 1  # the stream of a net's seed that draws the rows it watches


@dataclass(frozen=True, eq=False)
class NetRows:
    """The rows that a net trains on, and those that early stopping watches, if any.

    Where some are pseudo-labelled test rows, numbered after the train rows, `train_labels` are the
    labels that it learns. Watched rows have a label of their own.
    """

    train_idx: np.ndarray
    train_labels: np.ndarray | None = None
    watched_idx: np.ndarray | None = None


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
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)

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
    def first_split(self) -> np.ndarray:
        """The fold of each row under the first seed."""
        return next(iter(self.folds_of_seed.values())).fold_of_row

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

    def rows_of_net(self, seed: int, fold: Fold) -> NetRows:
        """Return the rows that the net of a fold trains on, and those that it watches."""
        labels = self.train.known_labels
        if isinstance(fold, int):
            folds = self.folds_of_seed[seed]
            pseudo = self.pseudo.of_fold[seed, fold] if self.pseudo else None
        else:
            folds = next(iter(self.folds_of_seed.values()))
            pseudo = self.pseudo.of_all if self.pseudo else None
        rows = rows_of_net(self.early_stopping, folds, labels, seed, fold)
        if pseudo is None:
            return rows
        return replace(
            rows,
            train_idx=np.concatenate([rows.train_idx, self.train.n_rows + pseudo.test_idx]),
            train_labels=np.concatenate([labels[rows.train_idx], pseudo.labels]),
        )

    def replica(self, seed: int, fold: Fold, device: torch.device) -> Replica:
        """Return the net of a fold as it is trained, with its rows on the device."""
        rows = self.rows_of_net(seed, fold)
        return replica_of(seed, fold, rows.train_idx, rows.train_labels, device)

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


def rows_of_net(
    early_stopping: EarlyStopping, folds: Folds, labels: np.ndarray, seed: int, fold: Fold
) -> NetRows:
    """Return the labelled rows that the net of a fold trains on, and those that it watches.

    An inner split depends on the seed of the net and on labels of its own training rows only.
    """
    train_idx = folds.train_idx(fold) if isinstance(fold, int) else np.arange(len(labels))
    if not early_stopping.is_on:
        return NetRows(train_idx)
    if early_stopping.is_on_scored_fold:
        if not isinstance(fold, int):
            raise InputError(
                "a net on everything holds no fold out that train.early_stopping could watch; "
                "--set train.early_stopping.watch=inner, or .patience=0"
            )
        return NetRows(train_idx, watched_idx=folds.valid_idx(fold))
    groups = None if folds.groups is None else folds.groups[train_idx]
    seeds = [*seed_of_net(seed, fold), INNER]
    is_watched = inner_split(labels[train_idx], groups, early_stopping.share, seeds)
    return NetRows(train_idx[~is_watched], watched_idx=train_idx[is_watched])


def seed_of_net(seed: int, fold: Fold) -> tuple[int, int]:
    """Return the seed of the net of a fold."""
    return seed, fold if isinstance(fold, int) else MAX_SEED  # a number that no fold has


def _in_words(dataset: Dataset) -> str:
    return f"{Path(dataset.source).name} with {dataset.n_rows:,} rows"


def load_training_data(config: Config) -> TrainingData:
    """Return the checked rows and folds; whatever is wrong with them or the net is found here.

    Duplicates are no error, but they make the score too good, so a warning is printed; and so it is
    for values that do not suit the scale of the signals.
    """
    train, test = load_data(config.data)
    form = form_of(config.data, train.classes)
    if test is not None:
        form.order(test.ids.tolist())  # the sample submission must be of these rows
    metric_spec = load_competition(config.data.competition).metric_spec(train.classes)
    folds_of_seed = {seed: make_folds(config.folds, train, seed) for seed in config.folds.seeds}
    first_split = next(iter(folds_of_seed.values())).fold_of_row
    duplicates = find_duplicates(train, test, first_split)
    for warning in [*scale_warnings(train, test, config.signals.scale), *duplicates.warnings()]:
        console.print(f"warning: {warning}")
    # Tried now, because nothing may be written for a net or a device that cannot be had.
    compute = choose_compute(config.compute, is_compute_bound=config.net.is_compute_bound)
    signals = [train.signals, test.signals if test else None]
    is_streamed = streams_rows(config.compute, compute.device, *signals)
    sizes = size_warnings(config, compute, train, test, folds_of_seed, is_streamed=is_streamed)
    for warning in sizes:
        console.print(f"warning: {warning}")
    shape = config.features.shape(train.shape, train.n_classes)
    with within_memory("a net of this size cannot be built; make it smaller (net.*)"):
        build_net(config.net, shape, train.n_classes, 0, config.recipe.signals)
    pseudo = load_pseudo_labels(config.pseudo, train, test, folds_of_seed)
    if pseudo:
        console.print(f"pseudo-labels: {pseudo.summary()}")
    training_data = TrainingData(
        form=form,
        metric_spec=metric_spec,
        train=train,
        test=test,
        folds_of_seed=folds_of_seed,
        duplicates=duplicates,
        pseudo=pseudo,
        is_streamed=is_streamed,
        early_stopping=config.train.early_stopping,
    )
    for key in training_data.fold_keys:
        training_data.rows_of_net(*key)  # rows that cannot be watched are an error now
    if metric_spec.file is not None:  # a function of one's own that fails, fails now
        right_answers = np.eye(train.n_classes)[train.known_labels]
        training_data.metric.score(right_answers, train.known_labels)
    return training_data


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


def features_of_nets(
    config: Config,
    training_data: TrainingData,
    nets: Sequence[tuple[int, Fold]],
    device: str,
    n_threads: int,
) -> FittedFeatures:
    """Return the features of a run's nets, of which `nets` are all that hold folds out, or none."""
    data = training_data.on_device(device)
    replicas = [training_data.replica(*net, data.device) for net in nets]
    return fit_features(config.features, config.signals, data, replicas, n_threads)


def seen_by_nets(
    config: Config,
    training_data: TrainingData,
    nets: Sequence[tuple[int, Fold]],
    device: str,
    n_threads: int,
) -> Callable[[int, Fold], TrainingData]:
    """Return a function that gives the data as the net of a seed and a fold sees it.

    Features stand in place of signals, and are made once, for all of `nets`.
    """
    if not config.features.is_of_fold:
        return lambda seed, fold: training_data
    features = features_of_nets(config, training_data, nets, device, n_threads)
    train, test, position = training_data.train, training_data.test, features.position
    of_train = features.of_rows[:, : train.n_rows].cpu().numpy()
    if test is not None:
        signals = all_rows(put_signals([test.signals], device, is_streamed=False))
        of_test = features.of_test(signals).cpu().numpy()

    def seen(seed: int, fold: Fold) -> TrainingData:
        place = position[seed_of_net(seed, fold)]
        return replace(
            training_data,
            train=replace(train, signals=of_train[place]),
            test=None if test is None else replace(test, signals=of_test[place]),
        )

    return seen


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
        seed_of_net(seed, fold),
        None if train_labels is None else torch.tensor(train_labels, device=device),
    )
