"""A CSV file of probabilities that were made elsewhere, checked and put in the data's order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64

from hbcomp.competitions.submission_form import NUMBER
from hbcomp.data.dataset import Dataset, id_problems
from hbcomp.data.tables import read_rows
from hbcomp.system.errors import InputError, Problems, listed

# What the sum of a row may miss: four classes written with four digits miss 2e-4 at most.
TOLERANCE: Final = 1e-3
# By what a sum of float32 may leave [0, 1]; fastText gives 1.00000536.
ROUNDING: Final = 1e-5


@dataclass(frozen=True, eq=False)
class ProbsFile:
    """The probabilities in a file, in the order of the data's ids, and what else is in it.

    `n_normalised` rows were divided by their sum; `n_rounded` had a number outside of [0, 1] by
    rounding, which counts as 0 or 1.
    """

    probs: Float64[np.ndarray, "n k"]
    has_folds: bool
    n_normalised: int
    n_rounded: int


def read_probs(
    path: Path, dataset: Dataset, classes: Sequence[str], *, normalise: bool
) -> ProbsFile:
    """Return the probabilities of each row from a CSV file of `id` and a `prob_CLASS` per class.

    The columns and rows may be in any order. Labelled rows may come with `label`, which must be
    theirs, and with `fold`. One InputError names everything that is wrong in the rows.
    """
    header, rows = read_rows(path)
    names = [f"prob_{name}" for name in classes]
    _check_header(path, header, names, ["label", "fold"] if dataset.labels is not None else [])
    column = {name: [row[at] for row in rows] for at, name in enumerate(header)}
    found, wanted = column["id"], dataset.ids.tolist()
    probs, problems = _numbers({name: column[name] for name in names}, found)
    n_rounded = int(((probs < 0.0) | (probs > 1.0)).any(axis=1).sum())
    probs = probs.clip(0.0, 1.0)  # by no more than ROUNDING, or it is among the problems
    sums = probs.sum(axis=1)
    problems += [*id_problems(found, wanted), *_sum_problems(sums, found, normalise=normalise)]
    if "label" in column:
        problems += _label_problems(found, column["label"], dataset)
    if problems:
        raise InputError.of(path, problems)
    is_off = _is_off(sums)
    probs[is_off] /= sums[is_off, None]
    row_of_id = {row_id: row for row, row_id in enumerate(found)}
    ordered = probs[[row_of_id[row_id] for row_id in wanted]]
    return ProbsFile(ordered, "fold" in column, int(is_off.sum()), n_rounded)


def rounding(n_rows: int) -> str:
    """Return what is said of rows with numbers that leave [0, 1] by rounding."""
    return (
        f"{n_rows:,} rows leave [0, 1] by at most {ROUNDING}, as float32 may; what is outside "
        "counts as 0 or 1"
    )


def _check_header(
    path: Path, header: list[str], names: Sequence[str], others: Sequence[str]
) -> None:
    wanted = ["id", *names]
    is_optional = [name in others for name in header]
    named = sorted(name for name, skip in zip(header, is_optional, strict=True) if not skip)
    if named != sorted(wanted) or len({*header}) < len(header):
        also = f" (and may have {' and '.join(others)})" if others else ""
        raise InputError(
            f"{path}: must have the columns {', '.join(wanted)}{also}, one for each of the "
            f"{len(names)} classes of the data, but has {', '.join(header)}"
        )


def _numbers(
    columns: Mapping[str, Sequence[str]], ids: Sequence[str]
) -> tuple[Float64[np.ndarray, "n k"], list[str]]:
    """Return the numbers in the columns, and what is wrong with some; rows of those are NaN."""
    probs = np.full((len(ids), len(columns)), np.nan)
    problems = Problems()
    for row, cells in enumerate(zip(*columns.values(), strict=True)):
        found = zip(columns, map(_cell_problem, cells), strict=True)
        wrong = [(name, problem) for name, problem in found if problem]
        for name, problem in wrong:
            problems.add(f"row {row + 1} (id {ids[row]})", f"{name} must be {problem}")
        if not wrong:
            probs[row] = [float(cell) for cell in cells]
    return probs, problems.lines()


def _cell_problem(cell: str) -> str:
    if not NUMBER.fullmatch(cell):
        return f"a finite number, but is {cell!r}"
    is_prob = -ROUNDING <= float(cell) <= 1.0 + ROUNDING
    return "" if is_prob else f"in [0, 1] within {ROUNDING}, but is {cell}"


def _is_off(sums: Float64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    return np.abs(sums - 1.0) > TOLERANCE


def _sum_problems(
    sums: Float64[np.ndarray, " n"], ids: Sequence[str], *, normalise: bool
) -> Iterator[str]:
    """Yield the rows whose sum is off, or with `normalise` those that have nothing to divide."""
    wrong = np.flatnonzero(sums == 0.0 if normalise else _is_off(sums)).tolist()
    if not wrong:
        return
    rows = listed([ids[row] for row in wrong], "id")
    if normalise:
        yield f"a row of zeros cannot be normalised: {rows}"
    else:
        yield (
            f"a row must sum to 1 within {TOLERANCE}, but not {rows} (id {ids[wrong[0]]} sums to "
            f"{sums[wrong[0]]:.6g}); --normalise divides such rows by their sum"
        )


def _label_problems(ids: Sequence[str], texts: Sequence[str], dataset: Dataset) -> Iterator[str]:
    names = [dataset.classes[label] for label in dataset.known_labels.tolist()]
    known = dict(zip(dataset.ids.tolist(), names, strict=True))
    wrong = [
        row_id
        for row_id, text in zip(ids, texts, strict=True)
        if row_id in known and not _says(text, known[row_id])
    ]
    if wrong:
        yield f"label must be that of {dataset.source}, but is not for {listed(wrong, 'id')}"


def _says(text: str, name: str) -> bool:
    """Whether a label is that class; `1` and `1.0` are one."""
    if NUMBER.fullmatch(text) and NUMBER.fullmatch(name):
        return float(text) == float(name)
    return text.strip() == name
