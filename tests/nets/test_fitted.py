"""What every net promises that is fitted instead of trained in steps."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from hbcomp.data.synthetic import make_rows
from hbcomp.experiment.config import Config
from hbcomp.nets.base import without_gaps
from hbcomp.nets.quant import QuantConfig
from hbcomp.nets.registry import NETS, build_net
from hbcomp.nets.rocket import RocketConfig
from hbcomp.nets.signals import SignalsConfig
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.fitting import fit_nets
from hbcomp.training.loader import put_on_device
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Recipe, Replica

# Small versions; every net that is fitted must be here.
SMALL = {
    "rocket": RocketConfig(n_features=336),
    "multirocket": RocketConfig(transforms=("multirocket",), n_features=672),
    "hydra": RocketConfig(transforms=("hydra",)),
    "two": RocketConfig(transforms=("minirocket", "hydra"), n_features=84),
    "quant": QuantConfig(n_trees=20),
}
every_net = pytest.mark.parametrize("config", SMALL.values(), ids=SMALL.keys())


def fitted(config, n=40, t=32, k=3, c=1, seed=0, of=0):
    generator = torch.Generator().manual_seed(of)
    labels = torch.arange(n) % k
    signals = torch.randn(n, c, t, generator=generator) * 0.3
    signals += torch.sin(torch.arange(t) * (labels[:, None, None] + 1) * 0.4)
    return config.fit(signals, labels, k, seed), signals, labels


def test_every_fitted_net_of_the_registry_is_tested():
    assert {config.name for config in SMALL.values()} == {
        name for name, kind in NETS.items() if kind.is_fitted
    }


@pytest.mark.parametrize(("c", "t", "k"), [(1, 32, 2), (1, 51, 4), (3, 40, 7)])
@every_net
def test_logits_have_one_row_per_signal_and_one_column_per_class(config, c, t, k):
    net, signals, _ = fitted(config, t=t, k=k, c=c)
    logits = net(signals[:2])
    assert logits.shape == (2, k)
    assert logits.isfinite().all()


@every_net
def test_classes_that_differ_in_their_frequency_are_learnt(config):
    net, _, _ = fitted(config, n=60)
    _, new, labels = fitted(config, n=60, of=1)
    assert (net(new).argmax(1) == labels).float().mean() > 0.9


@every_net
def test_weights_fit_a_net_that_knows_only_the_shape(config):
    net, signals, _ = fitted(config, c=2)
    weights = load(save({name: each.contiguous() for name, each in net.state_dict().items()}))
    again = build_net(config, (2, 32), 3, 5, SignalsConfig()).net.eval()
    again.load_state_dict(weights, strict=True)
    with torch.inference_mode():
        assert torch.equal(net(signals), again(signals))


@every_net
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(config):
    first, same, other = (fitted(config, seed=seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(
        first[name].shape != other[name].shape or not torch.equal(first[name], other[name])
        for name in first
    )


@every_net
def test_rows_that_are_held_out_have_no_influence(config):
    dataset = make_rows(n=24, t=32, k=3)
    recipe = Recipe(config, TrainConfig(n_epochs=1), AugmentConfig())
    nets = []
    for value in (0.0, 9.0):
        signals, labels = dataset.signals.copy(), dataset.known_labels.copy()
        signals[16:] = value
        labels[16:] = 1
        data = put_on_device(signals, labels, "cpu")
        (epochs,) = fit_nets(recipe, data, [Replica(torch.arange(16), (0, 0))])
        nets.append(epochs[0].net.state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


@every_net
def test_autocast_changes_no_bit(config):
    net, signals, _ = fitted(config)
    expected = net(signals)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(signals), expected)


@every_net
def test_a_missing_end_counts_as_zeros(config):
    net, signals, labels = fitted(config)
    with_zeros, with_nans = signals.clone(), signals.clone()
    with_zeros[:, :, 25:], with_nans[:, :, 25:] = 0.0, torch.nan
    assert torch.equal(net(with_nans), net(with_zeros))
    nets = [config.fit(each, labels, 3, 0) for each in (with_zeros, with_nans)]
    assert torch.equal(nets[0](signals), nets[1](signals))


def test_gaps_are_bridged_as_numpy_interpolates_and_ends_are_zero():
    generator = torch.Generator().manual_seed(0)
    signals = torch.randn(8, 2, 20, generator=generator)
    signals[torch.rand(8, 2, 20, generator=generator) < 0.6] = torch.nan
    for found, signal in zip(
        without_gaps(signals).flatten(0, 1), signals.flatten(0, 1).numpy(), strict=True
    ):
        steps = np.flatnonzero(~np.isnan(signal))
        expected = np.interp(np.arange(20), steps, signal[steps], left=0, right=0)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_a_channel_without_any_value_is_zero():
    assert not without_gaps(torch.full((1, 1, 5), torch.nan)).any()


@pytest.mark.parametrize("t", [1, 2, 3, 8, 9, 10, 17])
@every_net
def test_signals_of_any_length_are_taken(config, t):
    net, signals, _ = fitted(config, t=t)
    assert net(signals).isfinite().all()


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@every_net
def test_fewer_rows_than_two_for_each_class_give_finite_probabilities(config, n):
    net, signals, _ = fitted(config, n=n, k=3)
    assert net(signals).softmax(1).isfinite().all()


@every_net
def test_a_class_without_training_rows_stays_improbable(config):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2 * 2  # none of class 1
    signals = torch.randn(60, 1, 32, generator=generator) + labels[:, None, None]
    probs = config.fit(signals, labels, 4, 0)(signals).softmax(1)
    assert probs.shape == (60, 4)
    assert probs[:, [1, 3]].max() < 0.1


@every_net
def test_constant_signals_are_taken(config):
    labels = torch.arange(20) % 2
    assert config.fit(torch.ones(20, 1, 32), labels, 2, 0)(torch.ones(1, 1, 32)).isfinite().all()


def test_options_that_a_fitted_net_would_not_heed_are_refused():
    tables = {
        "net": {"name": "rocket"},
        "train": {"n_epochs": 2, "lr": 0.1},
        "augment": {"noise": 0.1},
        "refit": {"n_epochs": 3},
    }
    with pytest.raises(InputError) as caught:
        validate(Config, tables, "config.toml")
    message = str(caught.value)
    assert "net 'rocket' is fitted, not trained in steps" in message
    for key in ("train.n_epochs must be 1", "train.lr must be", "augment.noise", "refit.n_epochs"):
        assert key in message
