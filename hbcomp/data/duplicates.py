"""Rows with equal signals, which leak between folds, train and test."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import xxhash
from jaxtyping import Int64

from hbcomp.data.dataset import Dataset, filled, in_words
from hbcomp.system.errors import InputError, listed
from hbcomp.system.memory import row_blocks


@dataclass(frozen=True)
class Duplicates:
    """How many rows repeat another one; None if there was nothing to compare."""

    n_train: int
    n_repeated: int
    """Rows of train whose signal occurred in an earlier row of train."""
    n_conflicting: int | None
    """Rows of train whose signal occurs in train with another label as well."""
    n_across_folds: int | None
    """Rows of train whose signal is also in another fold, so that their score is too good."""
    n_test: int | None
    n_in_train: int | None
    """Rows of test whose signal is in train."""
    n_shared_ids: int | None
    """Rows of test whose id is in train."""

    def lines(self) -> list[str]:
        """Return a sentence for each count."""
        return [sentence for _, sentence in self._counts()]

    def warnings(self) -> list[str]:
        """Return the sentences of the counts above zero."""
        return [sentence for count, sentence in self._counts() if count]

    def _counts(self) -> Iterator[tuple[int, str]]:
        n_train, n_test = f"{self.n_train:,}", f"{self.n_test or 0:,}"
        sentences = [
            (self.n_repeated, f"of {n_train} training rows repeat the signal of another"),
            (self.n_conflicting, "training rows share a signal but not the label"),
            (self.n_across_folds, "training rows have a copy in another fold"),
            (self.n_in_train, f"of {n_test} test rows have their signal in train"),
            (self.n_shared_ids, f"of {n_test} test rows have their id in train"),
        ]
        for count, rest in sentences:
            if count is not None:
                yield count, f"{count:,} {rest}"


def find_duplicates(
    train: Dataset,
    test: Dataset | None = None,
    fold_of_row: Int64[np.ndarray, " n"] | None = None,
) -> Duplicates:
    """Return the counts of rows with equal signals; 0.0 and -0.0 are equal."""
    hashes = _hashes(train)
    n_distinct = len(set(hashes))
    n_in_train = n_shared_ids = None
    if test is not None:
        n_in_train = _n_in(_hashes(test), hashes)
        # Two files that number their own rows share ids that say nothing.
        if n_in_train or not (_is_numbered(train) and _is_numbered(test)):
            n_shared_ids = _n_in(test.ids.tolist(), train.ids.tolist())
    return Duplicates(
        n_train=train.n_rows,
        n_repeated=train.n_rows - n_distinct,
        n_conflicting=_n_disagreeing(hashes, train.labels),
        n_across_folds=_n_disagreeing(hashes, fold_of_row),
        n_test=None if test is None else test.n_rows,
        n_in_train=n_in_train,
        n_shared_ids=n_shared_ids,
    )


def check_pair(train: Dataset, test: Dataset, *, numbers_apart: bool = False) -> None:
    """Raise an InputError unless the two can be train and test of one task.

    An id in both is allowed if the signal is the same (`find_duplicates` counts it). With another
    signal it would name two rows, unless each file numbers its own rows (`numbers_apart`). A test
    file of training rows only is the wrong file.
    """
    if train.shape != test.shape:
        raise InputError(
            f"{test.source}: signals have {in_words(test.shape)}, but those of {train.source} have "
            f"{in_words(train.shape)}"
        )
    row_of_id = {row_id: row for row, row_id in enumerate(train.ids.tolist())}
    shared = [
        (row_id, row_of_id[row_id], row)
        for row, row_id in enumerate(test.ids.tolist())
        if row_id in row_of_id
    ]
    differing = [
        row_id
        for row_id, train_row, test_row in shared
        if not np.array_equal(train.signals[train_row], test.signals[test_row], equal_nan=True)
    ]
    if differing and not numbers_apart:
        raise InputError(
            f"{test.source}: an id names one row, but these have another signal in "
            f"{train.source}: {listed(differing, 'id')}"
        )
    if len(shared) - len(differing) == test.n_rows:
        raise InputError(
            f"{test.source}: all of its {test.n_rows:,} rows are training rows of {train.source}, "
            "with the same ids and signals; name the file of the rows to answer"
        )


def _is_numbered(dataset: Dataset) -> bool:
    """Whether the ids are the numbers of the rows from 0, as of a file without ids."""
    return bool((dataset.ids == [str(row) for row in range(dataset.n_rows)]).all())


def _hashes(dataset: Dataset) -> list[bytes]:
    # Adding 0 turns -0.0 into 0.0. With 128 bits the chance of a collision is about 1e-28.
    return [
        xxhash.xxh3_128_digest(row.data)
        for rows in row_blocks(dataset.signals)
        for row in filled(dataset.signals[rows]) + np.float32(0)
    ]


def _n_in(values: Iterable[object], known: Iterable[object]) -> int:
    found = set(known)
    return sum(value in found for value in values)


def _n_disagreeing(hashes: list[bytes], marks: np.ndarray | None) -> int | None:
    """Return how many rows have an equal signal under another mark."""
    if marks is None:
        return None
    marks_of_hash: defaultdict[bytes, set[int]] = defaultdict(set)
    for key, mark in zip(hashes, marks.tolist(), strict=True):
        marks_of_hash[key].add(mark)
    return sum(len(marks_of_hash[key]) > 1 for key in hashes)
