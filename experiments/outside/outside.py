"""What every script here begins and ends with: an experiment's rows and folds, and its files."""

import sys
from pathlib import Path

import numpy as np

from hbcomp.competitions.load import load_data
from hbcomp.data.dataset import Dataset
from hbcomp.data.splits import Folds, make_folds
from hbcomp.experiment.predictions import write_probs_csv
from hbcomp.experiment.setup import prepare
from hbcomp.scoring.choice import evaluate_rules
from hbcomp.system.config import as_assignments


def rows_and_folds(
    like: str, train: Path | None, test: Path | None
) -> tuple[Dataset, Dataset | None, Folds]:
    """Return the train and test rows of an experiment and the split of its first seed."""
    files = as_assignments({"data.train": train, "data.test": test})
    config = prepare(like, files, None).config
    train_rows, test_rows = load_data(config.data)
    folds = make_folds(config.folds, train_rows, config.folds.seeds[0])
    return train_rows, test_rows, folds


def write_probs(
    out: Path,
    train: Dataset,
    test: Dataset | None,
    folds: Folds,
    oof: np.ndarray,
    test_probs: np.ndarray | None,
) -> None:
    """Write out/oof.csv and out/test.csv as `hbcomp import-oof` reads them, and say the scores."""
    labels = train.known_labels
    write_probs_csv(out / "oof.csv", train.ids, oof, labels, folds.fold_of_row)
    if test is not None and test_probs is not None:
        write_probs_csv(out / "test.csv", test.ids, test_probs)
    rules = evaluate_rules(oof, labels, folds.fold_of_row)
    scores = ", ".join(f"{rule.name} {rule.cross_fitted.per_20k:.1f}" for rule in rules)
    say(f"{train.n_rows:,} rows out-of-fold, abs-sum per 20k, cross-fitted: {scores}")


def say(line: str) -> None:
    """Tell the person who waits."""
    print(line, file=sys.stderr, flush=True)
