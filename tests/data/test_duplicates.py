import numpy as np
import pytest

from hbcomp.data.dataset import Dataset
from hbcomp.data.duplicates import check_pair, find_duplicates
from hbcomp.system.errors import InputError


def beats(
    rows: dict[str, list[float]], labels: list[int] | None = None, name: str = "x"
) -> Dataset:
    return Dataset(
        np.array(list(rows)),
        np.array(list(rows.values()), dtype=np.float32),
        None if labels is None else np.array(labels),
        source=name,
    )


TRAIN = beats(
    {"a": [1, 2], "b": [3, 4], "c": [1, 2], "d": [3, 4], "e": [0.0, 5]},
    [0, 1, 0, 0, 1],
    "train.csv",
)


def test_copies_conflicts_and_torn_folds_are_counted() -> None:
    found = find_duplicates(TRAIN, fold_of_row=np.array([0, 1, 1, 1, 0]))
    assert (found.n_train, found.n_repeated, found.n_conflicting) == (5, 2, 2)
    assert found.n_across_folds == 2
    assert found.n_test is None


def test_signals_and_ids_of_train_in_test_are_counted() -> None:
    test = beats({"a": [1, 2], "x": [3, 4], "y": [9, 9], "z": [-0.0, 5]})
    found = find_duplicates(TRAIN, test)
    assert (found.n_test, found.n_in_train, found.n_shared_ids) == (4, 3, 1)
    assert found.n_across_folds is None


def test_the_sentences_say_every_count() -> None:
    test = beats({"a": [1, 2], "y": [9, 9]})
    assert find_duplicates(TRAIN, test, np.array([0, 1, 1, 1, 0])).lines() == [
        "2 of 5 training rows repeat the signal of another",
        "2 training rows share a signal but not the label",
        "2 training rows have a copy in another fold",
        "1 of 2 test rows have their signal in train",
        "1 of 2 test rows have their id in train",
    ]
    assert len(find_duplicates(test).lines()) == 1


def test_counts_equal_those_of_comparing_all_pairs() -> None:
    rng = np.random.default_rng(0)
    signals = rng.integers(0, 3, (60, 3)).astype(np.float32)
    folds = rng.integers(0, 3, 60)
    train = Dataset(np.arange(60).astype(str), signals, np.arange(60) % 2)
    same = (signals[:, None] == signals[None]).all(axis=2)
    found = find_duplicates(train, train, folds)
    assert found.n_repeated == np.tril(same, -1).any(axis=1).sum()
    assert found.n_across_folds == (same & (folds[:, None] != folds)).any(axis=1).sum()
    assert found.n_in_train == found.n_shared_ids == 60


def test_one_beat_in_train_and_test_is_allowed() -> None:
    check_pair(TRAIN, beats({"a": [1, 2], "q": [7, 7]}))


def test_an_id_with_two_signals_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"test\.csv: .* signal in train\.csv: 2 ids: a, b$"):
        check_pair(TRAIN, beats({"a": [1, 3], "b": [3, 5], "c": [1, 2]}, name="test.csv"))


def test_signals_of_another_length_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"test\.csv: signals have 3 time steps, but those of train"
    ):
        check_pair(TRAIN, beats({"q": [1, 2, 3]}, name="test.csv"))
