"""The net of the competition's reference solution (rank 137), to the last layer."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from hbcomp.nets.base import NetConfig, Shape, as_channels_last, convolution
from hbcomp.system.errors import InputError

NEGATIVE_SLOPE = 0.05
MIN_TIMEPOINTS = 8  # three poolings by 2 must leave one timepoint


class ReferenceConfig(NetConfig):
    """Four convolutions and a fully connected head that holds 98 % of the parameters."""

    is_compute_bound: ClassVar[bool] = True
    sees_mask: ClassVar[bool] = False

    name: Literal["reference"] = "reference"

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 26,827,716 parameters for 205 timepoints and 4 classes."""
        return as_channels_last(Reference(shape, n_classes))


class Reference(nn.Module):
    """Conv 64-128-256-256, flatten, 4096, 64, k; batch norm and LeakyReLU(0.05) throughout.

    The convolutions keep the bias that batch norm makes useless: it is the reference's.
    """

    def __init__(self, shape: Shape, n_classes: int) -> None:
        super().__init__()
        n_channels, n_timepoints = shape
        if n_timepoints < MIN_TIMEPOINTS:
            raise InputError(
                f"net reference needs at least {MIN_TIMEPOINTS} timepoints, but got {n_timepoints}"
            )
        self.features = nn.Sequential(
            *_convolution(n_channels, 64, kernel=7),
            nn.MaxPool2d((1, 2)),
            *_convolution(64, 128, kernel=5),
            nn.MaxPool2d((1, 2)),
            *_convolution(128, 256, kernel=3),
            *_convolution(256, 256, kernel=3),
            nn.MaxPool2d((1, 2)),
            nn.Dropout(0.2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            *_linear(256 * (n_timepoints // 8), 4096),
            *_linear(4096, 64),
            nn.Linear(64, n_classes),
        )

    def forward(self, signals: Float[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        logits: Tensor = self.head(self.features(signals[:, :, None]))  # (b, c, 1, t)
        return logits


def _convolution(n_in: int, n_out: int, kernel: int) -> tuple[nn.Module, ...]:
    return (
        convolution(n_in, n_out, kernel, has_bias=True),
        nn.BatchNorm2d(n_out),
        nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
    )


def _linear(n_in: int, n_out: int) -> tuple[nn.Module, ...]:
    return nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)
