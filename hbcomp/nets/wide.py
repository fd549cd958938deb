"""A plain convolutional net with a large fully connected head: a net that remembers.

Three convolutions with pooling, as in the reference, then most of the parameters in one layer that
sees every position of every channel. Public work on such beats found accuracy to grow with
the size of that layer (experiments/LOG.md). Beside `resnet` it is a base model of another kind.
"""

from typing import Literal

from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from hbcomp.nets.base import NetConfig, Shape, as_channels_last, convolution
from hbcomp.nets.sizes import Dropout, Kernel, Size, Sizes


class WideConfig(NetConfig):
    """One convolution and one pooling by 2 per width, then the head."""

    name: Literal["wide"] = "wide"
    widths: Sizes = (32, 64, 128)
    kernels: tuple[Kernel, ...] = (7, 5, 3)
    hidden: Size = 512  # units of the head's hidden layer
    dropout: Dropout = 0.3  # before and after the hidden layer

    @model_validator(mode="after")
    def _check(self) -> "WideConfig":
        if len(self.kernels) != len(self.widths):
            raise ValueError(
                f"kernels must be one for each of {len(self.widths)} widths, "
                f"but got {list(self.kernels)}"
            )
        return self

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 1,742,724 parameters for 205 timepoints and 4 classes."""
        return as_channels_last(Wide(self, shape, n_classes))


class Wide(nn.Module):
    """Convolutions with batch norm, leaky ReLU and max pooling; flatten; two linear layers."""

    def __init__(self, config: WideConfig, shape: Shape, n_classes: int) -> None:
        super().__init__()
        n_channels, n_timepoints = shape
        layers: list[nn.Module] = []
        n_in, length = n_channels, n_timepoints
        for width, kernel in zip(config.widths, config.kernels, strict=True):
            layers += [
                convolution(n_in, width, kernel),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.05, inplace=True),
                nn.MaxPool2d((1, 2), ceil_mode=True),  # any length leaves at least one position
            ]
            n_in, length = width, -(-length // 2)
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(n_in * length, config.hidden, bias=False),
            nn.BatchNorm1d(config.hidden),
            nn.LeakyReLU(0.05, inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, n_classes),
        )

    def forward(self, signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        logits: Tensor = self.head(self.features(signals[:, :, None]).flatten(1))
        return logits
