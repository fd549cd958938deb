"""The nets by name. A new one is a file beside this and a line here."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hbcomp.nets.attention import AttentionConfig
from hbcomp.nets.base import NetConfig, Shape
from hbcomp.nets.dilated import DilatedConfig
from hbcomp.nets.inception import InceptionConfig
from hbcomp.nets.linear import LinearConfig
from hbcomp.nets.quant import QuantConfig
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.rocket import RocketConfig
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
    "rocket": RocketConfig,
    "quant": QuantConfig,
}


def config_class(name: Any) -> type[NetConfig]:
    """Return the configuration class of the net of that name."""
    return NETS[check_name("net.name", name, NETS)]


def build_net(config: NetConfig, shape: Shape, n_classes: int, seed: int) -> nn.Module:
    """Return the net initialised from `seed` alone, on the CPU: the same weights on any device.

    torch's layers draw their initial weights from the global generator and take no other, so
    it is seeded here and put back as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return config.build(shape, n_classes)


def count_parameters(net: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
