"""Out-of-fold and test probabilities, which always travel with their ids."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal
from zipfile import ZipFile

import numpy as np
import xxhash
from jaxtyping import Float32, Float64, Int64, Shaped

from hbcomp.data.dataset import Dataset
from hbcomp.data.splits import Folds
from hbcomp.system.errors import InputError, did_you_mean, similar_names
from hbcomp.system.files import atomic_path, csv_bytes, write_bytes

# The type and the axes of what the files hold; axes of one letter are equally long.
Layout = Mapping[str, tuple[str, str]]
LAYOUT: Final[Layout] = {
    "train_ids": ("U", "n"),
    "labels": ("int64", "n"),
    "fold_of_row": ("int64", "n"),
    "oof_probs": ("float64", "nk"),
    "test_ids": ("U", "m"),
    "test_probs": ("float64", "mk"),
    "train_fingerprint": ("U", ""),
    "test_fingerprint": ("U", ""),
    "test_probs_of_fold": ("float32", "fsk"),
}
OPTIONAL: Final = ("test_probs_of_fold",)
N_SAMPLED: Final = 20_000  # test rows kept for each fold: 3 MB of ten folds and four classes
ALL: Final = "all"  # in place of a fold's number: the net holds nothing out
Fold = int | Literal["all"]


@dataclass(frozen=True, eq=False)
class FoldResult:
    """The probabilities of one net, trained without one fold, for its rows and the test rows."""

    seed: int
    fold: Fold
    valid_idx: Int64[np.ndarray, " v"]
    valid_probs: Float32[np.ndarray, "v k"]
    test_probs: Float32[np.ndarray, "m k"] | None


@dataclass(frozen=True, eq=False)
class Predictions:
    """One out-of-fold probability row per train row and one averaged row per test row.

    With several seeds both are means over the seeds. `fold_of_row` is the first seed's split,
    by which rules are cross-fitted. Without a test file the test arrays and its fingerprint are
    empty. The fingerprints are those of the rows, ids and labels included: equal ones mean the
    same rows in the same order.

    `test_probs_of_fold` has, for each fold, the mean over the seeds of the nets without it: what an
    out-of-fold row has, for the test rows at `sampled_rows`. It is None for imports and without
    test rows.
    """

    train_ids: Shaped[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    fold_of_row: Int64[np.ndarray, " n"]
    oof_probs: Float64[np.ndarray, "n k"]
    test_ids: Shaped[np.ndarray, " m"]
    test_probs: Float64[np.ndarray, "m k"]
    train_fingerprint: str
    test_fingerprint: str
    test_probs_of_fold: Float32[np.ndarray, "f s k"] | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of the out-of-fold probabilities and labels: what a study of them is bound to."""
        digest = xxhash.xxh3_64(np.ascontiguousarray(self.oof_probs).view(np.uint8).data)
        digest.update(np.ascontiguousarray(self.labels).view(np.uint8).data)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write all arrays to one npz file, atomically."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: value for name, value in values.items() if value is not None}
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # numpy 2.0 knows no allow_pickle here; none is an object

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Return the predictions of a finished run."""
        try:
            arrays = read_arrays(path, LAYOUT, OPTIONAL)
        except FileNotFoundError:
            similar = did_you_mean(similar_names(path.parent))
            raise InputError(f"{path}: no such file{similar}; has the run finished?") from None
        except ValueError as error:
            raise InputError(f"{path}: not the predictions of a run: {error}") from error
        of_fold, n_test = arrays.get("test_probs_of_fold"), len(arrays["test_ids"])
        if of_fold is not None and of_fold.shape[1] != len(sampled_rows(n_test)):
            raise InputError(
                f"{path}: test_probs_of_fold has {of_fold.shape[1]:,} rows, but of {n_test:,} test "
                f"rows {len(sampled_rows(n_test)):,} are kept"
            )
        return cls(**{name: _text(array) for name, array in arrays.items()})


def read_arrays(path: Path, layout: Layout, optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file that a layout names; any other file is a ValueError.

    Integers must not be negative, probabilities must be in [0, 1], labels below the number of
    classes. Nothing is unpickled, and nothing unpacked: an array is not larger than its file.
    """
    try:
        with ZipFile(path) as members:
            is_packed = any(member.compress_type for member in members.infolist())
            found = members.namelist()
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ([] if is_packed else stored)}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and numpy raise a dozen kinds for a damaged file
        raise ValueError(f"damaged: {error}") from error
    if is_packed:
        raise ValueError("its arrays are compressed, which ours never are")
    if len(found) > len(arrays) or not arrays.keys() <= layout.keys():
        raise ValueError(f"it must hold {', '.join(layout)}, each once, but holds {found}")
    if missing := [name for name in layout if name not in {*arrays, *optional}]:
        raise ValueError(f"there is no {', '.join(missing)}")
    if problems := [*_layout_problems(arrays, layout)] or [*_value_problems(arrays)]:
        raise ValueError("; ".join(problems))
    return arrays


def _layout_problems(arrays: Mapping[str, Any], layout: Layout) -> Iterator[str]:
    length_of: dict[str, int] = {}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy gives the bytes of what has no header
            yield f"{name} is no array"
            continue
        dtype, axes = layout[name]
        is_typed = array.dtype.kind == dtype or array.dtype == np.dtype(dtype)
        if not is_typed or array.ndim != len(axes):
            yield f"{name} must be {len(axes)} axes of {dtype}, but is {array.dtype} {array.shape}"
            continue
        for axis, length in zip(axes, array.shape, strict=True):
            if length_of.setdefault(axis, length) != length:
                yield f"{name} has the shape {array.shape}, but others say {length_of[axis]}"


def _value_problems(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    for name, array in arrays.items():
        if array.dtype.kind == "i" and (array < 0).any():
            yield f"{name} must not be negative, but some are"
        # The mean of float32 sums may be off by its last digits.
        if array.dtype.kind == "f" and not ((array >= 0) & (array <= 1 + 1e-5)).all():
            yield f"{name} must be in [0, 1], but some are not"
    if "labels" in arrays and (arrays["labels"] >= arrays["oof_probs"].shape[1]).any():
        yield "labels must be below the number of classes, but some are not"


def _text(array: np.ndarray) -> Any:
    """Return the text in an array without axes, and any other array as it is."""
    return array if array.ndim else str(array)


def check_aligned(experiments: Mapping[str, Predictions]) -> None:
    """Refuse experiments on other train or test rows than the first, naming each that differs."""
    (first, reference), *others = experiments.items()
    problems = [
        f"{name} was made on other {kind} rows than {first}"
        for name, each in others
        for kind in ("train", "test")
        if getattr(each, f"{kind}_fingerprint") != getattr(reference, f"{kind}_fingerprint")
    ]
    if problems:
        raise InputError.of("all experiments must have the same rows in the same order", problems)


def have_same_folds(experiments: Mapping[str, Predictions]) -> bool:
    """Return whether all experiments were cross-validated over the same (first) split."""
    first, *others = (each.fold_of_row for each in experiments.values())
    return all(np.array_equal(first, other) for other in others)


def assemble(
    train: Dataset,
    test: Dataset | None,
    folds_of_seed: Mapping[int, Folds],
    results: Sequence[FoldResult],
) -> Predictions:
    """Return the predictions of a complete set of fold results.

    Every train row must be predicted exactly once per seed, and every result must cover the
    rows of its fold; what is missing or double is an InputError. The sums run in the order of
    (seed, fold), whatever order the folds finished in, so the bits do not depend on it.
    """
    ordered = sorted(results, key=lambda result: (result.seed, result.fold))
    _check_complete(folds_of_seed, ordered)
    of_test = [result.test_probs for result in ordered if result.test_probs is not None]
    first = next(iter(folds_of_seed.values()))
    return Predictions(
        train_ids=train.ids,
        labels=train.known_labels,
        fold_of_row=first.fold_of_row,
        oof_probs=mean_oof(ordered, (train.n_rows, train.n_classes)),
        test_ids=test.ids if test else train.ids[:0],
        test_probs=mean_probs(of_test) if test else np.zeros((0, train.n_classes)),
        test_probs_of_fold=_test_probs_of_fold(ordered),
        train_fingerprint=train.fingerprint,
        test_fingerprint=test.fingerprint if test else "",
    )


def mean_oof(results: Sequence[FoldResult], shape: tuple[int, int]) -> Float64[np.ndarray, "n k"]:
    """Return the mean of each row's probabilities over the seeds, summed in the order given.

    The shape is rows by classes.
    """
    oof = np.zeros(shape)
    for result in results:
        oof[result.valid_idx] += result.valid_probs
    return oof / len({result.seed for result in results})


def mean_probs(parts: Sequence[Float32[np.ndarray, "m k"]]) -> Float64[np.ndarray, "m k"]:
    """Return the mean of equally shaped probabilities, summed in the order given."""
    total = np.zeros(parts[0].shape)
    for part in parts:
        total += part
    return total / len(parts)


def sampled_rows(n_rows: int) -> Int64[np.ndarray, " s"]:
    """Return the test rows that are kept for each fold: evenly spaced, and all where few."""
    return np.linspace(0, n_rows - 1, min(n_rows, N_SAMPLED)).astype(np.int64)


def _test_probs_of_fold(ordered: Sequence[FoldResult]) -> Float32[np.ndarray, "f s k"] | None:
    of_fold: dict[Fold, list[np.ndarray]] = defaultdict(list)
    for result in ordered:
        if result.test_probs is not None:
            of_fold[result.fold].append(result.test_probs[sampled_rows(len(result.test_probs))])
    if not of_fold:
        return None
    return np.stack([mean_probs(parts) for parts in of_fold.values()]).astype(np.float32)


def _check_complete(folds_of_seed: Mapping[int, Folds], results: Sequence[FoldResult]) -> None:
    wanted = [
        (seed, fold) for seed, folds in folds_of_seed.items() for fold in range(folds.n_folds)
    ]
    there = [(result.seed, result.fold) for result in results]
    problems = [f"seed {s} fold {f} is missing" for s, f in wanted if (s, f) not in there]
    problems += [f"seed {s} fold {f} is double" for s, f in set(there) if there.count((s, f)) > 1]
    problems += [f"seed {s} fold {f} is unknown" for s, f in there if (s, f) not in wanted]
    if not problems:
        result_of = dict(zip(there, results, strict=True))
        problems = [
            f"seed {s} fold {f} holds other rows than its fold"
            for s, f in wanted
            if not np.array_equal(result_of[s, f].valid_idx, folds_of_seed[s].valid_idx(f))
        ]
    if problems:
        raise InputError.of("fold results", problems)


def write_predictions(folder: Path, predictions: Predictions, classes: Sequence[str]) -> None:
    """Write predictions.npz, oof.csv and, where there are test rows, test.csv into a folder."""
    predictions.save(folder / "predictions.npz")
    write_probs_csv(
        folder / "oof.csv",
        predictions.train_ids,
        predictions.oof_probs,
        predictions.labels,
        predictions.fold_of_row,
        classes,
    )
    if len(predictions.test_ids):
        path = folder / "test.csv"
        write_probs_csv(path, predictions.test_ids, predictions.test_probs, classes=classes)


def write_probs_csv(
    path: Path,
    ids: Shaped[np.ndarray, " n"],
    probs: Float64[np.ndarray, "n k"],
    labels: Int64[np.ndarray, " n"] | None = None,
    fold_of_row: Int64[np.ndarray, " n"] | None = None,
    classes: Sequence[str] = (),
) -> None:
    """Write `id[,label][,fold],prob_CLASS,...` atomically; every float reads back as itself.

    Without `classes` they are called by their numbers.
    """
    names = np.array(classes or [str(label) for label in range(probs.shape[1])])
    columns: dict[str, np.ndarray] = {"id": ids}
    if labels is not None:
        columns["label"] = names[labels]
    if fold_of_row is not None:
        columns["fold"] = fold_of_row
    columns |= {f"prob_{name}": column for name, column in zip(names, probs.T, strict=True)}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    write_bytes(path, csv_bytes(columns, rows))
