"""MiniRocket features and a ridge head, streamed: never more than a block of rows is held.

The features are aeon's (Dempster et al. 2021, arXiv:2012.08791); the head needs their Gram matrix
only. The rows of each fold are added up apart, so that one pass gives every fold's training part.

pip install -e '.[rocket]'
python experiments/outside/minirocket_model.py OUT --like resnet --train train.csv --test testA.csv
hbcomp import-oof minirocket --oof OUT/oof.csv --test OUT/test.csv --like resnet --train ...
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import typer
from outside import rows_and_folds, say, write_probs
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import ssyrk

from hbcomp.data.splits import Folds
from hbcomp.scoring.calibration import (
    VectorScaling,
    cross_fitted_probs,
    fit_vector,
    log_loss,
    softmax,
)

# A block of 1,000 rows of 10,000 float32 features takes 40 MB.
N_BLOCK = 1000
# Per row, for features of variance 1. Assumed: below the first, the rounding of the float32 sums
# would count for as much.
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)

Features = Callable[[np.ndarray], np.ndarray]  # signals (b, t) -> features (b, d), float32


def minirocket(sample: np.ndarray, n_features: int, threads: int) -> Features:
    """Return MiniRocket as a function: standardised features, and behind them a column of ones.

    Its biases, the means and the deviations come from the signals of the sample, without labels.
    """
    from aeon.transformations.collection.convolution_based import MiniRocket

    rocket = MiniRocket(n_kernels=n_features, random_state=0, n_jobs=threads)
    raw = rocket.fit_transform(sample[:, None])
    mean, scale = raw.mean(axis=0), raw.std(axis=0)
    scale[scale == 0] = 1.0

    def features(signals: np.ndarray) -> np.ndarray:
        raw = rocket.transform(signals[:, None])
        standardised = np.ones((len(raw), raw.shape[1] + 1), np.float32)
        np.subtract(raw, mean, out=standardised[:, :-1])
        standardised[:, :-1] /= scale
        return standardised

    return features


def blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows block by block."""
    yield from (rows[start : start + N_BLOCK] for start in range(0, len(rows), N_BLOCK))


class Sums(NamedTuple):
    """What a ridge regression needs to know of its rows: F'F (its lower half) and F'Y."""

    gram: np.ndarray
    moment: np.ndarray


def add_up(rows: Iterable[tuple[np.ndarray, np.ndarray]]) -> Sums:
    """Return the sums over blocks of features (b, d) and targets (b, k), float32."""
    gram, moment = None, None
    for features, targets in rows:
        if gram is None:
            # In Fortran's order BLAS adds to it in place.
            gram = np.zeros((features.shape[1],) * 2, np.float32, order="F")
            moment = np.zeros((features.shape[1], targets.shape[1]), np.float32)
        gram = ssyrk(1.0, features.T, 1.0, gram, lower=True, overwrite_c=True)
        moment += features.T @ targets
    return Sums(gram, moment)


def ridge_weights(sums: Sums, penalty: float) -> np.ndarray:
    """Return the weights (d, k) of a ridge regression; `penalty` is per row.

    The last feature must be the ones, which are not penalised. Solved in double precision: in
    single precision the factor errs by as much as the small penalties add.
    """
    gram = sums.gram.astype(np.float64, order="F")
    n_rows = gram[-1, -1]  # the ones times the ones
    penalised = np.arange(len(gram) - 1)
    gram[penalised, penalised] += penalty * n_rows
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    return cho_solve(factor, sums.moment, check_finite=False).astype(np.float32)


def keep(sums: Sums, folder: Path, fold: int) -> None:
    """Put the sums of one fold on the disk, 0.4 GB at 10,000 features: few matrices in memory."""
    for name, array in sums._asdict().items():
        np.save(folder / f"{name}-{fold}.npy", array)


def sums_without(fold: int, n_folds: int, folder: Path) -> Sums:
    """Return the sums over all folds but one."""
    first, *others = [other for other in range(n_folds) if other != fold]
    totals = []
    for name in Sums._fields:
        total = np.load(folder / f"{name}-{first}.npy", allow_pickle=False)
        for other in others:
            total += np.load(folder / f"{name}-{other}.npy", mmap_mode="r", allow_pickle=False)
        totals.append(total)
    return Sums(*totals)


def weights_without(fold: int, folds: Folds, folder: Path) -> np.ndarray:
    """Return the weights (p, d, k) of every penalty that never saw the fold."""
    sums = sums_without(fold, folds.n_folds, folder)
    weights = np.stack([ridge_weights(sums, penalty) for penalty in PENALTIES])
    say(f"fold {fold} of {folds.n_folds} is solved")
    return weights


@dataclass(frozen=True)
class Head:
    """Which penalty's scores to use, and what makes probabilities of them."""

    position: int
    calibration: VectorScaling

    def apply(self, stack: np.ndarray) -> np.ndarray:
        """Return the probabilities (n, k) of a stack (p, n, k), one model per penalty."""
        return self.calibration.apply(stack[self.position])


def fit_head(stack: np.ndarray, labels: np.ndarray) -> Head:
    """Return the penalty and calibration of the least log loss."""
    heads = [Head(i, fit_vector(probs, labels)) for i, probs in enumerate(stack)]
    return min(heads, key=lambda head: log_loss(head.apply(stack), labels))


def ridge_probs(features: Features, signals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the softmax of ridge scores (p, n, k) for weights (p, d, k)."""
    flat = np.hstack(list(weights))
    scores = np.concatenate([features(block) @ flat for block in blocks(signals)])
    each = np.split(scores.astype(np.float64), len(weights), axis=1)
    return np.stack([softmax(part) for part in each])


def main(
    out: Path,
    like: str = "quickstart",
    train: Path | None = None,
    test: Path | None = None,
    n_features: int = 10_000,
    threads: int = 1,
) -> None:
    """Fit a head for every fold and penalty; choose penalty and calibration cross-fitted."""
    train_rows, test_rows, folds = rows_and_folds(like, train, test)
    signals, labels = train_rows.flat, train_rows.known_labels
    onehot = np.eye(train_rows.n_classes, dtype=np.float32)[labels]
    sample = np.random.default_rng(0).permutation(len(labels))[:N_BLOCK]
    features = minirocket(signals[sample], n_features, threads)
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out) as folder:
        for fold in range(folds.n_folds):
            rows = blocks(folds.valid_idx(fold))
            sums = add_up((features(signals[block]), onehot[block]) for block in rows)
            keep(sums, Path(folder), fold)
            say(f"fold {fold} of {folds.n_folds} is added up")
        weights_of_fold = [
            weights_without(fold, folds, Path(folder)) for fold in range(folds.n_folds)
        ]
    stack = np.zeros((len(PENALTIES), *onehot.shape))
    for fold, weights in enumerate(weights_of_fold):
        valid_idx = folds.valid_idx(fold)
        stack[:, valid_idx] = ridge_probs(features, signals[valid_idx], weights)
    # What answers a fold was chosen on the other folds' out-of-fold scores.
    oof = cross_fitted_probs(fit_head, stack, labels, folds.fold_of_row)
    head = fit_head(stack, labels)
    say(f"penalty {PENALTIES[head.position]} per row, {head.calibration!r}")
    test_probs = None
    if test_rows:
        of_test = ridge_probs(features, test_rows.flat, np.concatenate(weights_of_fold))
        by_fold = np.split(of_test, folds.n_folds)
        test_probs = np.mean([head.apply(stack) for stack in by_fold], axis=0)
    write_probs(out, train_rows, test_rows, folds, oof, test_probs)


if __name__ == "__main__":
    typer.run(main)
