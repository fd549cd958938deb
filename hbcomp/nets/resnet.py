"""A small residual net, the default (He et al. 2016, arXiv:1512.03385; on signals, Wang et al.
2017, arXiv:1611.06455).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from hbcomp.nets.base import NetConfig


class ResNetConfig(NetConfig):
    """Widths of the stages, each but the first halving the time axis."""

    name: Literal["resnet"] = "resnet"
    widths: tuple[int, ...] = Field(default=(32, 48, 64, 96), min_length=1)
    kernel: int = Field(default=5, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def build(self, n_timepoints: int, n_classes: int) -> nn.Module:
        """Return the net; any length works."""
        return ResNet(self, n_timepoints, n_classes)


class ResNet(nn.Module):
    """A strided stem, one residual block per stage, mean and max pooling, a linear head."""

    def __init__(self, config: ResNetConfig, n_timepoints: int, n_classes: int) -> None:
        super().__init__()
        widths = config.widths
        self.stem = nn.Sequential(
            nn.Conv1d(2, widths[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm1d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential(
            *[
                Block(n_in, n_out, config.kernel, stride=2 if stage else 1)
                for stage, (n_in, n_out) in enumerate(
                    zip(widths[:1] + widths, widths, strict=False)
                )
            ]
        )
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(2 * widths[-1], n_classes))

    def forward(self, signals: Float[Tensor, "b t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        features = self.stages(self.stem(with_mask(signals)))  # (b, c, t)
        pooled = torch.cat([features.mean(-1), features.amax(-1)], dim=1)
        logits: Tensor = self.head(pooled)
        return logits


class Block(nn.Module):
    """Two convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        padding = kernel // 2
        # No bias before batch norm: its true gradient is zero and Adam makes drift of the noise.
        self.conv1 = nn.Conv1d(n_in, n_out, kernel, stride=stride, padding=padding, bias=False)
        self.norm1 = nn.BatchNorm1d(n_out)
        self.conv2 = nn.Conv1d(n_out, n_out, kernel, padding=padding, bias=False)
        self.norm2 = nn.BatchNorm1d(n_out)
        self.shortcut = (
            nn.Identity()
            if n_in == n_out and stride == 1
            else nn.Sequential(
                nn.Conv1d(n_in, n_out, 1, stride=stride, bias=False), nn.BatchNorm1d(n_out)
            )
        )

    def forward(self, features: Float[Tensor, "b c t"]) -> Float[Tensor, "b d s"]:
        """Return the block's features."""
        inner = F.relu(self.norm1(self.conv1(features)), inplace=True)
        summed: Tensor = self.norm2(self.conv2(inner)) + self.shortcut(features)
        return F.relu(summed, inplace=True)


def with_mask(signals: Float[Tensor, "b t"]) -> Float[Tensor, "b 2 t"]:
    """Return the signals and, as a second channel, 1 up to the last nonzero sample and 0 after.

    The zeros at a row's end are padding; without the mask a net must infer where they begin.
    """
    is_signal = signals.flip(-1).ne(0).cumsum(-1).ne(0).flip(-1)
    return torch.stack([signals, is_signal.to(signals.dtype)], dim=1)
