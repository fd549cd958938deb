"""What every net of the registry promises."""

import pytest
import torch
import torch.nn.functional as F

from hbcomp.errors import InputError
from hbcomp.nets.base import with_mask
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.registry import NETS, build_net, config_class, count_parameters
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.wide import WideConfig

# Small versions where the configuration allows it; every net of the registry must be here.
SMALL = {
    "reference": ReferenceConfig(),
    "resnet": ResNetConfig(),
    "wide": WideConfig(widths=(8, 16), kernels=(5, 3), hidden=32, dropout=0.0),
}
every_net = pytest.mark.parametrize("config", SMALL.values(), ids=SMALL.keys())


def beats(n=16, t=32, k=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    signals = torch.rand(n, t, generator=generator)
    signals[:, t - 4 :] = 0  # padding
    return signals, torch.arange(n) % k


def test_every_net_of_the_registry_is_tested():
    assert set(SMALL) == set(NETS)


@pytest.mark.parametrize(("t", "k"), [(32, 2), (51, 4), (205, 7)])
@every_net
def test_logits_have_one_row_per_beat_and_one_column_per_class(config, t, k):
    signals, _ = beats(n=2, t=t, k=k)
    net = build_net(config, t, k, seed=0).eval()
    logits = net(signals)
    assert logits.shape == (2, k)
    assert logits.isfinite().all()


@every_net
def test_the_loss_at_initialisation_is_near_ln_k(config):
    signals, labels = beats(n=64, t=64, k=4)
    loss = F.cross_entropy(build_net(config, 64, 4, seed=0)(signals), labels)
    assert abs(loss.item() - torch.tensor(4.0).log().item()) < 0.5


@every_net
def test_every_parameter_gets_a_gradient(config):
    signals, labels = beats()
    net = build_net(config, 32, 3, seed=0)
    for step in range(2):  # a block whose last scale starts at zero passes gradients on at step 2
        loss = F.cross_entropy(net(signals), labels)
        net.zero_grad()
        loss.backward()
        if step == 0:
            torch.optim.SGD(net.parameters(), lr=0.1).step()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias before batch norm has zero true gradient; only the reference keeps such biases.
    assert all(name.endswith("bias") for name in without)
    assert not without or config.name == "reference"


@every_net
def test_one_batch_can_be_learnt_by_heart(config):
    signals, labels = beats(n=12)
    net = build_net(config, 32, 3, seed=0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(60):
        loss = F.cross_entropy(net(signals), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@every_net
def test_prediction_of_a_row_does_not_depend_on_the_other_rows(config):
    signals, _ = beats()
    net = build_net(config, 32, 3, seed=0).eval()
    with torch.inference_mode():
        torch.testing.assert_close(net(signals)[:3], net(signals[:3]), rtol=1e-4, atol=1e-5)


@every_net
def test_the_same_seed_builds_the_same_weights_and_another_seed_others(config):
    first, same, other = (build_net(config, 32, 3, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@every_net
def test_building_leaves_the_global_generator_as_it_was(config):
    before = torch.get_rng_state()
    build_net(config, 32, 3, seed=0)
    assert torch.equal(before, torch.get_rng_state())


@every_net
def test_saved_and_reloaded_weights_give_the_same_bits(config, tmp_path):
    from safetensors.torch import load_file, save_file

    signals, _ = beats()
    net = build_net(config, 32, 3, seed=0).eval()
    weights = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    save_file(weights, tmp_path / "net.safetensors")
    again = build_net(config, 32, 3, seed=1).eval()
    again.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
    with torch.inference_mode():
        assert torch.equal(net(signals), again(signals))


def test_the_reference_has_26_827_716_parameters_at_the_competitions_size():
    assert count_parameters(build_net(ReferenceConfig(), 205, 4, seed=0)) == 26_827_716


def test_the_reference_holds_98_percent_of_them_in_one_layer():
    net = build_net(ReferenceConfig(), 205, 4, seed=0)
    assert net.head[0].weight.shape == (4096, 6400)


def test_the_reference_refuses_fewer_than_8_timepoints():
    with pytest.raises(InputError, match="at least 8 timepoints, but got 7"):
        build_net(ReferenceConfig(), 7, 4, seed=0)


def test_an_unknown_net_lists_the_known_ones():
    with pytest.raises(InputError, match=r"one of reference, resnet, wide, but got 'restnet'"):
        config_class("restnet")


def test_the_default_resnet_has_442116_parameters_at_the_competitions_size():
    assert count_parameters(build_net(ResNetConfig(), 205, 4, seed=0)) == 442116


def test_the_default_wide_net_has_1742724_parameters_at_the_competitions_size():
    assert count_parameters(build_net(WideConfig(), 205, 4, seed=0)) == 1_742_724


@pytest.mark.parametrize("t", [1, 2, 3, 7, 8, 9, 187])
@pytest.mark.parametrize("config", [ResNetConfig(widths=(4, 6, 8)), WideConfig()])
def test_the_resnet_and_the_wide_net_take_signals_of_any_length(config, t):
    net = build_net(config, t, 2, seed=0)
    assert net(torch.rand(3, t)).shape == (3, 2)


def test_the_mask_ends_with_the_last_nonzero_sample():
    signals = torch.tensor([[0.0, 1.0, 0.0, 2.0, 0.0, 0.0], [0.0] * 6])
    masked = with_mask(signals)
    assert torch.equal(masked[:, 0, 0], signals * 4 - 1)
    assert masked[:, 1, 0].tolist() == [[1, 1, 1, 1, 0, 0], [0] * 6]
