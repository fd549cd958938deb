"""What every net of the registry promises."""

import pytest
import torch
import torch.nn.functional as F

from hbcomp.data.synthetic import make_rows
from hbcomp.nets.attention import AttentionConfig
from hbcomp.nets.convtran import ConvTranConfig
from hbcomp.nets.dilated import DilatedConfig
from hbcomp.nets.inception import InceptionConfig, _maxima
from hbcomp.nets.inception_time import InceptionTimeConfig
from hbcomp.nets.linear import LinearConfig
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.registry import NETS, build_net, config_class, count_parameters
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.signals import SignalsConfig
from hbcomp.nets.wide import WideConfig
from hbcomp.system.errors import InputError
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.loader import put_on_device
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import train_epochs

TRAINED = {name for name, kind in NETS.items() if not kind.is_fitted}

# Small versions where the configuration allows it; every net that is trained must be here.
SMALL = {
    "linear": LinearConfig(),
    "reference": ReferenceConfig(),
    "resnet": ResNetConfig(),
    "wide": WideConfig(widths=(8, 16), kernels=(5, 3), hidden=32, dropout=0.0),
    "inception": InceptionConfig(width=8, kernels=(9, 5), hidden=32),
    "dilated": DilatedConfig(width=16, dilations=(1, 2, 4), hidden=32, dropout=0.0),
    "attention": AttentionConfig(widths=(8, 16), n_layers=1, n_heads=2, hidden=32),
    "inception-time": InceptionTimeConfig(n_positions=16, width=8, kernels=(9, 5)),
    "convtran": ConvTranConfig(n_positions=16, width=8, kernels=(9, 5), n_heads=2),
}
every_net = pytest.mark.parametrize("config", SMALL.values(), ids=SMALL.keys())


def beats(n=16, t=32, k=3, seed=0, c=1):
    generator = torch.Generator().manual_seed(seed)
    signals = torch.rand(n, c, t, generator=generator)
    signals[:, :, t - 4 :] = torch.nan  # padding
    return signals, torch.arange(n) % k


def core(net):
    """Return the net without what comes before it."""
    return net.net[1]


def test_every_trained_net_of_the_registry_is_tested():
    assert set(SMALL) == TRAINED


@pytest.mark.parametrize(("c", "t", "k"), [(1, 32, 2), (1, 51, 4), (3, 205, 7)])
@every_net
def test_logits_have_one_row_per_signal_and_one_column_per_class(config, c, t, k):
    signals, _ = beats(n=2, t=t, k=k, c=c)
    net = build_net(config, (c, t), k, 0, SignalsConfig()).eval()
    logits = net(signals)
    assert logits.shape == (2, k)
    assert logits.isfinite().all()


@every_net
def test_the_loss_at_initialisation_is_near_ln_k(config):
    signals, labels = beats(n=64, t=64, k=4)
    loss = F.cross_entropy(build_net(config, (1, 64), 4, 0, SignalsConfig())(signals), labels)
    assert abs(loss.item() - torch.tensor(4.0).log().item()) < 0.5


@every_net
def test_every_parameter_gets_a_gradient(config):
    signals, labels = beats()
    net = build_net(config, (1, 32), 3, 0, SignalsConfig())
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


# Random beats are beyond a linear net.
@pytest.mark.parametrize("name", sorted(TRAINED - {"linear"}))
def test_one_batch_can_be_learnt_by_heart(name):
    signals, labels = beats(n=32)
    net = build_net(SMALL[name], (1, 32), 3, 0, SignalsConfig())
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    for _ in range(40):
        loss = F.cross_entropy(net(signals), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@every_net
def test_prediction_of_a_row_does_not_depend_on_the_other_rows(config):
    signals, _ = beats()
    net = build_net(config, (1, 32), 3, 0, SignalsConfig()).eval()
    with torch.inference_mode():
        torch.testing.assert_close(net(signals)[:3], net(signals[:3]), rtol=1e-4, atol=1e-5)


@every_net
def test_training_again_gives_the_same_bits(config):
    dataset = make_rows(n=24, t=32, k=3)
    beats = put_on_device(dataset.signals, dataset.known_labels, "cpu")
    train = TrainConfig(n_epochs=2, batch_size=8, ema_decay=0.9)
    recipe = Recipe(config, train, AugmentConfig(scale=0.1, noise=0.01, shift=2))
    compute = Compute("cpu", "fp32", 1, "tests")
    nets = []
    for _ in range(2):
        *_, (last,) = train_epochs(recipe, beats, [Replica(torch.arange(24), (0, 0))], compute)
        nets.append(last.net.state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


@every_net
def test_prediction_of_the_same_rows_again_gives_the_same_bits(config):
    signals, _ = beats()
    if hasattr(config, "dropout"):
        config = config.model_copy(update={"dropout": 0.5})
    net = build_net(config, (1, 32), 3, 0, SignalsConfig())
    net(signals)  # in training, which moves the statistics of batch norm
    net.eval()
    with torch.inference_mode():
        assert torch.equal(net(signals), net(signals))


@every_net
def test_the_same_seed_builds_the_same_weights_and_another_seed_others(config):
    first, same, other = (
        build_net(config, (1, 32), 3, seed, SignalsConfig()).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@every_net
def test_building_leaves_the_global_generator_as_it_was(config):
    before = torch.get_rng_state()
    build_net(config, (1, 32), 3, 0, SignalsConfig())
    assert torch.equal(before, torch.get_rng_state())


@every_net
def test_saved_and_reloaded_weights_give_the_same_bits(config, tmp_path):
    from safetensors.torch import load_file, save_file

    signals, _ = beats()
    net = build_net(config, (1, 32), 3, 0, SignalsConfig()).eval()
    weights = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    save_file(weights, tmp_path / "net.safetensors")
    again = build_net(config, (1, 32), 3, 1, SignalsConfig()).eval()
    again.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
    with torch.inference_mode():
        assert torch.equal(net(signals), again(signals))


@pytest.mark.parametrize("name", NETS)
def test_build_states_the_parameters_of_the_default_net_at_the_competitions_size(name):
    config = NETS[name](name=name)
    count = count_parameters(build_net(config, (1, 205), 4, 0, SignalsConfig()))
    assert f"{count:,} parameters for 205 timepoints and 4 classes" in config.build.__doc__


def test_the_reference_holds_98_percent_of_them_in_one_layer():
    net = core(build_net(ReferenceConfig(), (1, 205), 4, 0, SignalsConfig()))
    assert net.head[0].weight.shape == (4096, 6400)


def test_the_reference_refuses_fewer_than_8_timepoints():
    with pytest.raises(InputError, match="at least 8 timepoints, but got 7"):
        build_net(ReferenceConfig(), (1, 7), 4, 0, SignalsConfig())


def test_an_unknown_net_lists_the_known_ones():
    with pytest.raises(InputError, match=f"one of {', '.join(NETS)}, but got 'restnet'"):
        config_class("restnet")


@pytest.mark.parametrize("t", [1, 2, 3, 7, 8, 9, 187])
@pytest.mark.parametrize("name", sorted(TRAINED - {"reference"}))
def test_every_net_but_the_reference_takes_signals_of_any_length(name, t):
    net = build_net(SMALL[name], (1, t), 2, 0, SignalsConfig())
    assert net(torch.rand(3, 1, t)).shape == (3, 2)


@every_net
def test_every_channel_has_an_influence(config):
    signals, _ = beats(n=4, c=3)
    net = build_net(config, (3, 32), 3, 0, SignalsConfig()).eval()
    if config.name == "linear":  # which starts at zero
        torch.nn.init.ones_(core(net).weight)
    for channel in range(3):
        changed = signals.clone()
        changed[:, channel, :16] += 1.0
        assert not torch.equal(net(changed), net(signals))


@pytest.mark.parametrize("scale", ["none", "standardise", "per-row", "min-max"])
@every_net
def test_no_value_anywhere_leaves_logits_finite(config, scale):
    signals, labels = beats(n=12, c=2)
    signals[0] = torch.nan  # a row without values
    signals[1, 0] = torch.nan  # and a channel of a row
    signals[2, :, 5:9] = torch.nan
    signals[3, 1, 3] = torch.nan
    data = put_on_device(signals.numpy(), labels.numpy(), "cpu")
    recipe = Recipe(
        config,
        TrainConfig(n_epochs=2, batch_size=6),
        AugmentConfig(scale=0.1, noise=0.1, shift=2, channel_dropout=0.3),
        SignalsConfig(scale=scale),
    )
    compute = Compute("cpu", "fp32", 1, "tests")
    *_, (last,) = train_epochs(recipe, data, [Replica(torch.arange(12), (0, 0))], compute)
    assert last.net.eval()(signals).isfinite().all()


@pytest.mark.parametrize("name", sorted(name for name in NETS if NETS[name].sees_mask))
def test_a_net_tells_a_signal_that_ends_in_zeros_from_a_shorter_one(name):
    signals, _ = beats(n=2)
    net = build_net(SMALL[name], (1, 32), 3, 0, SignalsConfig()).eval()
    assert not torch.equal(net(signals), net(signals.nan_to_num(0.0)))


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        (InceptionConfig, {"kernels": (9, 4)}, r"kernels.1\n.*a kernel must be odd, .* but got 4"),
        (DilatedConfig, {"kernel": 4}, "kernel must be odd, to keep the length, but got 4"),
        (DilatedConfig, {"dilations": (1, 0)}, r"dilations.1\n.*greater than or equal to 1"),
        (AttentionConfig, {"widths": (0, 8)}, r"widths.0\n.*greater than or equal to 1"),
        (ConvTranConfig, {"n_heads": 7}, "an even number of channels that n_heads, 7, divides"),
        (AttentionConfig, {"n_heads": 3}, "n_heads must divide the last width, 64, but got 3"),
    ],
)
def test_a_net_that_cannot_be_built_is_refused(kind, keys, message):
    with pytest.raises(ValueError, match=message):
        kind(**keys)


@pytest.mark.parametrize("s", [1, 2, 3, 8])
def test_the_maxima_of_neighbours_are_those_of_max_pooling(s):
    features = torch.randn(2, 3, 1, s, generator=torch.Generator().manual_seed(0))
    expected = F.max_pool2d(F.pad(features, (1, 1)), (1, 3), stride=1)
    torch.testing.assert_close(_maxima(features), expected)


def test_the_blocks_of_the_dilated_net_start_as_the_identity():
    net = core(build_net(DilatedConfig(), (1, 64), 3, 0, SignalsConfig()))
    features = torch.rand(2, 64, 1, 32)
    assert torch.equal(net.blocks(features), features)


def test_the_middle_of_the_dilated_blocks_sees_the_whole_beat():
    net = core(build_net(DilatedConfig(), (1, 205), 4, 0, SignalsConfig()))
    for block in net.blocks:
        torch.nn.init.ones_(block.conv2.weight)
    features = torch.rand(1, 64, 1, 52, requires_grad=True)
    net.blocks(features)[0, :, 0, 26].sum().backward()
    assert features.grad.abs().sum((0, 1, 2)).gt(0).all()


def test_attention_looks_at_all_positions():
    net = core(build_net(AttentionConfig(), (1, 205), 4, 0, SignalsConfig())).eval()
    features = torch.rand(1, 26, 64, requires_grad=True)
    net.layers(features)[0, 0].square().sum().backward()
    assert features.grad.abs().sum((0, 2)).gt(0).all()
