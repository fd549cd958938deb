import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbcomp.data.dataset import Dataset
from hbcomp.data.splits import Folds, FoldsConfig, make_folds
from hbcomp.data.synthetic import make_rows
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError

BEATS = make_rows(n=8, t=4, k=2)


def with_groups(beats: Dataset, groups: list[str]) -> Dataset:
    return Dataset(beats.ids, beats.signals, beats.labels, np.array(groups), "train.csv")


def write_rows(path: Path, column: str, values: list[Any], ids: list[str] | None = None) -> Path:
    ids = BEATS.ids.tolist() if ids is None else ids
    rows = [f"{row_id},{value}" for row_id, value in zip(ids, values, strict=True)]
    path.write_text("\n".join([f"id,{column}", *rows]) + "\n")
    return path


@given(st.integers(2, 5), st.integers(20, 60), st.integers(2, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_every_row_is_held_out_once_and_class_counts_differ_by_at_most_1(
    n_folds: int, n: int, k: int, seed: int
) -> None:
    beats = make_rows(n=n, t=2, k=k, seed=seed)
    folds = make_folds(FoldsConfig(n_folds=n_folds), beats, seed)
    held_out = np.concatenate([folds.valid_idx(fold) for fold in range(n_folds)])
    assert sorted(held_out.tolist()) == list(range(n))
    for fold in range(n_folds):
        both = [*folds.valid_idx(fold), *folds.train_idx(fold)]
        assert sorted(both) == list(range(n))
    counts = [
        np.bincount(beats.known_labels[folds.valid_idx(fold)], minlength=k)
        for fold in range(n_folds)
    ]
    assert np.ptp(counts, axis=0).max() <= 1


def test_the_same_seed_makes_the_same_folds_and_another_seed_others() -> None:
    beats = make_rows()
    first, again, other = (make_folds(FoldsConfig(), beats, seed) for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint


@pytest.mark.parametrize("source", ["column", "file"])
def test_groups_are_never_parted(source: str, tmp_path: Path) -> None:
    beats = make_rows(n=60, t=2, k=3)
    groups = [f"patient {i % 12}" for i in range(60)]
    if source == "column":
        folds = make_folds(FoldsConfig(n_folds=3), with_groups(beats, groups), 0)
    else:
        path = write_rows(tmp_path / "g.csv", "group", groups, beats.ids.tolist())
        folds = make_folds(FoldsConfig(n_folds=3, groups=path), beats, 0)
    parts = [{groups[i] for i in folds.valid_idx(fold)} for fold in range(3)]
    assert sum(map(len, parts)) == 12
    assert set.union(*parts) == set(groups)


def test_a_users_own_folds_are_taken_by_id_whatever_the_order_and_seed(tmp_path: Path) -> None:
    wanted = [0, 1, 2, 0, 1, 2, 0, 1]
    ids = BEATS.ids.tolist()
    path = write_rows(tmp_path / "folds.csv", "fold", wanted[::-1], ids[::-1])
    config = FoldsConfig(n_folds=5, file=path)
    folds = [make_folds(config, BEATS, seed) for seed in (0, 1)]
    assert folds[0].fold_of_row.tolist() == wanted
    assert folds[0].n_folds == 3
    assert folds[0].fingerprint == folds[1].fingerprint


IDS = [str(i) for i in range(8)]
WRONG_FILES: dict[str, tuple[list[str], list[Any], str]] = {
    "missing id": (IDS[:6], [0, 1] * 3, "no row for 2 ids: 6, 7 of the data"),
    "unknown id": ([*IDS, "x"], [0, 1] * 4 + [0], "not in the data: id x"),
    "doubled id": ([*IDS, "3"], [0, 1] * 4 + [0], "ids must be unique, but repeated: id 3"),
    "text": (IDS, [0, 1] * 3 + [0, "a"], "folds must be 0, 1, 2, ..., but found a"),
    "5,000 digits": (IDS, [0, 1] * 3 + [0, "9" * 5000], "but found 99999999999999999999..."),
    "10 digits": (
        IDS,
        [0, 1] * 3 + [0, "9" * 10],
        "folds must be 0, 1, 2, ..., but found 9999999999",
    ),
    "other digits": (IDS, [0, 1] * 3 + [0, "٣"], "folds must be 0, 1, 2, ..., but found ٣"),
    "negative": (IDS, [0, 1] * 3 + [0, -1], "folds must be 0, 1, 2, ..., but found -1"),
    "empty": (IDS, [0, 1] * 3 + [0, ""], "empty fold of id 7"),
    "hole": (IDS, [0, 2] * 4, "no row is held out in fold 1"),
    "one fold": (IDS, [0] * 8, "there must be at least 2 folds, but got 1"),
    "a class held out whole": (
        IDS,
        BEATS.known_labels.tolist(),
        "a net must see every class: fold 0 holds out every row of class 0; fold 1 holds out",
    ),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_fold_file_is_refused_with_its_ids(case: str, tmp_path: Path) -> None:
    ids, values, message = WRONG_FILES[case]
    path = write_rows(tmp_path / "folds.csv", "fold", values, ids)
    with pytest.raises(InputError) as caught:
        make_folds(FoldsConfig(file=path), BEATS, 0)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (
            b"id,part\n0,1\n",
            "the columns 'id' and 'fold' must occur once, but found ['id', 'part']",
        ),
        (b"id,fold\n0\n", "not as long as the header: row 1"),
        (b"id,fold\n\xff,0\n", "must be UTF-8 text, but there is a byte 0xff in line 2"),
    ],
)
def test_a_fold_file_that_is_no_table_is_refused(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "folds.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        make_folds(FoldsConfig(file=path), BEATS, 0)
    assert message in str(caught.value)


def test_a_missing_fold_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        make_folds(FoldsConfig(file=tmp_path / "no.csv"), BEATS, 0)


def test_a_class_with_fewer_rows_than_folds_is_named_with_its_count() -> None:
    with pytest.raises(InputError, match="at least 5 rows for 5 folds, but class 0 has 4, class 1"):
        make_folds(FoldsConfig(), BEATS, 0)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(InputError, match="3 folds need at least 3 groups, but there are 2"):
        make_folds(FoldsConfig(n_folds=3), with_groups(BEATS, ["p", "q"] * 4), 0)


def test_a_class_in_one_group_only_is_refused() -> None:
    labels = BEATS.known_labels.tolist()
    groups = ["p" if label else f"q{i}" for i, label in enumerate(labels)]
    with pytest.raises(InputError, match="all rows of class 1 are in group p"):
        make_folds(FoldsConfig(n_folds=3), with_groups(BEATS, groups), 0)


def test_classes_with_fewer_rows_than_folds_are_split_by_their_groups() -> None:
    folds = make_folds(FoldsConfig(), with_groups(BEATS, [f"g{i}" for i in range(8)]), 0)
    assert sorted(np.bincount(folds.fold_of_row)) == [1, 1, 2, 2, 2]


def grouped_beats(counts: list[list[int]]) -> Dataset:
    """Return beats with so many rows of each class in each group."""
    rows = [
        (label, f"p{g}")
        for g, row in enumerate(counts)
        for label, n in enumerate(row)
        for _ in range(n)
    ]
    labels = np.array([label for label, _ in rows])
    ids = np.arange(len(rows)).astype(str)
    return Dataset(
        ids,
        np.zeros((len(rows), 2), np.float32),
        labels,
        np.array([group for _, group in rows]),
        "train.csv",
    )


def test_as_many_groups_as_folds_are_held_out_one_by_one() -> None:
    beats = grouped_beats([[5, 1], [0, 4], [4, 0], [3, 1]])
    for seed in range(20):
        folds = make_folds(FoldsConfig(n_folds=4), beats, seed)
        assert sorted(np.bincount(folds.fold_of_row)) == [4, 4, 4, 6]


def is_split(counts: np.ndarray, fold_of_group: Sequence[int], n_folds: int) -> bool:
    fold_of_group = np.array(fold_of_group)
    has_all = [counts[fold_of_group != fold].any(axis=0).all() for fold in range(n_folds)]
    return len(set(fold_of_group.tolist())) == n_folds and all(has_all)


@given(
    st.integers(2, 3)
    .flatmap(
        lambda k: st.lists(
            st.lists(st.sampled_from([0, 0, 1, 3]), min_size=k, max_size=k).filter(any),
            min_size=2,
            max_size=6,
        )
    )
    .filter(lambda counts: np.array(counts).any(axis=0).all()),
    st.integers(2, 4),
    st.integers(0, 9),
)
@settings(max_examples=80, deadline=None)
def test_groups_are_split_exactly_where_any_split_leaves_every_class_in_training(
    counts: list[list[int]], n_folds: int, seed: int
) -> None:
    table = np.array(counts)
    every_way = itertools.product(range(n_folds), repeat=len(counts))
    is_possible = any(is_split(table, way, n_folds) for way in every_way)
    try:
        folds = make_folds(FoldsConfig(n_folds=n_folds), grouped_beats(counts), seed)
    except InputError:
        assert not is_possible
        return
    assert is_possible
    assert set(folds.fold_of_row.tolist()) == set(range(n_folds))


def test_groups_that_cannot_be_split_are_refused_with_what_to_change() -> None:
    beats = grouped_beats([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    with pytest.raises(
        InputError, match=r"train\.csv: .*3 groups into 2 folds .* another folds\.n_"
    ):
        make_folds(FoldsConfig(n_folds=2), beats, 0)
    assert make_folds(FoldsConfig(n_folds=3), beats, 0).n_folds == 3


def test_groups_from_two_places_are_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "g.csv", "group", ["p", "q"] * 4)
    with pytest.raises(InputError, match="groups come from one place"):
        make_folds(FoldsConfig(groups=path), with_groups(BEATS, ["p", "q"] * 4), 0)


@pytest.mark.parametrize(
    ("fold_of_row", "n_folds", "message"),
    [
        ([0, 1, 2], 2, "folds must be 0..1, but found 0..2"),
        ([0, -1], 2, "folds must be 0..1, but found -1..0"),
        ([0, 1, 1, 0], 4, "no row is held out in 2 folds: 2, 3"),
        ([0, 1, 1], 4, "4 folds need at least 4 rows, but there are 3"),
        ([0, 0], 1, "there must be at least 2 folds, but got 1"),
    ],
)
def test_folds_that_break_their_guarantee_cannot_be_made(
    fold_of_row: list[int], n_folds: int, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        Folds(np.array(fold_of_row), n_folds, 0)
    assert message in str(caught.value)


def test_a_fold_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"the fold must be one of 0\.\.1, but got 2"):
        Folds(np.array([0, 1]), 2, 0).valid_idx(2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_folds": 1}, "greater than or equal to 2"),
        ({"seeds": []}, "at least 1 item"),
        ({"seeds": [1, 1]}, "seeds must be unique, but got [1, 1]"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"file": "a.csv", "groups": "b.csv"}, "so `groups` would be ignored"),
    ],
)
def test_a_wrong_folds_section_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(FoldsConfig, values, "folds")
    assert message in str(caught.value)


def test_a_file_of_folds_must_keep_the_groups_of_the_competition_whole(tmp_path):
    beats = make_rows(n=20, k=2)
    groups = np.array([f"g{row // 4}" for row in range(20)])
    config = FoldsConfig(file=tmp_path / "folds.csv")
    for n_in_fold, is_whole in ((10, False), (8, True)):
        rows = [f"{row_id},{int(at < n_in_fold)}" for at, row_id in enumerate(beats.ids)]
        (tmp_path / "folds.csv").write_text("\n".join(["id,fold", *rows]))
        if is_whole:
            assert make_folds(config, replace(beats, groups=groups), 0).n_folds == 2
        else:
            with pytest.raises(InputError, match=r"whole groups must be in one fold, but not .*g2"):
                make_folds(config, replace(beats, groups=groups), 0)
