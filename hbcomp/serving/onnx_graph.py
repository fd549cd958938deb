"""A model as one ONNX graph: scale, nets, their mean and the decision rule."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64
from torch import Tensor, nn

from hbcomp.nets.quant import Quant
from hbcomp.nets.registry import ScaledNet
from hbcomp.nets.rocket import Rocket
from hbcomp.scoring.calibration import PROB_FLOOR, Temperature, VectorScaling
from hbcomp.scoring.decision import (
    ArgMax,
    ClassWeights,
    Clip,
    ClipPerClass,
    DecisionRule,
    Floor,
    Half,
    LeastCost,
    Raw,
)
from hbcomp.serving.card import Card
from hbcomp.serving.nets import Ensemble, are_described
from hbcomp.serving.rocket_graph import RocketGraph
from hbcomp.system.errors import InputError

Apply = Callable[[Float64[Tensor, "b k"]], Float64[Tensor, "b k"]]


class Answering(nn.Module):
    """Probabilities, and the answers that a rule makes of them."""

    def __init__(self, ensemble: Ensemble, rule: DecisionRule) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.rule = as_torch(rule)

    def forward(self, signals: Float32[Tensor, "b c t"]) -> tuple[Tensor, Tensor]:
        """Return both in double precision."""
        probs = self.ensemble(signals)
        return probs, self.rule(probs)


def as_torch(rule: DecisionRule) -> Apply:
    """Return what a rule does, as operations of torch."""
    match rule:
        case Raw():
            return lambda probs: probs.clone()
        case Half():
            return lambda probs: (probs > 0.5).double()
        case ArgMax():
            return _one_hot
        case Clip(lo=lo, hi=hi):
            return _clip((lo,), (hi,))
        case ClipPerClass(lo=lows, hi=highs):
            return _clip(lows, highs)
        case ClassWeights(weights=weights):
            return lambda probs: _one_hot(probs * torch.tensor(weights).double())
        case LeastCost(costs=costs):
            return lambda probs: _one_hot(-(probs @ torch.tensor(costs).double()))
        case Floor(least=least):
            return lambda probs: F.normalize(probs.clamp(min=least), p=1, dim=1)
        case Temperature(temperature=temperature):
            return lambda probs: (_log(probs) / temperature).softmax(1)
        case VectorScaling(scales=scales, biases=biases):
            return lambda probs: (
                _log(probs) * torch.tensor(scales).double() + torch.tensor(biases).double()
            ).softmax(1)


def _one_hot(scores: Float64[Tensor, "b k"]) -> Float64[Tensor, "b k"]:
    return F.one_hot(scores.argmax(1), scores.shape[1]).double()


def _clip(lows: tuple[float, ...], highs: tuple[float, ...]) -> Apply:
    def clip(probs: Tensor) -> Tensor:
        low, high = torch.tensor(lows).double(), torch.tensor(highs).double()
        raised = torch.where(probs > high, torch.ones_like(probs), probs)
        return torch.where(probs < low, torch.zeros_like(probs), raised)

    return clip


def _log(probs: Float64[Tensor, "b k"]) -> Float64[Tensor, "b k"]:
    return probs.clamp(min=PROB_FLOOR).log()


def write_graph(path: Path, ensemble: Ensemble, card: Card) -> None:
    """Write a model as a graph from `signals` to `probs` and `answers`, of any number of rows."""
    if missing := [name for name in ("onnx", "onnxscript") if not find_spec(name)]:
        raise InputError(f'an ONNX graph needs {", ".join(missing)}: pip install "hbcomp[onnx]"')
    name = card.config.get("net", {}).get("name")
    if are_described(card):
        raise InputError(
            f"{card.experiment}: features that are measured from training rows cannot be written "
            "as ONNX; leave out --onnx, and the rows are written beside the weights"
        )
    answering = Answering(_in_its_operations(ensemble), card.chosen.rule).eval()
    # Rewriting rocket's thousand operations takes longer than the rest, and saves no time later.
    is_rocket = any(isinstance(each, RocketGraph) for each in answering.modules())
    rows = torch.zeros(2, *card.shape)
    with _exporting():
        program = torch.onnx.export(
            answering,
            (rows,),
            input_names=["signals"],
            output_names=["probs", "answers"],
            dynamic_shapes={"signals": {0: torch.export.Dim("rows", min=1)}},
            dynamo=True,
            optimize=not is_rocket,
            verbose=False,
        )
    assert program is not None
    (signals,) = program.model.graph.inputs
    assert signals.shape is not None
    if isinstance(signals.shape[0], int):  # torch falls back to the rows of its example
        raise InputError(f"net {name!r} cannot be written as ONNX for any number of rows")
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # lines of code, with paths of this machine
    program.model.metadata_props["classes"] = json.dumps(card.metric.classes)
    program.save(path)


def _in_its_operations(ensemble: Ensemble) -> Ensemble:
    """Return the ensemble with nets that ONNX can compute; others are an InputError."""
    return Ensemble([_exportable(cast(ScaledNet, net)) for net in ensemble.nets])


def _exportable(net: ScaledNet) -> nn.Module:
    if isinstance(net.net, Rocket) and "multirocket" not in net.net.transforms:
        return ScaledNet(net.scale, RocketGraph(net.net))
    if isinstance(net.net, Rocket | Quant):
        what = "the trees of quant" if isinstance(net.net, Quant) else "multirocket's features"
        raise InputError(
            f"{what} cannot be written as ONNX; leave out --onnx, and the weights are written, "
            "with which hbcomp.load answers"
        )
    return net


@contextmanager
def _exporting() -> Iterator[None]:
    """Keep torch's export from warning of its own parts, and from a flag that training has set.

    It reads whether cuDNN may take tf32, which torch refuses to say once convolutions have a
    precision of their own. Nothing here is computed on a GPU.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir")]
    former = [log.level for log in logs], convolutions.fp32_precision
    for log in logs:
        log.setLevel(logging.ERROR)
    torch.backends.cudnn.allow_tf32 = True
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, former[0], strict=True):
            log.setLevel(level)
        convolutions.fp32_precision = former[1]
