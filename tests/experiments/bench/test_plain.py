"""The nets as people write them compute what ours do."""

import pytest
import torch
from bench.plain import plain_net, plain_reference

from hbcomp.nets.base import NetConfig
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.registry import build_net, count_parameters
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.signals import SignalsConfig

CONFIGS = {
    "reference": ReferenceConfig(),
    "resnet": ResNetConfig(),
    "odd": ResNetConfig(widths=(4, 4, 6), strides=(1, 2, 3), kernel=5, hidden=8),
}


def copy_weights(source, target):
    """Copy by position, reshaping: ours may have an axis of length 1 that the plain net lacks."""
    of_ours = [each for name, each in source.state_dict().items() if "scale." not in name]
    pairs = list(zip(of_ours, target.state_dict().values(), strict=True))
    for ours, plain in pairs:
        plain.copy_(ours.reshape(plain.shape))


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def pair(request):
    signals = SignalsConfig(scale="none" if request.param.name == "reference" else "min-max")
    ours = build_net(request.param, (1, 51), 3, 0, signals)
    plain = plain_net(request.param, 51, 3)
    for parameter in ours.parameters():  # no zeros, which would hide a block's inside
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    copy_weights(ours, plain)
    return ours, plain


def test_plain_nets_have_the_parameters_of_ours(pair):
    assert len({count_parameters(net) for net in pair}) == 1


@pytest.mark.parametrize("is_training", [True, False])
def test_plain_nets_give_the_logits_of_ours(pair, is_training):
    ours, plain = (net.train(is_training) for net in pair)
    for net in pair:
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
    signals = torch.rand(8, 1, 51, generator=torch.Generator().manual_seed(2))
    signals[:4, :, 40:] = torch.nan  # padding, which the resnet's mask shows
    torch.testing.assert_close(plain(signals), ours(signals), rtol=1e-3, atol=1e-4)


def test_the_plain_reference_has_26_827_716_parameters_at_the_competitions_size():
    with torch.device("meta"):
        assert count_parameters(plain_reference(205, 4)) == 26_827_716


def test_a_net_that_nobody_wrote_plainly_has_no_plain_net():
    class Unwritten(NetConfig):
        name: str = "unwritten"

        def build(self, n_timepoints, n_classes):
            raise NotImplementedError

    assert plain_net(Unwritten(), 51, 3) is None
