"""The training loops that people write, as rates: rows per second of one epoch."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from hbcomp.system.environment import n_cores
from hbcomp.training.device import synchronize
from hbcomp.training.loader import DeviceData


class FrameBeats(Dataset[tuple[Tensor, Tensor]]):
    """Rows as the reference solution keeps them: a row of a pandas frame is looked up per item."""

    def __init__(self, beats: DeviceData) -> None:
        self._signals = pd.DataFrame(beats.signals.flatten(1).cpu().numpy())
        self._labels = pd.Series(beats.labels.cpu().numpy())

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        signal = torch.tensor(self._signals.iloc[item].to_numpy(), dtype=torch.float32)[None]
        return signal, torch.tensor(self._labels.iloc[item], dtype=torch.long)


@dataclass(frozen=True)
class PlainLoop:
    """Epochs in fp32 with plain Adam and `loss.item()` after every step; a call trains one."""

    net: nn.Module
    loader: DataLoader[Any]
    optimizer: torch.optim.Optimizer
    device: torch.device

    def __call__(self) -> float:
        """Train an epoch and return its rows per second."""
        as_torch_ships()
        synchronize(self.device)
        start = time.perf_counter()
        n_rows = train_plainly(self.net, self.loader, self.optimizer, self.device)
        synchronize(self.device)
        return n_rows / (time.perf_counter() - start)


def iloc_loop(net: nn.Module, beats: DeviceData, batch_size: int) -> PlainLoop:
    """Return the loop over a pandas frame."""
    return _loop(net, FrameBeats(beats), beats.device, batch_size)


def tensor_loop(net: nn.Module, beats: DeviceData, batch_size: int) -> PlainLoop:
    """Return the loop over a TensorDataset."""
    dataset = TensorDataset(beats.signals.cpu(), beats.labels.cpu())
    return _loop(net, dataset, beats.device, batch_size)


def _loop(
    net: nn.Module, dataset: Dataset[Any], device: torch.device, batch_size: int
) -> PlainLoop:
    net = net.to(device)
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True)
    return PlainLoop(net, loader, torch.optim.Adam(net.parameters()), device)


def train_plainly(
    net: nn.Module,
    loader: DataLoader[Any],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> int:
    """Train one epoch as people write it and return the number of rows that it saw."""
    net.train()
    n_rows, loss_sum = 0, 0.0
    for batch in loader:
        signals, labels = (tensor.to(device) for tensor in batch)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(signals), labels)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item()
        n_rows += len(labels)
    if not np.isfinite(loss_sum):
        raise FloatingPointError("the plain loop diverged, and its rate means nothing")
    return n_rows


def as_torch_ships() -> None:
    """Undo what `Compute.enter` set: these loops run under torch's own defaults."""
    torch.set_num_threads(n_cores())
    torch.set_flush_denormal(False)
    torch.backends.cudnn.deterministic = False
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "tf32"
