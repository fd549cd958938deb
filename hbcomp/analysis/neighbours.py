"""The nearest rows of other folds: what a net that holds a row out could have learnt it from."""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from sklearn.neighbors import NearestNeighbors

from hbcomp.scoring.confusions import NONE


def nearest_rows(
    values: Float32[np.ndarray, "n v"],
    fold_of_row: Int64[np.ndarray, " n"],
    is_candidate: Bool[np.ndarray, " n"],
    rows: Int64[np.ndarray, " r"],
    n_nearest: int,
) -> tuple[Float64[np.ndarray, "r m"], Int64[np.ndarray, "r m"]]:
    """Return distances and positions of the candidates in other folds that are nearest to each row.

    Euclidean, the nearest first. One core looks up 1,000 rows among 100,000 of 205 samples in
    1.4 s.
    """
    distances = np.full((len(rows), n_nearest), np.inf)
    found = np.full((len(rows), n_nearest), NONE, dtype=np.int64)
    for fold in np.unique(fold_of_row[rows]):
        (asked,) = np.nonzero(fold_of_row[rows] == fold)
        (pool,) = np.nonzero(is_candidate & (fold_of_row != fold))
        n = min(n_nearest, len(pool))
        if n:
            finder = NearestNeighbors(n_neighbors=n, algorithm="brute").fit(values[pool])
            near, place = finder.kneighbors(values[rows[asked]])
            distances[asked, :n] = near
            found[asked, :n] = pool[place]
    return distances, found


def nearest_by_class(
    values: Float32[np.ndarray, "n v"],
    labels: Int64[np.ndarray, " n"],
    fold_of_row: Int64[np.ndarray, " n"],
    rows: Int64[np.ndarray, " r"],
) -> tuple[Float64[np.ndarray, "r k"], Int64[np.ndarray, "r k"]]:
    """Return distance and position of the nearest row of each class in other folds."""
    of_class = [
        nearest_rows(values, fold_of_row, labels == label, rows, 1)
        for label in range(labels.max() + 1)
    ]
    distances, found = zip(*of_class, strict=True)
    return np.hstack(distances), np.hstack(found)
