"""The two nets as people write them: one-dimensional layers, nothing arranged in memory.

Each computes the same function as hbcomp's net of that name, with the same parameters in the same
order.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hbcomp.nets.base import NetConfig
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.resnet import ResNetConfig


def plain_net(config: NetConfig, n_timepoints: int, n_classes: int) -> nn.Module | None:
    """Return the net of that configuration as people write it, None where nobody has yet."""
    if isinstance(config, ReferenceConfig):
        return plain_reference(n_timepoints, n_classes)
    if isinstance(config, ResNetConfig):
        return PlainResNet(config, n_timepoints, n_classes)
    return None


def plain_reference(n_timepoints: int, n_classes: int) -> nn.Module:
    """Return the reference solution's net; 26,827,716 parameters for 205 timepoints, 4 classes."""

    def convolution(n_in: int, n_out: int, kernel: int) -> list[nn.Module]:
        conv = nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2)
        return [conv, nn.BatchNorm1d(n_out), nn.LeakyReLU(0.05)]

    def linear(n_in: int, n_out: int) -> list[nn.Module]:
        return [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.LeakyReLU(0.05)]

    return nn.Sequential(
        Filled(),
        *convolution(1, 64, 7),
        nn.MaxPool1d(2),
        *convolution(64, 128, 5),
        nn.MaxPool1d(2),
        *convolution(128, 256, 3),
        *convolution(256, 256, 3),
        nn.MaxPool1d(2),
        nn.Dropout(0.2),
        nn.Flatten(),
        *linear(256 * (n_timepoints // 8), 4096),
        *linear(4096, 64),
        nn.Linear(64, n_classes),
    )


class Filled(nn.Module):
    """Signals with 0 where there is no value."""

    def forward(self, signals: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b 1 t"]:
        """Return the signals without NaN."""
        return signals.nan_to_num(0.0)


class PlainResNet(nn.Module):
    """`hbcomp.nets.resnet.ResNet` in one-dimensional layers."""

    def __init__(self, config: ResNetConfig, n_timepoints: int, n_classes: int) -> None:
        super().__init__()
        widths = config.widths
        self.stem = nn.Sequential(
            nn.Conv1d(2, widths[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm1d(widths[0]),
            nn.ReLU(),
        )
        pairs = zip((widths[0], *widths[:-1]), widths, config.strides, strict=True)
        self.blocks = nn.Sequential(*[PlainBlock(*pair, config.kernel) for pair in pairs])
        length = n_timepoints
        for stride in (2, *config.strides):
            length = -(-length // stride)  # rounded up
        self.head = nn.Sequential(
            nn.Linear((length + 2) * widths[-1], config.hidden, bias=False),
            nn.BatchNorm1d(config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, n_classes),
        )

    def forward(self, signals: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        signals = signals[:, 0]
        is_signal = ~signals.isnan()
        stretched = signals.nan_to_num(0.0) * 4 - 1
        channels = torch.stack([stretched, is_signal.to(signals.dtype)], dim=1)  # (b, 2, t)
        features = self.blocks(self.stem(channels))  # (b, c, s)
        pooled = [features.mean(2), features.amax(2), features.flatten(1)]
        logits: Tensor = self.head(torch.cat(pooled, dim=1))
        return logits


class PlainBlock(nn.Module):
    """Two convolutions beside a shortcut by average pooling and zero channels."""

    def __init__(self, n_in: int, n_out: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.stride = stride
        self.n_new = n_out - n_in
        padding = kernel // 2
        self.conv1 = nn.Conv1d(n_in, n_out, kernel, stride=stride, padding=padding, bias=False)
        self.norm1 = nn.BatchNorm1d(n_out)
        self.conv2 = nn.Conv1d(n_out, n_out, kernel, padding=padding, bias=False)
        self.norm2 = nn.BatchNorm1d(n_out)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, features: Float[Tensor, "b c s"]) -> Float[Tensor, "b d r"]:
        """Return the block's features."""
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(features)))))
        if self.stride > 1:
            features = F.avg_pool1d(features, self.stride, ceil_mode=True)
        summed: Tensor = inner + F.pad(features, (0, 0, 0, self.n_new))
        return F.relu(summed)
