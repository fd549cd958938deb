"""The rows in the memory of one device, or streamed to it, and the batches of an epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Generator, Tensor

from hbcomp.system.memory import row_blocks

NO_LABEL = -1  # no class, so that computing the loss of such a row is an error


@dataclass(frozen=True)
class StreamedSignals:
    """Signals that stay on the host, in memory or in a mapped file; each batch goes to the device.

    The rows are those of the parts, one after another. A batch has the bits and the alignment that
    it would have if all rows were in one tensor.
    """

    parts: tuple[Float32[np.ndarray, "_ c t"], ...]
    device: torch.device

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The rows, the channels and the time steps."""
        return len(self), *self.parts[0].shape[1:]

    def __getitem__(self, rows: Int64[Tensor, " b"]) -> Float32[Tensor, "b c t"]:
        """Return rows as a tensor on the device."""
        wanted = rows.cpu().numpy()
        is_cuda = self.device.type == "cuda"
        found = torch.empty(len(wanted), *self.shape[1:], pin_memory=is_cuda)
        start = 0
        for part in self.parts:
            is_here = (start <= wanted) & (wanted < start + len(part))
            if is_here.all():  # of one part only, nothing is copied twice
                np.take(part, wanted - start, axis=0, out=found.numpy(), mode="clip")
            elif is_here.any():
                found.numpy()[is_here] = part[wanted[is_here] - start]
            start += len(part)
        return found.to(self.device, non_blocking=True)


def batches(
    signals: Float32[Tensor, "n c t"] | StreamedSignals,
    batch_size: int,
    rows: Int64[Tensor, " m"] | None = None,
) -> Iterator[Float32[Tensor, "b c t"]]:
    """Yield the signals of these rows, or of all, on the device.

    Batch by batch, because the held-out rows of two folds are as many as all rows.
    """
    if rows is None and isinstance(signals, Tensor):
        yield from torch.split(signals, batch_size)
        return
    wanted = torch.arange(len(signals)) if rows is None else rows
    for some in torch.split(wanted, batch_size):
        yield signals[some]


def all_rows(signals: Tensor | StreamedSignals) -> Tensor:
    """Return all signals in the device's memory."""
    return signals if isinstance(signals, Tensor) else signals[torch.arange(len(signals))]


@dataclass(frozen=True)
class DeviceData:
    """The signals and labels that nets train on, and the test signals, in one device's memory.

    Signals are NaN where a row has no value; those that do not fit there are streamed. Folds are
    index tensors into the rows. Where nets train on test rows as well, these follow the train rows
    with the label `NO_LABEL`, and each net brings its own labels for them.
    """

    signals: Float32[Tensor, "n c t"] | StreamedSignals
    labels: Int64[Tensor, " n"]
    n_classes: int
    test_signals: Float32[Tensor, "m c t"] | StreamedSignals | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The channels and time steps of each signal."""
        return self.signals.shape[1], self.signals.shape[2]

    @property
    def device(self) -> torch.device:
        """The device that holds the rows."""
        return self.labels.device


def put_on_device(
    signals: Float32[np.ndarray, "n c t"],
    labels: Int64[np.ndarray, " n"],
    device: str,
    test_signals: Float32[np.ndarray, "m c t"] | None = None,
    *,
    trains_on_test: bool = False,
    is_streamed: bool = False,
) -> DeviceData:
    """Copy the rows to the device, or stream them; with `trains_on_test` the test rows follow."""
    n_classes = int(labels.max()) + 1
    parts = [signals]
    if trains_on_test and test_signals is not None:
        parts.append(test_signals)
        labels = np.concatenate([labels, np.full(len(test_signals), NO_LABEL)])
    # The test signals are a copy of their own even where they follow the train rows: the last bits
    # of a product may depend on how its input is aligned.
    of_test = None if test_signals is None else put_signals([test_signals], device, is_streamed)
    return DeviceData(
        signals=put_signals(parts, device, is_streamed),
        labels=torch.tensor(labels, device=device),
        n_classes=n_classes,
        test_signals=of_test,
    )


def put_signals(
    parts: Sequence[Float32[np.ndarray, "_ c t"]], device: str, is_streamed: bool
) -> Tensor | StreamedSignals:
    """Return the rows of the parts, one after another: copied to the device, or streamed to it."""
    if is_streamed:
        return StreamedSignals(tuple(parts), torch.device(device))
    # Block by block, because the parts may lie in a file and not fit into the host's memory, and as
    # copies, because a tensor that shared the memory of a read-only array could write to it.
    signals = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], device=device)
    start = 0
    for part in parts:
        for rows in row_blocks(part):
            block = torch.tensor(part[rows], device=device)
            signals[start : start + len(block)] = block
            start += len(block)
    return signals


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
