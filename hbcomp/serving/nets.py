"""The nets of a run or of an exported model, rebuilt from their configuration and weights."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Float64
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hbcomp.experiment import manifest
from hbcomp.features.registry import config_class as features_class
from hbcomp.nets import registry
from hbcomp.nets.registry import build_net
from hbcomp.nets.signals import SignalsConfig
from hbcomp.serving.card import Card, Net
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError

# As in hbcomp.training.inference: with another size of the batches, the last bits may differ.
BATCH_SIZE: Final = 1024
WHOLE_VALUES: Final = 1024  # of a row; of longer rows fewer are predicted at once
WEIGHTS: Final = "model.safetensors"


def folder_of(net: Net) -> str:
    """Return the folder of a net, relative to that of its run or model."""
    return f"folds/{net.seed}-{net.fold}"


def load_nets(folder: Path, card: Card) -> list[nn.Module]:
    """Return the nets with their weights, in eval mode; damaged weights are an InputError."""
    values, seen = card.config.get("net", {}), card.config.get("features", {})
    config = validate(registry.config_class(values.get("name")), values, folder)
    features = validate(features_class(seen.get("name", "samples")), seen, folder)
    signals = validate(SignalsConfig, card.config.get("signals", {}), folder)
    scaled = None if features.is_of_fold else signals
    n_classes = len(card.metric.classes)
    shape = features.shape(card.shape, n_classes)
    nets = []
    for each in card.nets:
        net = build_net(config, shape, n_classes, 0, scaled)
        nets.append(_with_weights(folder / folder_of(each), net))
    return nets


def are_described(card: Card) -> bool:
    """Return whether the nets of a model see features that are measured from training rows."""
    return features_class(card.config.get("features", {}).get("name", "samples")).is_of_fold


def _with_weights(folder: Path, net: nn.Module) -> nn.Module:
    path = folder / WEIGHTS
    if damage := manifest.damage(path, manifest.read_manifest(folder).get(WEIGHTS, "")):
        raise InputError(f"{path}: {damage}")
    try:
        net.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: not the weights of this model's net: {error}") from error
    return net.eval()


def at_once(n_values: int) -> int:
    """Return how many rows of so many values are predicted at once."""
    return max(1, BATCH_SIZE * WHOLE_VALUES // max(n_values, WHOLE_VALUES))


class Ensemble(nn.Module):
    """The mean of the nets' probabilities, in double precision."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, signals: Float32[Tensor, "b c t"]) -> Float64[Tensor, "b k"]:
        """Return probabilities."""
        return self._mean([signals] * len(self.nets))

    def _mean(self, seen: list[Float32[Tensor, "b d e"]]) -> Float64[Tensor, "b k"]:
        """Return the mean of what each net says of what it sees of the same rows."""
        # One after another, as a run sums its nets.
        total = torch.zeros((), dtype=torch.float64)
        for net, inputs in zip(self.nets, seen, strict=True):
            total = total + net(inputs).float().softmax(1).double()
        return total / len(self.nets)

    @torch.inference_mode()
    def predict(self, signals: Float32[np.ndarray, "n c t"]) -> Float64[np.ndarray, "n k"]:
        """Return the probabilities of rows, batch by batch."""
        batches = torch.split(torch.tensor(signals), at_once(signals.shape[1] * signals.shape[2]))
        return torch.cat([self(batch) for batch in batches]).numpy()
