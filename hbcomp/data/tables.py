"""Small two-column CSV files that say something about each id: folds, groups, labels."""

import csv
from pathlib import Path

import numpy as np

from hbcomp.data.dataset import listed
from hbcomp.errors import InputError


def read_values(path: Path, column: str, ids: np.ndarray) -> list[str]:
    """Return the text of `column` for each of `ids`, in their order.

    The file needs a header with `id` and `column`; its ids must be exactly the given ones, each
    once, in any order.
    """
    value_of_id: dict[str, str] = {}
    repeated = []
    for row_id, value in _pairs(path, column):
        if row_id in value_of_id:
            repeated.append(row_id)
        value_of_id[row_id] = value
    problems = []
    if repeated:
        problems.append(f"ids must be unique, but repeated: {listed(repeated, 'id')}")
    wanted = ids.tolist()
    if missing := [row_id for row_id in wanted if row_id not in value_of_id]:
        problems.append(f"no row for {listed(missing, 'id')} of the data")
    if unknown := list(value_of_id.keys() - set(wanted)):
        problems.append(f"not in the data: {listed(sorted(unknown), 'id')}")
    empty = [row_id for row_id, value in value_of_id.items() if not value.strip()]
    if empty:
        problems.append(f"empty {column} of {listed(empty, 'id')}")
    if problems:
        raise InputError.of(path, problems)
    return [value_of_id[row_id] for row_id in wanted]


def _pairs(path: Path, column: str) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, strict=True) if row]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8: {error}") from error
    if not rows:
        raise InputError(f"{path}: the file is empty")
    header = rows[0]
    if header.count("id") != 1 or header.count(column) != 1:
        raise InputError(f"{path}: needs the columns 'id' and {column!r} once, but has {header}")
    short = [number for number, row in enumerate(rows[1:], start=1) if len(row) != len(header)]
    if short:
        raise InputError(f"{path}: {listed(short, 'row')} not as long as the header")
    id_at, value_at = header.index("id"), header.index(column)
    return [(row[id_at], row[value_at]) for row in rows[1:]]
