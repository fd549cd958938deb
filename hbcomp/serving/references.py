"""The training rows from which the nets of a model have their features."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Float64
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hbcomp.experiment import manifest
from hbcomp.features import registry
from hbcomp.features.base import MakeFeatures
from hbcomp.features.references import References, as_numbers, single_threaded
from hbcomp.nets.signal_input import Scale
from hbcomp.nets.signals import SignalsConfig
from hbcomp.serving.card import CARD, Card
from hbcomp.serving.nets import Ensemble, at_once, load_nets
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError

FILE: Final = "references.safetensors"
Predict = Callable[[Float32[np.ndarray, "n c t"]], Float64[np.ndarray, "n k"]]


def load_described(folder: Path, card: Card) -> Predict:
    """Return the prediction by nets that see features of rows; damaged files are an InputError."""
    references = load_references(folder, card)
    config = card.config["features"]
    features = validate(registry.config_class(config.get("name")), config, folder)
    make = references.fitted(features, len(card.metric.classes), torch.get_num_threads())
    return Described(load_nets(folder, card), references.scale, make).predict


class Described(Ensemble):
    """The mean of the probabilities of nets that each see features of their own."""

    def __init__(self, nets: list[nn.Module], scale: Scale, make: MakeFeatures) -> None:
        super().__init__(nets)
        self._scale, self._make = scale, make

    @torch.no_grad()  # not the inference mode, which the threads of a search do not have
    def predict(self, signals: Float32[np.ndarray, "n c t"]) -> Float64[np.ndarray, "n k"]:
        """Return the probabilities of rows, which are described all at once, as a run does."""
        given = torch.tensor(signals)
        with single_threaded():
            seen = self._make(as_numbers(self._scale, given), torch.full((len(given),), -1))
        batches = torch.split(seen, at_once(seen.shape[2] * seen.shape[3]), dim=1)
        return torch.cat([self._mean(list(batch)) for batch in batches]).numpy()


def load_references(folder: Path, card: Card) -> References:
    """Return the references of an exported model, or those of a run from its training file."""
    if not (folder / CARD).exists():
        return _of_run(folder, card)
    path = folder / FILE
    if damage := manifest.damage(path, manifest.read_manifest(folder).get(FILE, "")):
        raise InputError(f"{path}: {damage}")
    try:
        tensors = load_file(path)
        signals, labels = tensors["signals"], tensors["labels"].long()
        scale = _scale(card, tensors["offset"], tensors["unit"])
    except (KeyError, OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: not the references of this model: {error}") from error
    return References(scale, signals, labels, torch.arange(len(signals)))


def _scale(card: Card, offset: Tensor, unit: Tensor) -> Scale:
    scale = Scale(SignalsConfig(**card.config.get("signals", {})), card.data.n_channels)
    scale.load_state_dict({"offset": offset, "unit": unit})
    return scale


def _of_run(folder: Path, card: Card) -> References:
    # A run's own files need what reads and checks them.
    from hbcomp.crossval.training_data import load_training_data_again
    from hbcomp.experiment.config import Config
    from hbcomp.experiment.folder import RunFolder
    from hbcomp.training.features import references_of

    config = validate(Config, card.config, folder)
    if config.pseudo.runs:
        raise InputError(
            f"{folder}: its nets compare rows with pseudo-labelled test rows, too, which a model "
            "cannot tell from the rows that it is given; `hbcomp predict` can"
        )
    data = config.data.model_copy(update={"test": None})
    training_data = load_training_data_again(
        config.model_copy(update={"data": data}), RunFolder(folder)
    )
    on_device = training_data.on_device("cpu")
    replicas = [training_data.replica(net.seed, net.fold, on_device.device) for net in card.nets]
    return references_of(config.signals, on_device, replicas)


def write_references(folder: Path, references: References) -> None:
    """Write references beside the card of a model, with their hash."""
    tensors = {
        "signals": references.signals.contiguous(),
        "labels": references.labels.short(),
        "offset": references.scale.offset,
        "unit": references.scale.unit,
    }
    (folder / FILE).write_bytes(save(tensors))
    manifest.write_manifest(folder, [FILE])
