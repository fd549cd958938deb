"""What a cross-validation works on: rows, splits and pseudo-labels, and a net's share of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hbcomp.crossval.pseudo_labels import load_pseudo_labels
from hbcomp.data.dataset import Dataset
from hbcomp.data.duplicates import Duplicates, find_duplicates
from hbcomp.data.load import Data, load_data
from hbcomp.data.scale import scale_warnings
from hbcomp.data.splits import MAX_SEED, Folds, make_folds
from hbcomp.experiment import folder
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold
from hbcomp.nets.registry import build_net
from hbcomp.system.command import console
from hbcomp.system.errors import InputError, within_memory
from hbcomp.training.device import choose_compute
from hbcomp.training.inputs import Inputs, fit_inputs
from hbcomp.training.loader import Beats, put_beats
from hbcomp.training.pseudo import PseudoLabels
from hbcomp.training.state import Member


@dataclass(frozen=True)
class Material:
    """What a cross-validation works on: beats, the folds of every seed, and exact duplicates."""

    data: Data
    folds_of_seed: Mapping[int, Folds]
    duplicates: Duplicates
    pseudo: PseudoLabels | None = None

    @property
    def fold_keys(self) -> list[tuple[int, int]]:
        """Every (seed, fold), in order."""
        return [
            (seed, fold)
            for seed, folds in self.folds_of_seed.items()
            for fold in range(folds.n_folds)
        ]

    @property
    def n_folds(self) -> int:
        """The number of folds of every split."""
        return next(iter(self.folds_of_seed.values())).n_folds

    @property
    def fingerprints(self) -> dict[str, str | None]:
        """Hashes of the beats, the folds and the pseudo-labels: what stored folds are bound to."""
        prints = self.data_fingerprints
        for seed, folds in self.folds_of_seed.items():
            prints[f"{folder.SEED_KEY}{seed}"] = folds.fingerprint
            if self.pseudo:
                prints[f"{folder.PSEUDO_KEY}{seed}"] = self.pseudo.fingerprint(seed)
        return prints

    @property
    def described(self) -> dict[str, str]:
        """What the fingerprints are of, in words."""
        train, test = self.data.train, self.data.test
        return {
            "train data": _in_words(train),
            "test data": _in_words(test) if test else "none",
            **{
                f"{folder.SEED_KEY}{seed}": f"{folds.n_folds} folds"
                for seed, folds in self.folds_of_seed.items()
            },
        }

    @property
    def data_fingerprints(self) -> dict[str, str | None]:
        """Hashes of the beats."""
        return {
            "train data": self.data.train.fingerprint,
            "test data": self.data.test.fingerprint if self.data.test else None,
        }

    def train_rows(self, seed: int, fold: Fold) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the rows that a net trains on and, where some are pseudo-labelled, all labels.

        Test rows are counted on behind the train rows.
        """
        train = self.data.train
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


def _in_words(beats: Dataset) -> str:
    return f"{Path(beats.source).name} with {beats.n_rows:,} rows"


def load_material(config: Config) -> Material:
    """Return the checked beats and folds; whatever is wrong with them or the net is found here.

    Duplicates are no error, but they flatter the score, so they are said; so are values in other
    units than the nets were made for, which spoil it.
    """
    data = load_data(config.data)
    folds_of_seed = {
        seed: make_folds(config.folds, data.train, seed) for seed in config.folds.seeds
    }
    first_split = next(iter(folds_of_seed.values())).fold_of_row
    duplicates = find_duplicates(data.train, data.test, first_split)
    for warning in [*scale_warnings(data.train, data.test), *duplicates.warnings()]:
        console.print(f"warning: {warning}")
    # Tried now, because nothing may be written for a net or a device that cannot be had.
    width = config.features.width(data.train.n_timepoints, data.train.n_classes)
    with within_memory("a net of this size cannot be built; make it smaller (net.*)"):
        build_net(config.net, width, data.train.n_classes, seed=0)
    choose_compute(config.compute, is_compute_bound=config.net.is_compute_bound)
    pseudo = load_pseudo_labels(config.pseudo, data, folds_of_seed)
    if pseudo:
        console.print(f"pseudo-labels: {pseudo.summary()}")
    return Material(data, folds_of_seed, duplicates, pseudo)


def load_material_again(config: Config, run: RunFolder) -> Material:
    """Return the beats and splits that a run's nets were trained on; others are an InputError."""
    material = load_material(config)
    stored = (folder.read_run(run) or {"identity": {}})["identity"]
    changed = [
        name
        for name, value in material.fingerprints.items()
        # Of the test rows only pseudo-labelled ones matter, which have a fingerprint of their own.
        if name != "test data" and stored.get(name) != value
    ]
    if changed:
        raise InputError(f"{run.path}: its nets were trained with other {', '.join(changed)}")
    return material


def inputs_of(config: Config, material: Material, seed: int, fold: Fold, device: str) -> Inputs:
    """Return the features that one net of a run was shown."""
    beats = beats_on(material.data, device, has_test_rows=material.pseudo is not None)
    member = member_of(seed, fold, *material.train_rows(seed, fold), beats.device)
    return fit_inputs(config.features, beats, member)


def member_of(
    seed: int,
    fold: Fold,
    train_idx: np.ndarray,
    train_labels: np.ndarray | None,
    device: torch.device,
) -> Member:
    """Return a net to train, its rows on the device; seed and fold alone seed it."""
    return Member(
        torch.tensor(train_idx, device=device),
        (seed, fold if isinstance(fold, int) else MAX_SEED),  # a number that no fold has
        None if train_labels is None else torch.tensor(train_labels, device=device),
    )


def beats_on(data: Data, device: str, *, has_test_rows: bool) -> Beats:
    """Copy the train rows to the device, with the test rows behind them if nets train on some."""
    unlabelled = data.test.signals if data.test and has_test_rows else None
    return put_beats(data.train.signals, data.train.known_labels, device, unlabelled)
