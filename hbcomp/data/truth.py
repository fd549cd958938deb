"""Known labels of test rows, kept apart from everything that trains or tunes."""

from collections import Counter
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped

from hbcomp.data.dataset import listed
from hbcomp.data.row_checks import parse_label
from hbcomp.data.sample import TRUTH
from hbcomp.data.tables import read_values
from hbcomp.system.errors import InputError, Problems


def read_truth(
    path: Path | None, ids: Shaped[np.ndarray, " n"], n_classes: int, id_column: str = "id"
) -> Int64[np.ndarray, " n"]:
    """Return the label of each id from an `id,label` CSV; without a path, the bundled sample's.

    The file's ids must be exactly the given ones, and every label one of the `n_classes`.
    """
    source = path or TRUTH
    if doubled := [row_id for row_id, count in Counter(ids.tolist()).items() if count > 1]:
        raise InputError(
            f"a row is scored once, but doubled in the answers: {listed(doubled, 'id')}"
        )
    texts = read_values(source, "label", ids, id_column)
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
        problems.append(f"labels must be below {n_classes}, the classes answered, but not: {wrong}")
    if problems:
        raise InputError.of(source, problems)
    return labels
