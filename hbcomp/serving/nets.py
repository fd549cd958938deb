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
from hbcomp.nets import registry
from hbcomp.nets.registry import build_net
from hbcomp.nets.signals import SignalsConfig
from hbcomp.serving.card import Card, Net
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError

BATCH_SIZE: Final = 1024  # as in training, where another one would round otherwise
WEIGHTS: Final = "model.safetensors"


def folder_of(net: Net) -> str:
    """Return the folder of a net, relative to that of its run or model."""
    return f"folds/{net.seed}-{net.fold}"


def load_nets(folder: Path, card: Card) -> list[nn.Module]:
    """Return the nets with their weights, in eval mode; damaged weights are an InputError."""
    features = card.config.get("features", {}).get("name", "samples")
    if features != "samples":
        raise InputError(
            f"{folder}: its nets see features ({features}) that are measured from the training "
            f"rows; `hbcomp predict {card.experiment}` has these"
        )
    values = card.config.get("net", {})
    config = validate(registry.config_class(values.get("name")), values, folder)
    signals = validate(SignalsConfig, card.config.get("signals", {}), folder)
    nets = []
    for each in card.nets:
        net = build_net(config, card.shape, len(card.metric.classes), 0, signals)
        nets.append(_with_weights(folder / folder_of(each), net))
    return nets


def _with_weights(folder: Path, net: nn.Module) -> nn.Module:
    path = folder / WEIGHTS
    if damage := manifest.damage(path, manifest.read_manifest(folder).get(WEIGHTS, "")):
        raise InputError(f"{path}: {damage}")
    try:
        net.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: not the weights of this model's net: {error}") from error
    return net.eval()


class Ensemble(nn.Module):
    """The mean of the nets' probabilities, in double precision."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, signals: Float32[Tensor, "b c t"]) -> Float64[Tensor, "b k"]:
        """Return probabilities."""
        # One after another, as a run sums its nets.
        total = torch.zeros((), dtype=torch.float64)
        for net in self.nets:
            total = total + net(signals).float().softmax(1).double()
        return total / len(self.nets)

    @torch.inference_mode()
    def predict(self, signals: Float32[np.ndarray, "n c t"]) -> Float64[np.ndarray, "n k"]:
        """Return the probabilities of rows, batch by batch."""
        batches = torch.split(torch.tensor(signals), BATCH_SIZE)
        return torch.cat([self(batch) for batch in batches]).numpy()
