from typing import Any

import jaxtyping
import numpy as np
import pytest

from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.synthetic import make_rows
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError


def parts(**changed: Any) -> dict[str, Any]:
    good = {
        "ids": np.array(["a", "b", "c"]),
        "signals": np.zeros((3, 2), dtype=np.float32),
        "labels": np.array([0, 1, 0]),
        "groups": np.array(["p", "p", "q"]),
        "source": "train.csv",
    }
    return good | changed


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "short labels": ({"labels": np.array([0, 1])}, "labels has 2 rows, but ids has 3"),
    "short signals": ({"signals": np.zeros((2, 2), np.float32)}, "signals has 2 rows, but ids"),
    "short groups": ({"groups": np.array(["p"])}, "groups has 1 rows, but ids has 3"),
    "float64": (
        {"signals": np.zeros((3, 2))},
        "signals must be float32 of shape (n, c, t), but got",
    ),
    "one axis": (
        {"signals": np.zeros(3, np.float32)},
        "must be float32 of shape (n, c, t), but got",
    ),
    "number ids": ({"ids": np.arange(3)}, "ids must be text of shape (n,), but got int64 (3,)"),
    "float labels": (
        {"labels": np.zeros(3)},
        "labels must be int64 of shape (n,), but got float64",
    ),
    "no sample": ({"signals": np.zeros((3, 0), np.float32)}, "must have at least one time step"),
    "doubled ids": ({"ids": np.array(["a", "b", "a"])}, "ids must be unique, but repeated: id a"),
    "empty id": ({"ids": np.array(["a", "b", ""])}, "an id must not be empty"),
    "empty group": ({"groups": np.array(["p", "", "q"])}, "empty group of id b"),
    "infinite": (
        {"signals": np.array([[0, np.nan], [-np.inf, 0], [0, np.inf]], np.float32)},
        "values must be finite, but are not in 2 ids: b, c",
    ),
    "negative": ({"labels": np.array([0, -1, 1])}, "0..k-1, but are negative for id b"),
    "hole": ({"labels": np.array([0, 3, 1])}, "class 2 has no row (found 0, 1, 3)"),
    "one class": ({"labels": np.zeros(3, np.int64)}, "there must be at least 2 classes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_data_set_that_breaks_a_guarantee_cannot_be_made(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The class itself must notice, as it does for users, who run without the tests' checks.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    changed, message = WRONG[case]
    with pytest.raises(InputError) as caught:
        Dataset(**parts(**changed))
    assert str(caught.value).startswith("train.csv: ")
    assert message in str(caught.value)


def test_no_row_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="there must be at least one row"):
        Dataset(np.array([], dtype="U1"), np.zeros((0, 2), np.float32))


def test_all_broken_guarantees_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Dataset(**parts(ids=np.array(["a", "a", "b"]), labels=np.array([0, 2, 0])))
    assert "repeated: id a" in str(caught.value)
    assert "class 1 has no row" in str(caught.value)


def test_one_channel_may_be_left_out_and_several_not() -> None:
    assert Dataset(**parts()).shape == (1, 2)
    both = np.stack([parts()["signals"]] * 2, axis=1)
    assert Dataset(**parts(signals=both)).shape == (2, 2)
    assert Dataset(**parts(signals=both)).fingerprint != Dataset(**parts()).fingerprint


def test_counts_describe_the_beats() -> None:
    beats = make_rows(n=10, t=7, k=3)
    assert (beats.n_rows, beats.n_timepoints, beats.n_classes) == (10, 7, 3)
    assert beats.class_counts.tolist() == [4, 3, 3]


def test_the_arrays_are_read_only_and_the_callers_own_stay_writable() -> None:
    given = parts()
    beats = Dataset(**given)
    with pytest.raises(ValueError, match="read-only"):
        beats.signals[0, 0, 0] = 1
    given["signals"][0, 0] = 0


def test_rows_lie_one_after_the_other_in_whatever_order_the_callers_array_lies() -> None:
    given = parts(signals=np.asfortranarray(parts()["signals"]))
    given["labels"] = np.array([[0, 9], [1, 9], [0, 9]])[:, 0]
    beats = Dataset(**given)
    assert beats.labels is not None
    assert beats.signals.flags.c_contiguous
    assert beats.labels.flags.c_contiguous
    assert beats.flat.tolist() == parts()["signals"].tolist()
    assert beats.labels.tolist() == [0, 1, 0]


def test_asking_unlabelled_beats_for_labels_is_refused() -> None:
    with pytest.raises(InputError, match=r"train\.csv: labels are needed here, but it has none"):
        _ = Dataset(**parts(labels=None)).n_classes


@pytest.mark.parametrize(
    "changed",
    [
        {"ids": np.array(["a", "b", "d"])},
        {"signals": np.eye(3, 2, dtype=np.float32)},
        {"signals": np.zeros((3, 4), dtype=np.float32)},
        {"labels": np.array([0, 1, 1])},
        {"labels": None},
        {"groups": None},
    ],
)
def test_any_change_of_the_data_changes_the_fingerprint(changed: dict[str, Any]) -> None:
    assert Dataset(**parts(**changed)).fingerprint != Dataset(**parts()).fingerprint


def test_equal_data_has_one_fingerprint_wherever_it_comes_from() -> None:
    signals = np.asfortranarray(parts()["signals"])
    assert (
        Dataset(**parts(source="b", signals=signals)).fingerprint == Dataset(**parts()).fingerprint
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test": "b.csv"}, "`test` needs `train`"),
        ({"trian": "a.csv"}, "unknown key trian, did you mean train?"),
    ],
)
def test_a_wrong_data_section_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="data: ") as caught:
        validate(DataConfig, values, "data")
    assert message in str(caught.value)
