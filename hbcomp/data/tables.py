"""Small CSV files with a value for each id: folds, groups, labels, probabilities."""

import csv
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped

from hbcomp.data.csv_reader import open_binary, text_lines
from hbcomp.data.dataset import id_problems
from hbcomp.data.recordings import number_classes
from hbcomp.data.row_checks import parse_label
from hbcomp.data.sample import TRUTH
from hbcomp.system.errors import InputError, Problems, listed, unreadable
from hbcomp.system.files import csv_bytes, write_bytes


def read_values(path: Path, column: str, ids: np.ndarray, id_column: str = "id") -> list[str]:
    """Return the text of `column` for each of `ids`, in their order.

    The file needs a header with `id_column`, or else `id`, and `column`; its ids must be exactly
    the given ones, each once, in any order.
    """
    header, rows = read_rows(path)
    id_name = id_column if id_column in header else "id"
    if header.count(id_name) != 1 or header.count(column) != 1:
        raise InputError(
            f"{path}: the columns {id_column!r} and {column!r} must occur once, but found {header}"
        )
    id_at, value_at = header.index(id_name), header.index(column)
    value_of_id = {row[id_at]: row[value_at] for row in rows}
    problems = list(id_problems([row[id_at] for row in rows], ids.tolist()))
    empty = [row_id for row_id, value in value_of_id.items() if not value.strip()]
    if empty:
        problems.append(f"empty {column} of {listed(empty, 'id')}")
    if problems:
        raise InputError.of(path, problems)
    return [value_of_id[row_id] for row_id in ids.tolist()]


def write_values(path: Path, column: str, values: np.ndarray, ids: np.ndarray) -> None:
    """Write `id,column` atomically, as `read_values` reads it; a file of other content is kept."""
    content = csv_bytes(["id", column], zip(ids.tolist(), values.tolist(), strict=True))
    if path.exists() and path.read_bytes() != content:
        raise InputError(f"{path}: exists and holds something else; choose another --out")
    write_bytes(path, content)


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return a CSV file's header and its rows, each as long as the header; all cells are text."""
    try:
        with open_binary(path) as file, closing(text_lines(path, file)) as lines:
            reader = csv.reader(lines, strict=True)
            rows = [row for row in reader if row]
    except OSError as error:
        raise unreadable(path, error) from error
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not valid CSV: {error}") from error
    if not rows:
        raise InputError(f"{path}: the file is empty")
    header = rows[0]
    short = [number for number, row in enumerate(rows[1:], start=1) if len(row) != len(header)]
    if short:
        raise InputError(f"{path}: not as long as the header: {listed(short, 'row')}")
    return header, rows[1:]


def read_truth(
    path: Path | None,
    ids: Shaped[np.ndarray, " n"],
    n_classes: int,
    id_column: str = "id",
    label_column: str = "label",
    classes: Sequence[str] = (),
) -> Int64[np.ndarray, " n"]:
    """Return the label of each id from an `id,label` CSV; without a path, the bundled sample's.

    The file's ids must be exactly the given ones, and every label one of the `classes`, or without
    these a number below `n_classes`.
    """
    source = path or TRUTH
    if problems := list(id_problems(ids.tolist())):
        raise InputError.of("the answers", problems)
    texts = read_values(source, label_column, ids, id_column)
    if classes:
        return number_classes(texts, classes, ids.tolist(), str(source))[0]
    wrong_texts, labels = Problems(), np.zeros(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        try:
            labels[row] = parse_label(text)
        except ValueError as error:
            wrong_texts.add(f"id {ids[row]}", str(error))
    problems = wrong_texts.lines()
    too_large = np.flatnonzero(labels >= n_classes)
    if len(too_large):
        wrong = listed(ids[too_large].tolist(), "id")
        problems.append(f"labels must be below {n_classes}, the number of classes, not in {wrong}")
    if problems:
        raise InputError.of(source, problems)
    return labels
