"""Nearest neighbours: which class has the nearest training beat, and by how much?

python experiments/outside/knn_model.py OUT --like resnet --train train.csv --test testA.csv
hbcomp import-oof knn --oof OUT/oof.csv --test OUT/test.csv --like resnet --train train.csv ...
"""

from pathlib import Path

import numpy as np
import typer
from outside import rows_and_folds, write_probs
from sklearn.neighbors import NearestNeighbors

from hbcomp.scoring.calibration import cross_fitted_probs, fit_vector, softmax

# Assumed: below any distance between two recorded beats; equal beats have distance 0.
MIN_DISTANCE = 1e-6


def nearness(signals: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return each query's probabilities, in proportion to 1 / distance to the nearest of a class.

    Distances grow with how rare a class is and differ by its spread: for the calibration, which
    gives each class a power and a factor of its own, to make up for.
    """
    distances = [
        NearestNeighbors(n_neighbors=1, algorithm="brute")
        .fit(signals[labels == label])
        .kneighbors(queries)[0][:, 0]
        for label in range(labels.max() + 1)
    ]
    nearest = np.stack(distances, axis=1).astype(np.float64)  # (n, k)
    return softmax(-np.log(np.maximum(nearest, MIN_DISTANCE)))


def main(
    out: Path, like: str = "quickstart", train: Path | None = None, test: Path | None = None
) -> None:
    """Look up every beat among the other folds, and test beats among all beats."""
    train_rows, test_rows, folds = rows_and_folds(like, train, test)
    signals, labels = train_rows.flat, train_rows.known_labels
    probs = np.zeros((len(labels), train_rows.n_classes))
    for fold in range(folds.n_folds):
        train_idx, valid_idx = folds.train_idx(fold), folds.valid_idx(fold)
        probs[valid_idx] = nearness(signals[train_idx], labels[train_idx], signals[valid_idx])
    # The calibration that answers a fold comes from the other folds' out-of-fold probabilities.
    oof = cross_fitted_probs(fit_vector, probs, labels, folds.fold_of_row)
    test_probs = None
    if test_rows:
        of_test = nearness(signals, labels, test_rows.flat)
        test_probs = fit_vector(probs, labels).apply(of_test)
    write_probs(out, train_rows, test_rows, folds, oof, test_probs)


if __name__ == "__main__":
    typer.run(main)
