"""Synthetic rows for tests, and any rows as a CSV file of the competition's layout."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hbcomp.data.dataset import Dataset
from hbcomp.system.files import csv_bytes, write_bytes


def make_rows(n: int = 64, t: int = 32, k: int = 4, seed: int = 0) -> Dataset:
    """Return `n` labelled rows that a tiny net can learn; the class is the place of the peak.

    Class sizes differ by at most 1. Values are in [0, 1], as in the competition.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n, dtype=np.int64) % k)
    centres = (labels + 0.5) / k + rng.normal(0, 0.1 / k, n)
    times = (np.arange(t) + 0.5) / t
    peaks = np.exp(-(((times - centres[:, None]) * 2 * k) ** 2))  # (n, t)
    noisy = 0.9 * peaks + rng.uniform(0, 0.1, (n, t))
    return Dataset(
        ids=np.array([str(i) for i in range(n)]),
        signals=noisy.astype(np.float32),
        labels=labels,
        source="synthetic rows",
    )


def write_competition_csv(path: Path, dataset: Dataset) -> None:
    """Write `id,heartbeat_signals[,label]` atomically; reading it back gives equal values."""
    # As float64, whose repr is what the competition's own file has.
    signals = (",".join(map(repr, signal.tolist())) for signal in dataset.flat.astype(float))
    columns: list[Iterable[object]] = [dataset.ids.tolist(), signals]
    header = ["id", "heartbeat_signals"]
    if dataset.labels is not None:
        columns.append(dataset.labels.astype(float).tolist())
        header.append("label")
    write_bytes(path, csv_bytes(header, zip(*columns, strict=True)))
