"""Features of thousands of fixed convolutions, and a ridge regression on them: the Rocket family.

Strong on small data and on signals that are not aligned, because no feature knows a position. The
transform is drawn from the seed and the training rows, and nothing is trained in steps.
"""

from collections.abc import Callable
from typing import Annotated, Literal, cast

import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Generator, Tensor, nn

from hbcomp.nets.base import FittedNetConfig, Shape, without_gaps
from hbcomp.nets.hydra import Hydra
from hbcomp.nets.minirocket import MiniRocket
from hbcomp.nets.multirocket import MultiRocket
from hbcomp.nets.ridge import RidgeHead
from hbcomp.system.config import unique

Name = Literal["minirocket", "multirocket", "hydra"]
Transform = MiniRocket | MultiRocket | Hydra

BLOCK = 1_024  # rows whose features are held at a time: 40 MB of 10,000 features


class RocketConfig(FittedNetConfig):
    """The transforms, whose features stand side by side."""

    name: Literal["rocket"] = "rocket"
    transforms: Annotated[tuple[Name, ...], Field(min_length=1), unique("transforms")] = (
        "minirocket",
        "hydra",
    )
    # Of minirocket, rounded down to a multiple of 84, and of multirocket, of 672; hydra has 1,024
    # for each power of 2 at which a kernel of length 9 fits the signal.
    n_features: int = Field(default=9_996, ge=84)

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 60,468 parameters for 205 timepoints and 4 classes."""
        return Rocket(self, shape, n_classes)

    def fit(
        self,
        signals: Float32[Tensor, "n c t"],
        labels: Int64[Tensor, " n"],
        n_classes: int,
        seed: int,
    ) -> nn.Module:
        """Return the net with its transform drawn from the rows, and its head fitted on them."""
        _, n_channels, n_steps = signals.shape
        net = Rocket(self, (n_channels, n_steps), n_classes).to(signals.device)
        net.fit(signals, labels, Generator().manual_seed(seed))
        return net.eval()


class Rocket(nn.Module):
    """A transform, and a linear head on its standardised features."""

    def __init__(self, config: RocketConfig, shape: Shape, n_classes: int) -> None:
        super().__init__()
        makers: dict[str, Callable[[], Transform]] = {
            "minirocket": lambda: MiniRocket(shape, config.n_features),
            "multirocket": lambda: MultiRocket(shape, config.n_features),
            "hydra": lambda: Hydra(shape),
        }
        self.transforms = nn.ModuleDict({name: makers[name]() for name in config.transforms})
        self.head = RidgeHead(sum(each.n_features for each in self._transforms()), n_classes)

    @torch.no_grad()
    def fit(
        self,
        signals: Float32[Tensor, "n c t"],
        labels: Int64[Tensor, " n"],
        generator: Generator,
    ) -> None:
        """Draw the transform, then fit the head."""
        signals = without_gaps(signals)
        for transform in self._transforms():
            transform.fit(signals, generator)
        self.head.fit(lambda: map(self._features, torch.split(signals, BLOCK)), labels)

    def forward(self, signals: Float32[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        with torch.autocast(signals.device.type, enabled=False):  # shares need every digit
            logits: Tensor = self.head(self._features(without_gaps(signals)))
        return logits

    def _features(self, signals: Float32[Tensor, "b c t"]) -> Float32[Tensor, "b f"]:
        return torch.cat([transform(signals) for transform in self._transforms()], dim=1)

    def _transforms(self) -> list[Transform]:
        return [cast(Transform, each) for each in self.transforms.values()]
