"""Arrays in memory as a competition: files that their run keeps, and that every command can read.

experiments/<name>/data/competition.toml    the layout, the metric and the form of a submission
experiments/<name>/data/<hash>-train.npz    signals, labels, ids and, if there are any, groups
experiments/<name>/data/<hash>-test.npz     signals and ids
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tomli_w
import xxhash
from jaxtyping import Float32, Int64, Shaped

from hbcomp.competitions.competition import FILE
from hbcomp.data.dataset import id_problems
from hbcomp.data.recordings import number_classes
from hbcomp.experiment.folder import RunFolder
from hbcomp.scoring.metrics import MetricConfig, make_metric
from hbcomp.system.config import Values, validate
from hbcomp.system.errors import InputError, listed
from hbcomp.system.files import atomic_path, write_text

FOLDER: Final = "data"
HINT: Final = "choose another run=, or replace the old one with force=True"


@dataclass(frozen=True, eq=False)
class Rows:
    """Checked rows: signals with NaN where there is no value, ids and groups as text."""

    signals: Float32[np.ndarray, "n c t"]
    ids: Shaped[np.ndarray, " n"]
    groups: Shaped[np.ndarray, " n"] | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that an .npz has of them."""
        groups = {} if self.groups is None else {"groups": self.groups}
        return {"signals": self.signals, "ids": self.ids, **groups}

    @property
    def fingerprint(self) -> str:
        """A hash of them."""
        return _hash(self.arrays())


@dataclass(frozen=True, eq=False)
class Labels:
    """The classes as the user has them, sorted, their names, and the class of each row."""

    values: Shaped[np.ndarray, " k"]
    names: tuple[str, ...]
    number: Int64[np.ndarray, " n"]

    @property
    def texts(self) -> Shaped[np.ndarray, " n"]:
        """The name of the class of each row."""
        texts: np.ndarray = np.array(self.names)[self.number]
        return texts

    @property
    def fingerprint(self) -> str:
        """A hash of them."""
        return _hash({"labels": self.texts})


def check_rows(X: Any, ids: Any, groups: Any, name: str = "X") -> Rows:  # noqa: N803
    """Return signals `(n, t)` or `(n, c, t)` as rows; what is wrong with them is an InputError.

    Without `ids` the rows count from 0.
    """
    signals = np.asarray(X)
    if signals.dtype == object:  # a table of numbers, or rows of unequal lengths
        try:
            signals = signals.astype(np.float64)
        except (TypeError, ValueError):
            raise InputError(f"{name} must hold numbers, rows of equal length") from None
    if signals.dtype.kind not in "fiub" or signals.ndim not in (2, 3) or not signals.size:
        raise InputError(
            f"{name} must be numbers of shape (n, t) or (n, c, t), but is {signals.dtype} of shape "
            f"{signals.shape}"
        )
    with np.errstate(over="ignore"):
        signals = signals.astype(np.float32)
    if signals.ndim == 2:
        signals = signals[:, None]
    texts = {"ids": _texts(np.arange(len(signals)) if ids is None else ids)}
    if groups is not None:
        texts["groups"] = _texts(groups)
    if problems := [*_row_problems(signals, texts, name)]:
        raise InputError.of("", problems)
    return Rows(signals, **texts)


def _row_problems(
    signals: Float32[np.ndarray, "n c t"], texts: Mapping[str, np.ndarray], name: str
) -> Iterator[str]:
    infinite = np.flatnonzero(np.isinf(signals).any(axis=(1, 2))).tolist()
    if infinite:
        yield f"{name}: values must be finite in float32, but not in {listed(infinite, 'row')}"
    for what, each in texts.items():
        if each.shape != (len(signals),):
            yield f"{what} must have the shape ({len(signals)},), but have {each.shape}"
        elif {"", "nan", "None"} & {*each.tolist()}:
            yield f"{what} must not be empty"
        elif what == "ids":
            yield from id_problems(each.tolist())


def _texts(values: Any) -> Shaped[np.ndarray, " n"]:
    given = np.asarray(values)
    return (
        np.array([str(each) for each in given.tolist()]) if given.ndim == 1 else given.astype(str)
    )


def check_labels(y: Any, n_rows: int) -> Labels:
    """Return labels of any kind as classes; numbers that are no whole ones are an InputError."""
    labels = np.asarray(y)
    if labels.shape != (n_rows,):
        raise InputError(f"y must have the shape ({n_rows},), but has {labels.shape}")
    is_none = np.array([each is None or each != each for each in labels.tolist()])
    if is_none.any():
        missing = listed(np.flatnonzero(is_none).tolist(), "row")
        raise InputError(f"y: every row must have a label, but not {missing}")
    if labels.dtype.kind == "f" and (labels != np.round(labels)).any():
        raise InputError("y must hold classes, but holds numbers that are not whole")
    try:
        values, number = np.unique(labels, return_inverse=True)
    except TypeError as error:  # numbers and texts have no order
        raise InputError(f"y must hold labels of one kind: {error}") from None
    names = [str(int(value)) if labels.dtype.kind == "f" else str(value) for value in values]
    texts = [names[place] for place in number]
    # What the reader of the file will make of them; it also refuses fewer than two classes.
    read, classes = number_classes(texts, names, [*map(str, range(n_rows))], "y")
    if (read != number).any():
        raise InputError("y: labels that are equal as numbers, such as '1' and '01', are one class")
    return Labels(values, classes, number.astype(np.int64))


def keep_arrays(
    run: RunFolder,
    train: Rows,
    labels: Labels,
    test: Rows | None,
    metric: str | Mapping[str, object],
    *,
    force: bool,
) -> None:
    """Write the files of a run's arrays; if the run has others, they are kept without `force`."""
    folder = run.path / FOLDER
    rows_of = {"train": {**train.arrays(), "labels": labels.texts}}
    if test:
        rows_of["test"] = test.arrays()
    file_of = {what: f"{_hash(arrays)}-{what}.npz" for what, arrays in rows_of.items()}
    values = _competition(run.name, file_of, labels.names, metric)
    former = sorted(path.name for path in folder.glob("*.npz"))
    if former and former != sorted(file_of.values()) and not force:
        raise InputError(f"{run.path}: this run has other arrays; {HINT}")
    for what, arrays in rows_of.items():
        path = folder / file_of[what]
        if not path.exists():
            with atomic_path(path) as partial, partial.open("wb") as file:
                np.savez(file, **dict[str, Any](arrays))
    write_text(folder / FILE, tomli_w.dumps(values))
    for name in {*former} - {*file_of.values()}:
        (folder / name).unlink()


def _competition(
    title: str,
    file_of: Mapping[str, str],
    classes: Sequence[str],
    metric: str | Mapping[str, object],
) -> Values:
    values = {"name": metric} if isinstance(metric, str) else dict(metric)
    config = validate(MetricConfig, values, "metric")
    if config.is_own or config.costs:
        raise InputError(
            f"metric {config.name} needs a file; write a competition.toml that names it, and give "
            "its folder in place of X"
        )
    answers = make_metric(config, classes).answers
    return {
        "format": 1,
        "title": title,
        "data": {"layout": "array", **file_of, "classes": [*classes], "missing": "mask"},
        "metric": values,
        "submission": {"kind": "label" if answers == "labels" else "probabilities"},
    }


def _hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a hash of named arrays."""
    digest = xxhash.xxh3_64()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def folder_of(run: RunFolder) -> Path:
    """Return the competition's folder of a run on arrays."""
    return run.path / FOLDER
