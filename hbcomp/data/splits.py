"""Folds: stratified, with whole groups, or from a file."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import xxhash
from jaxtyping import Bool, Int64, Shaped
from pydantic import Field, model_validator

from hbcomp.data.dataset import Dataset
from hbcomp.data.tables import read_values
from hbcomp.system.config import Section, unique
from hbcomp.system.errors import InputError, listed

MAX_SEED = 2**32 - 1  # what sklearn's random_state takes
# That the search for a split of groups may undo; measured: 3,000 steps take 0.4 s.
MAX_STEPS = 50_000

FOLD = re.compile(r"[0-9]{1,9}")  # a number of rows has no more digits

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), unique("seeds")]


class FoldsConfig(Section):
    """How to split the rows: at random for each seed, or as a file says.

    `file` is a CSV of `id,fold` that also decides the number of folds; more seeds then only train
    more nets on the same split. `groups` is a CSV of `id,group` whose groups are kept in one fold.
    """

    n_folds: Annotated[int, Field(ge=2)] = 5
    seeds: Seeds = (0,)
    file: Path | None = None
    groups: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> "FoldsConfig":
        if self.file is not None and self.groups is not None:
            raise ValueError("`file` already decides the folds, so `groups` would be ignored")
        return self


@dataclass(frozen=True, eq=False)
class Folds:
    """The fold that each row is held out in.

    Notes
    -----
    Every row is in exactly one fold; no fold is empty.

    """

    fold_of_row: Int64[np.ndarray, " n"]
    n_folds: int
    seed: int
    groups: Shaped[np.ndarray, " n"] | None = None  # kept in one fold

    def __post_init__(self) -> None:
        if problems := list(_fold_problems(self.fold_of_row, self.n_folds)):
            raise InputError.of("folds", problems)
        fold_of_row = self.fold_of_row.view()
        fold_of_row.flags.writeable = False
        object.__setattr__(self, "fold_of_row", fold_of_row)

    def train_idx(self, fold: int) -> Int64[np.ndarray, " m"]:
        """Return the rows to train on when `fold` is held out, ascending."""
        self._check_fold(fold)
        return np.flatnonzero(self.fold_of_row != fold).astype(np.int64)

    def valid_idx(self, fold: int) -> Int64[np.ndarray, " m"]:
        """Return the rows held out in `fold`, ascending."""
        self._check_fold(fold)
        return np.flatnonzero(self.fold_of_row == fold).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the split, whatever its seed."""
        digest = xxhash.xxh3_128(f"{self.n_folds};".encode())
        digest.update(np.ascontiguousarray(self.fold_of_row).data)
        return digest.hexdigest()

    def _check_fold(self, fold: int) -> None:
        if not 0 <= fold < self.n_folds:
            raise InputError(f"the fold must be one of 0..{self.n_folds - 1}, but got {fold}")


def _fold_problems(fold_of_row: np.ndarray, n_folds: int) -> Iterator[str]:
    if n_folds < 2:
        yield f"there must be at least 2 folds, but got {n_folds}"
    elif n_folds > len(fold_of_row):
        yield f"{n_folds} folds need at least {n_folds} rows, but there are {len(fold_of_row)}"
    else:
        present = np.unique(fold_of_row)
        if not (present[0] >= 0 and present[-1] < n_folds):
            yield f"folds must be 0..{n_folds - 1}, but found {present[0]}..{present[-1]}"
        if empty := sorted(set(range(n_folds)) - set(present.tolist())):
            yield f"no row is held out in {listed(empty, 'fold')}"


def make_folds(config: FoldsConfig, dataset: Dataset, seed: int) -> Folds:
    """Return the folds of a labelled data set.

    Notes
    -----
    The same seed makes the same folds. Without groups or a file, the counts of a class in any two
    folds differ by at most 1. No group is split. Every training part has every class.

    """
    if config.file is not None:
        return read_folds(config.file, dataset, seed)
    groups = _groups(config, dataset)
    if groups is None:
        fold_of_row = _stratified(config.n_folds, dataset, seed)
    else:
        fold_of_row = _grouped(config.n_folds, dataset, groups, seed)
    folds = Folds(fold_of_row, config.n_folds, seed, groups)
    _check_training_parts(folds, dataset, dataset.source)
    return folds


def pick_seed(config: FoldsConfig, seed: int | None) -> int:
    """Return the seed if it is one of the configuration's, or its first seed for None."""
    if seed is None:
        return config.seeds[0]
    if seed not in config.seeds:
        known = ", ".join(map(str, config.seeds))
        raise InputError(f"the seed must be one of the experiment's ({known}), but got {seed}")
    return seed


def read_folds(path: Path, dataset: Dataset, seed: int) -> Folds:
    """Return the folds in the columns `id` and `fold` of a CSV file.

    Its ids must be exactly the data's; folds are 0..n-1, and every training part has every class.
    """
    texts = read_values(path, "fold", dataset.ids)
    wrong = sorted({text for text in texts if not FOLD.fullmatch(text.strip())})
    if wrong:
        shown = [text if len(text) <= 24 else f"{text[:20]}..." for text in wrong[:8]]
        raise InputError(f"{path}: folds must be 0, 1, 2, ..., but found {', '.join(shown)}")
    fold_of_row = np.array(texts, dtype=np.int64)
    n_folds = int(fold_of_row.max()) + 1
    if problems := list(_fold_problems(fold_of_row, n_folds)):
        raise InputError.of(path, problems)
    folds = Folds(fold_of_row, n_folds, seed)
    _check_groups(folds, dataset, str(path))
    _check_training_parts(folds, dataset, str(path))
    return folds


def _check_groups(folds: Folds, dataset: Dataset, source: str) -> None:
    """Refuse a split of a group that the competition names."""
    if dataset.groups is None:
        return
    pairs = set(zip(dataset.groups.tolist(), folds.fold_of_row.tolist(), strict=True))
    n_folds_of = Counter(group for group, _ in pairs)
    if split := sorted(group for group, n_folds in n_folds_of.items() if n_folds > 1):
        raise InputError(
            f"{source}: whole groups must be in one fold, but not {listed(split, 'group')} of "
            f"{dataset.source}"
        )


def _groups(config: FoldsConfig, dataset: Dataset) -> np.ndarray | None:
    if config.groups is None:
        return dataset.groups
    if dataset.groups is not None:
        raise InputError(
            f"groups come from one place, but both the group of competition.toml and the file "
            f"{config.groups} are given"
        )
    return np.array(read_values(config.groups, "group", dataset.ids))


def _stratified(n_folds: int, dataset: Dataset, seed: int) -> np.ndarray:
    counts = zip(dataset.classes, dataset.class_counts, strict=True)
    small = [f"class {name} has {n}" for name, n in counts if n < n_folds]
    if small:
        raise InputError(
            f"{dataset.source}: each class needs at least {n_folds} rows for {n_folds} folds, "
            f"but {', '.join(small)}"
        )
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    return _fold_of_row(splitter.split(dataset.ids, dataset.known_labels), dataset.n_rows)


def _grouped(n_folds: int, dataset: Dataset, groups: np.ndarray, seed: int) -> np.ndarray:
    labels = dataset.known_labels
    n_groups = len(np.unique(groups))
    if n_groups < n_folds:
        raise InputError(
            f"{dataset.source}: {n_folds} folds need at least {n_folds} groups, but there are "
            f"{n_groups}"
        )
    for label in range(dataset.n_classes):
        if len(only := np.unique(groups[labels == label])) == 1:
            raise InputError(
                f"{dataset.source}: every class needs at least 2 groups, but all rows of class "
                f"{dataset.classes[label]} are in group {only[0]}"
            )
    if dataset.class_counts.min() >= n_folds:  # scikit-learn warns of smaller classes
        from sklearn.model_selection import StratifiedGroupKFold

        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        drawn = _fold_of_row(splitter.split(dataset.ids, labels, groups), dataset.n_rows)
        if len(np.unique(drawn)) == n_folds and not _held_out_entirely(drawn, labels, n_folds):
            return drawn
    # scikit-learn assigns groups one by one to balance the classes, and may leave a fold empty.
    names, group_of_row = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), dataset.n_classes), dtype=np.int64)
    np.add.at(counts, (group_of_row, labels), 1)
    fold_of_group = assign_groups(counts, n_folds, seed)
    if fold_of_group is None:
        raise InputError(
            f"{dataset.source}: a net must see every class, but no split of the {n_groups} groups "
            f"into {n_folds} folds was found that leaves each class in every training part; choose "
            "another folds.n_folds"
        )
    return fold_of_group[group_of_row]


def assign_groups(
    counts: Int64[np.ndarray, "g k"], n_folds: int, seed: int
) -> Int64[np.ndarray, " g"] | None:
    """Return a fold for each group, or None if there is no such split.

    `counts` are the rows of each class in each group. No fold is empty, and none holds all rows of
    a class. Folds are tried in the order in which they balance the classes, with backtracking, so a
    split that exists is found unless that takes more than `MAX_STEPS`.
    """
    n_groups, has_class = len(counts), counts > 0
    n_of_class = has_class.sum(axis=0)  # groups
    # Groups of rare classes first, as they leave the least choice; among them large ones first.
    rarity = np.where(has_class, n_of_class, n_groups + 1).min(axis=1)
    shuffled = np.random.default_rng(seed).permutation(n_groups)
    order = shuffled[np.lexsort((-counts[shuffled].sum(axis=1), rarity[shuffled]))].tolist()
    shares = counts / counts.sum(axis=0)
    share_in = np.zeros((n_folds, counts.shape[1]))  # of each class in each fold
    n_in = np.zeros((n_folds, counts.shape[1]), dtype=np.int64)  # groups of each class
    n_groups_in = np.zeros(n_folds, dtype=np.int64)
    fold_of_group = np.full(n_groups, -1, dtype=np.int64)

    def move(group: int, fold: int, sign: int) -> None:
        share_in[fold] += sign * shares[group]
        n_in[fold] += sign * has_class[group]
        n_groups_in[fold] += sign
        fold_of_group[group] = fold if sign > 0 else -1

    def choices(group: int, n_after: int) -> list[int]:
        """Return the folds that may take the group, the best one last."""
        used, empty = np.flatnonzero(n_groups_in), np.flatnonzero(n_groups_in == 0)
        # One empty fold is as good as another, and each needs one of the groups that come after.
        folds = [*used, *empty[:1]] if n_after >= len(empty) else empty[:1]
        is_whole = n_in + has_class[group] == n_of_class
        fitting = [int(fold) for fold in folds if not is_whole[fold].any()]

        def unevenness(fold: int) -> tuple[float, int]:
            after = share_in.copy()
            after[fold] += shares[group]
            return float(after.std(axis=0).mean()), int(n_groups_in[fold])

        return sorted(fitting, key=unevenness, reverse=True)

    tried: list[list[int]] = []
    for _ in range(n_groups + MAX_STEPS):
        depth = len(tried)
        if depth == n_groups:
            return fold_of_group
        tried.append(choices(order[depth], n_groups - depth - 1))
        while not tried[-1]:
            tried.pop()
            if not tried:
                return None
            group = order[len(tried) - 1]
            move(group, int(fold_of_group[group]), -1)
        group = order[len(tried) - 1]
        move(group, tried[-1].pop(), 1)
    return None


def inner_split(
    labels: Int64[np.ndarray, " m"],
    groups: Shaped[np.ndarray, " m"] | None,
    share: float,
    seed: Sequence[int],
) -> Bool[np.ndarray, " m"]:
    """Return which of a net's training rows to set aside: a share of each class, in whole groups.

    Notes
    -----
    No class is set aside entirely and no group is split. Without groups, each class of two rows or
    more has its share set aside, rounded, and at least one row. With groups, one after another in
    random order is set aside if that brings the classes nearer to their shares.

    """
    generator = np.random.default_rng(seed)
    counts = np.bincount(labels)
    if groups is None:
        aims = np.minimum(np.maximum(np.round(share * counts), 1), np.maximum(counts - 1, 0))
        order = generator.permutation(len(labels))
        by_class = order[np.argsort(labels[order], kind="stable")]
        first = np.cumsum(counts) - counts
        rank = np.empty(len(labels), dtype=np.int64)
        rank[by_class] = np.arange(len(labels)) - first[labels[by_class]]
        is_aside: np.ndarray = rank < aims[labels]
    else:
        names, group_of_row = np.unique(groups, return_inverse=True)
        is_aside = _groups_aside(labels, group_of_row, len(names), share, generator)[group_of_row]
    if not is_aside.any():
        what = "rows" if groups is None else "whole groups"
        raise InputError(
            f"train.early_stopping: no {what} of the {len(labels):,} training rows can be watched "
            f"with share {share:g} that leave every class among the others; choose another share, "
            "or patience 0"
        )
    return is_aside


def _groups_aside(
    labels: np.ndarray,
    group_of_row: np.ndarray,
    n_groups: int,
    share: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return which groups are set aside: those that bring the classes nearer to their shares."""
    counts = np.zeros((n_groups, int(labels.max()) + 1))
    np.add.at(counts, (group_of_row, labels), 1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    n_left = (counts > 0).sum(axis=0)  # groups of each class
    missing = np.where(n_left > 0, share, 0.0)
    is_aside = np.zeros(n_groups, dtype=bool)
    for group in generator.permutation(n_groups):
        has_class = counts[group] > 0
        is_nearer = np.abs(missing - shares[group]).sum() < np.abs(missing).sum()
        if is_nearer and (n_left[has_class] > 1).all():
            is_aside[group] = True
            missing -= shares[group]
            n_left -= has_class
    return is_aside


def _fold_of_row(splits: Iterator[tuple[np.ndarray, np.ndarray]], n_rows: int) -> np.ndarray:
    fold_of_row = np.full(n_rows, -1, dtype=np.int64)
    for fold, (_, valid_idx) in enumerate(splits):
        fold_of_row[valid_idx] = fold
    return fold_of_row


def _check_training_parts(folds: Folds, dataset: Dataset, source: str) -> None:
    labels = dataset.known_labels
    problems = [
        f"fold {fold} holds out every row of class {dataset.classes[label]}"
        for fold, label in _held_out_entirely(folds.fold_of_row, labels, folds.n_folds)
    ]
    if problems:
        raise InputError.of(f"{source}: a net must see every class", problems)


def _held_out_entirely(
    fold_of_row: np.ndarray, labels: np.ndarray, n_folds: int
) -> list[tuple[int, int]]:
    """Return each (fold, class) where the fold has all rows of the class."""
    return [
        (fold, label)
        for fold in range(n_folds)
        for label in range(int(labels.max()) + 1)
        if not np.any((labels == label) & (fold_of_row != fold))
    ]
