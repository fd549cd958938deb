"""The rows in the memory of one device, and the batches of an epoch."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Generator, Tensor

NO_LABEL = -1  # no class, so that computing the loss of such a row is an error


@dataclass(frozen=True)
class DeviceData:
    """The signals and labels that nets train on, and the test signals, in one device's memory.

    Signals are NaN where a row has no value. Folds are index tensors into the rows. Where nets
    train on test rows as well, these follow the train rows with the label `NO_LABEL`, and each net
    brings its own labels for them.
    """

    signals: Float32[Tensor, "n c t"]
    labels: Int64[Tensor, " n"]
    n_classes: int
    test_signals: Float32[Tensor, "m c t"] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The channels and time steps of each signal."""
        return self.signals.shape[1], self.signals.shape[2]

    @property
    def device(self) -> torch.device:
        """The device that holds the rows."""
        return self.signals.device


def put_on_device(
    signals: Float32[np.ndarray, "n c t"],
    labels: Int64[np.ndarray, " n"],
    device: str,
    test_signals: Float32[np.ndarray, "m c t"] | None = None,
    *,
    trains_on_test: bool = False,
) -> DeviceData:
    """Copy the rows to the device; with `trains_on_test` the test rows follow the train rows."""
    n_classes = int(labels.max()) + 1
    if trains_on_test and test_signals is not None:
        signals = np.concatenate([signals, test_signals])
        labels = np.concatenate([labels, np.full(len(test_signals), NO_LABEL)])
    # torch.tensor copies, because a tensor that shared the memory of a read-only array could write
    # to it. The test signals are a copy of their own even where they follow the train rows: the
    # last bits of a product may depend on how its input is aligned.
    return DeviceData(
        signals=torch.tensor(signals, device=device),
        labels=torch.tensor(labels, device=device),
        n_classes=n_classes,
        test_signals=None if test_signals is None else torch.tensor(test_signals, device=device),
    )


def n_batches(n_rows: int, batch_size: int) -> int:
    """Return the number of steps of one epoch: whole batches only, at least one."""
    return max(1, n_rows // batch_size)


def draw_order(
    train_idx: Int64[Tensor, " m"], batch_size: int, generator: Generator
) -> Int64[Tensor, "s b"]:
    """Return the rows of one epoch in random order, as one line for each batch of equal size.

    The last incomplete batch is dropped: equal shapes are faster, and a last batch of one row would
    break batch norm. Where there are fewer rows than a batch holds, one batch has all of them.
    """
    order = torch.randperm(len(train_idx), generator=generator, device=train_idx.device)
    n_steps, size = n_batches(len(train_idx), batch_size), min(batch_size, len(train_idx))
    return train_idx[order[: n_steps * size]].view(n_steps, size)
