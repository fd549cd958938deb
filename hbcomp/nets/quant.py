"""Quantiles of intervals and extremely randomised trees: QUANT.

Dempster, Schmidt and Webb 2024 (arXiv:2308.00928). Where rocket asks which shapes occur, this asks
which values occur where: cheap, and other errors in a blend.
"""

from typing import Literal

import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn

from hbcomp.nets.base import FittedNetConfig, Shape, without_gaps
from hbcomp.nets.quantiles import quantile_features
from hbcomp.nets.sizes import Size
from hbcomp.nets.trees import Forest


class QuantConfig(FittedNetConfig):
    """The trees; their defaults are the paper's."""

    name: Literal["quant"] = "quant"
    n_trees: Size = 200
    max_features: float = Field(default=0.1, gt=0, le=1)  # share that a split chooses from

    def build(self, shape: Shape, n_classes: int) -> nn.Module:
        """Return the net; 0 parameters for 205 timepoints and 4 classes, as trees have none."""
        return Quant(shape, n_classes)

    def fit(
        self,
        signals: Float32[Tensor, "n c t"],
        labels: Int64[Tensor, " n"],
        n_classes: int,
        seed: int,
    ) -> nn.Module:
        """Return the net with trees grown on these rows, on the CPU."""
        from sklearn.ensemble import ExtraTreesClassifier

        _, n_channels, n_steps = signals.shape
        net = Quant((n_channels, n_steps), n_classes).to(signals.device)
        grower = ExtraTreesClassifier(
            n_estimators=self.n_trees,
            max_features=self.max_features,
            criterion="entropy",
            n_jobs=torch.get_num_threads(),  # each tree has a seed of its own
            random_state=seed,
        )
        features = quantile_features(without_gaps(signals)).cpu().numpy()
        net.forest.take(grower.fit(features, labels.cpu().numpy()))
        net.prior.copy_(torch.bincount(labels, minlength=n_classes) / len(labels))
        return net.eval()


class Quant(nn.Module):
    """The features and the trees; beside these, the shares of the classes count as one tree.

    So no class has the probability 0, which trees give to whatever they have not seen.
    """

    def __init__(self, shape: Shape, n_classes: int) -> None:
        super().__init__()
        n_features = quantile_features(torch.zeros(1, *shape)).shape[1]
        self.forest = Forest(n_classes, n_features)
        self.register_buffer("prior", torch.full((n_classes,), 1 / n_classes, dtype=torch.float64))
        self.prior: Tensor

    def forward(self, signals: Float32[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return the logarithms of probabilities."""
        probs = self.forest(quantile_features(without_gaps(signals)))
        n_trees = len(self.forest.roots)
        # A class that no training row has stays possible, if barely.
        mixed = (n_trees * probs + self.prior + 1e-9) / (n_trees + 1)
        logits: Tensor = mixed.log().float()
        return logits
