"""What nets for signals that are not aligned promise: any length, any place, values only."""

import pytest
import torch

from hbcomp.nets.convtran import ConvTranConfig, RelativeLayer, position_vectors
from hbcomp.nets.inception_time import InceptionTimeConfig
from hbcomp.nets.registry import build_net
from hbcomp.nets.signals import SignalsConfig
from hbcomp.nets.unaligned import (
    FixedFilters,
    Stem,
    fixed_filters,
    mean_of_values,
    share_of_values,
    strides_to,
)

NETS = {
    "inception-time": InceptionTimeConfig(n_positions=32, width=4, kernels=(9, 5)),
    "convtran": ConvTranConfig(n_positions=32, width=4, kernels=(9, 5), n_heads=2),
}
both_nets = pytest.mark.parametrize("config", NETS.values(), ids=NETS.keys())


def net_for(config, shape, k=3):
    return build_net(config, shape, k, 0, SignalsConfig(scale="standardise"))


@pytest.mark.parametrize("n_positions", [1, 16, 64])
@pytest.mark.parametrize("t", [1, 24, 64, 65, 205, 2700, 16_000])
def test_a_stem_leaves_at_most_so_many_positions(t, n_positions):
    stem = Stem((2, t), width=4, n_positions=n_positions)
    features = stem(torch.rand(2, 2, 1, t))
    assert features.shape == (2, 4, 1, stem.n_positions)
    assert stem.n_positions == -(-t // stem.stride) <= n_positions
    assert stem.stride == 1 or -(-t // (stem.stride // 2)) > n_positions
    assert set(strides_to(t, n_positions)) <= {2, 4}


def test_signals_of_16000_time_steps_take_under_10_mb_a_row_and_few_parameters():
    from hbcomp.crossval.size import size_of_net

    for config in (InceptionTimeConfig(), ConvTranConfig()):
        size = size_of_net(config, (1, 16_000), 4, SignalsConfig())
        assert size.bytes_per_row < 10_000_000
        assert size.n_parameters < 250_000


def test_the_mean_is_of_the_positions_that_have_values():
    features = torch.rand(2, 3, 1, 8)
    mask = torch.ones(2, 1, 1, 32)
    mask[1, ..., 16:] = 0
    shares = share_of_values(mask, 4)
    found = mean_of_values(features, shares)
    torch.testing.assert_close(found[0], features[0].mean((1, 2)))
    torch.testing.assert_close(found[1], features[1, :, 0, :4].mean(1))


def test_a_row_without_values_has_the_mean_zero():
    assert not mean_of_values(torch.rand(1, 3, 1, 8), torch.zeros(1, 1, 1, 8)).any()


def test_fixed_filters_are_of_norm_1_and_see_no_constant():
    for unit in (1, 3):
        filters = fixed_filters(unit)
        torch.testing.assert_close(filters.square().sum((1, 2, 3)), torch.ones(11))
        assert filters.sum((1, 2, 3)).abs().max() < 1e-5
        assert filters.shape[3] % 2 == 1


def test_a_rise_and_a_fall_are_told_apart_and_amplitudes_kept():
    layer = FixedFilters(1, stride=1).eval()
    step = torch.zeros(2, 1, 1, 32)
    step[0, ..., 16:], step[1, ..., 16:] = 1, -2
    found = layer(step)[:, :, 0, 16]  # (2, f)
    assert found[0, 0] > 0 == found[0, 11]
    torch.testing.assert_close(found[1, 11], 2 * found[0, 0])


def test_more_channels_than_16_are_mixed_for_the_fixed_filters():
    assert FixedFilters(16, stride=2).n_features == FixedFilters(40, stride=2).n_features == 352
    assert FixedFilters(40, stride=2)(torch.rand(2, 40, 1, 9)).shape == (2, 352, 1, 5)


def test_the_position_vectors_are_those_of_the_paper():
    found = position_vectors(10, 4)
    for place in range(10):
        for pair in range(2):
            angle = torch.tensor(place * 10_000 ** (-2 * pair / 4) * 4 / 10)
            expected = torch.stack([angle.sin(), angle.cos()])
            torch.testing.assert_close(found[place, 2 * pair : 2 * pair + 2], expected)


def test_a_distance_has_one_number_in_all_positions():
    layer = RelativeLayer(4, n_heads=1, n_positions=5)
    with torch.no_grad():
        layer.of_distance.copy_(torch.arange(9.0))
    added = layer.shares(torch.zeros(1, 1, 5, 5)).detach() - 0.2
    for i in range(5):
        for j in range(5):
            assert added[0, 0, i, j].item() == pytest.approx(j - i + 4)


def test_attention_does_not_see_positions_without_values():
    layer = RelativeLayer(8, n_heads=2, n_positions=6)
    torch.nn.init.normal_(layer.of_distance)
    features = torch.rand(1, 6, 8)
    has_value = torch.tensor([[True, True, True, True, False, False]])
    changed = features.clone()
    changed[:, 4:] += 1.0
    before, after = layer(features, has_value), layer(changed, has_value)
    torch.testing.assert_close(before[:, :4], after[:, :4])


@both_nets
def test_a_row_without_values_has_logits(config):
    net = net_for(config, (2, 40)).eval()
    assert net(torch.full((2, 2, 40), torch.nan)).isfinite().all()
