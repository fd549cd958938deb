"""The beats on one device, once, and batches of positions into them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Generator, Tensor

NO_LABEL = -1  # no class: the loss of a row that nobody labelled is an error


@dataclass(frozen=True)
class Beats:
    """Signals and labels resident on one device; folds are index tensors into them.

    An unlabelled row has the label `NO_LABEL`; a net trains on it under a label of its own.
    """

    signals: Float32[Tensor, "n t"]
    labels: Int64[Tensor, " n"]
    n_classes: int

    @property
    def device(self) -> torch.device:
        """Where the beats are."""
        return self.signals.device


def put_beats(
    signals: Float32[np.ndarray, "n t"],
    labels: Int64[np.ndarray, " n"],
    device: str,
    unlabelled: Float32[np.ndarray, "u t"] | None = None,
) -> Beats:
    """Copy the beats to the device, unlabelled ones behind the others."""
    if unlabelled is not None:
        signals = np.concatenate([signals, unlabelled])
        labels = np.concatenate([labels, np.full(len(unlabelled), NO_LABEL)])
    # torch.tensor copies: a tensor that shared a read-only array's memory could write to it.
    return Beats(
        signals=torch.tensor(signals, device=device),
        labels=torch.tensor(labels, device=device),
        n_classes=int(labels.max()) + 1,
    )


def n_batches(n_rows: int, batch_size: int) -> int:
    """Return the number of steps of one epoch: whole batches only, at least one."""
    return max(1, n_rows // batch_size)


def draw_order(
    train_idx: Int64[Tensor, " m"], batch_size: int, generator: Generator
) -> Int64[Tensor, "s b"]:
    """Return the positions of one epoch in random order, a row for each batch of equal size.

    What is left over after whole batches waits for another epoch's order: equal shapes are
    faster, and a last batch of one row would break batch norm. Fewer rows than a batch make one
    batch of all.
    """
    order = torch.randperm(len(train_idx), generator=generator, device=train_idx.device)
    n_steps, size = n_batches(len(train_idx), batch_size), min(batch_size, len(train_idx))
    return train_idx[order[: n_steps * size]].view(n_steps, size)
