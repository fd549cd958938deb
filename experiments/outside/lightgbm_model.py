"""LightGBM on the samples, over the folds of an experiment.

pip install -e '.[outside]'
python experiments/outside/lightgbm_model.py OUT --like resnet --train train.csv --test testA.csv
hbcomp import-oof lightgbm --oof OUT/oof.csv --test OUT/test.csv --like resnet --train train.csv ...
"""

from pathlib import Path

import lightgbm
import numpy as np
import typer
from outside import rows_and_folds, say, write_probs


def main(
    out: Path,
    like: str = "quickstart",
    train: Path | None = None,
    test: Path | None = None,
    n_trees: int = 600,
    threads: int = 1,
) -> None:
    """Train one model per fold; the number of trees is fixed, not picked on the scored fold."""
    train_rows, test_rows, folds = rows_and_folds(like, train, test)
    beats, labels = train_rows.flat, train_rows.known_labels
    test_beats = test_rows.flat if test_rows else None
    oof = np.zeros((len(labels), train_rows.n_classes))
    of_test = []
    for fold in range(folds.n_folds):
        train_idx, valid_idx = folds.train_idx(fold), folds.valid_idx(fold)
        model = lightgbm.LGBMClassifier(
            n_estimators=n_trees,
            learning_rate=0.1,
            num_leaves=63,
            colsample_bytree=0.3,
            random_state=fold,
            n_jobs=threads,
            verbosity=-1,
        ).fit(beats[train_idx], labels[train_idx])
        oof[valid_idx] = model.predict_proba(beats[valid_idx])
        if test_beats is not None:
            of_test.append(model.predict_proba(test_beats))
        say(f"fold {fold} of {folds.n_folds} is done")
    of_all = np.mean(of_test, axis=0) if of_test else None
    write_probs(out, train_rows, test_rows, folds, oof, of_all)


if __name__ == "__main__":
    typer.run(main)
