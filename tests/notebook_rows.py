"""Rows of a notebook as arrays, and the overrides that make a net of them take a blink."""

import numpy as np

from hbcomp.data.synthetic import make_rows

CLASSES = np.array(["elk", "gnu", "yak"])
TINY = {
    "net.widths": [4],
    "net.strides": [4],
    "net.hidden": 8,
    "train.n_epochs": 2,
    "train.batch_size": 16,
    "train.lr": 0.02,
    "compute.n_threads": 1,
}


def make_arrays(n=60, m=12, t=16, seed=0):
    """Return signals `(n, t)`, their labels, and other signals `(m, t)` with theirs."""
    rows = make_rows(n=n + m, t=t, k=len(CLASSES), seed=seed)
    signals, labels = rows.signals[:, 0].astype(np.float64), CLASSES[rows.known_labels]
    return signals[:n], labels[:n], signals[n:], labels[n:]
