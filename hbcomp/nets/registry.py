"""The nets by name. A new one is a file beside this and a line here."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from hbcomp.nets.attention import AttentionConfig
from hbcomp.nets.base import NetConfig, Shape
from hbcomp.nets.convtran import ConvTranConfig
from hbcomp.nets.dilated import DilatedConfig
from hbcomp.nets.inception import InceptionConfig
from hbcomp.nets.inception_time import InceptionTimeConfig
from hbcomp.nets.linear import LinearConfig
from hbcomp.nets.quant import QuantConfig
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.rocket import RocketConfig
from hbcomp.nets.signal_input import NetInput, Scale
from hbcomp.nets.signals import SignalsConfig
from hbcomp.nets.wide import WideConfig
from hbcomp.system.errors import check_name

NETS: Mapping[str, type[NetConfig]] = {
    "linear": LinearConfig,
    "reference": ReferenceConfig,
    "resnet": ResNetConfig,
    "wide": WideConfig,
    "inception": InceptionConfig,
    "dilated": DilatedConfig,
    "attention": AttentionConfig,
    "inception-time": InceptionTimeConfig,
    "convtran": ConvTranConfig,
    "rocket": RocketConfig,
    "quant": QuantConfig,
}


def config_class(name: Any) -> type[NetConfig]:
    """Return the configuration class of the net of that name."""
    return NETS[check_name("net.name", name, NETS)]


class ScaledNet(nn.Module):
    """A net with the scale of its signals before it; training augments between the two.

    Both are stored together, so that prediction cannot scale otherwise than training did.
    """

    def __init__(self, scale: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.scale = scale
        self.net = net

    @property
    def rest(self) -> Float[Tensor, "c 1"] | float:
        """The scaled values from which an amplitude is measured."""
        return self.scale.rest if isinstance(self.scale, Scale) else 0.0

    def forward(self, signals: Float32[Tensor, "b c t"]) -> Float[Tensor, "b k"]:
        """Return logits."""
        logits: Tensor = self.net(self.scale(signals))
        return logits


def build_net(
    config: NetConfig, shape: Shape, n_classes: int, seed: int, signals: SignalsConfig | None
) -> ScaledNet:
    """Return the net initialised from `seed` alone, on the CPU: the same weights on any device.

    `shape` is that of the signals, whose scale is still to be fitted; or with `signals` None that
    of features, which a net takes as they are.

    torch's layers draw their initial weights from the global generator and take no other, so
    it is seeded here and put back as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if signals is None:
            return ScaledNet(nn.Identity(), config.build(shape, n_classes))
        n_channels, n_timepoints = shape
        net = config.build((n_channels + config.sees_mask, n_timepoints), n_classes)
    if not config.is_fitted:
        net = nn.Sequential(NetInput(signals, has_mask=config.sees_mask), net)
    return ScaledNet(Scale(signals, n_channels), net)


def count_parameters(net: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
