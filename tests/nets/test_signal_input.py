"""The scale of signals against NumPy, from training rows alone, and the mask beside them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbcomp.nets.registry import build_net
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.signal_input import NetInput, Scale
from hbcomp.nets.signals import SignalsConfig
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.loader import put_on_device
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Recipe, Replica, make_state

CPU = Compute("cpu", "fp32", 1, "tests")
SCALES = ["none", "standardise", "per-row", "min-max"]
NET = ResNetConfig(widths=(4, 8), strides=(1, 2), hidden=8)


def signals_with_gaps(seed=0, n=20, c=3, t=16):
    """Return signals of channels in very different units, some values missing."""
    rng = np.random.default_rng(seed)
    units = 10.0 ** rng.integers(-3, 4, (c, 1))
    signals = (rng.normal(size=(n, c, t)) + rng.normal(0, 3, (c, 1))) * units
    signals[rng.random((n, c, t)) < 0.1] = np.nan
    signals[rng.integers(n), :, t // 2 :] = np.nan
    return signals.astype(np.float32)


def scaled(scale, signals, rows):
    module = Scale(SignalsConfig(scale=scale), signals.shape[1])
    module.fit(torch.tensor(signals), torch.tensor(rows))
    return module(torch.tensor(signals)).numpy()


def by_numpy(scale, signals, rows):
    values = signals.astype(np.float64)
    train = values[rows]
    if scale == "min-max":
        low, high = (f(train, axis=(0, 2))[:, None] for f in (np.nanmin, np.nanmax))
        return (values - low) / (high - low)
    if scale == "standardise":
        mean, deviation = (f(train, axis=(0, 2))[:, None] for f in (np.nanmean, np.nanstd))
        return (values - mean) / deviation
    if scale == "per-row":
        mean, deviation = (f(values, axis=2, keepdims=True) for f in (np.nanmean, np.nanstd))
        return (values - mean) / deviation
    return values


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_is_that_of_numpy_on_the_training_rows(scale, seed):
    signals, rows = signals_with_gaps(seed), np.arange(0, 20, 2)
    found = scaled(scale, signals, rows)
    np.testing.assert_allclose(found, by_numpy(scale, signals, rows), rtol=1e-3, atol=1e-3)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
@pytest.mark.parametrize("scale", SCALES)
def test_held_out_rows_have_no_influence_on_the_scale(scale, seed):
    rows, rng = np.arange(12), np.random.default_rng(seed)
    signals = signals_with_gaps(seed)
    other = signals.copy()
    other[12:] = rng.normal(0, 1e6, other[12:].shape)
    found = scaled(scale, signals, rows)[rows]
    np.testing.assert_array_equal(found, scaled(scale, other, rows)[rows])


@pytest.mark.parametrize("scale", SCALES)
def test_a_channel_that_does_not_vary_or_has_no_value_is_divided_by_1(scale):
    signals = np.full((4, 3, 8), 0.1, dtype=np.float32)
    signals[:, 1] = np.nan
    signals[:, 2] = 1e6
    found = scaled(scale, signals, np.arange(4))
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, [0, 2]]).all()
    if scale != "none":
        np.testing.assert_allclose(found[:, [0, 2]], 0, atol=1e-6)


def test_more_rows_than_are_looked_at_at_once_have_the_same_scale(monkeypatch):
    signals, rows = signals_with_gaps(), np.arange(19)
    whole = [scaled(scale, signals, rows) for scale in SCALES]
    monkeypatch.setattr("hbcomp.nets.signal_input.FIT_VALUES", 200)
    for scale, expected in zip(SCALES, whole, strict=True):
        np.testing.assert_allclose(scaled(scale, signals, rows), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "rest"), [(0, 1, 0), (-2, 2, 0.5), (1024, 1224, 0), (-9, -1, 1), (0, 8, 0)]
)
def test_an_amplitude_is_measured_from_zero_or_what_is_nearest_to_it(low, high, rest):
    scale = Scale(SignalsConfig(), 1)
    scale.fit(torch.tensor([[[low, high]]]).float(), torch.arange(1))
    assert scale.rest.item() == rest


def test_values_of_0_to_1_on_the_scale_min_max_are_stretched_to_what_they_always_were():
    signals = torch.rand(6, 1, 9, generator=torch.Generator().manual_seed(0))
    signals[0, 0, :2] = torch.tensor([0.0, 1.0])
    signals[:, :, 6:] = torch.nan
    scale = Scale(SignalsConfig(), 1)
    scale.fit(signals, torch.arange(6))
    found = NetInput(SignalsConfig(), has_mask=True)(scale(signals))
    assert torch.equal(found[:, :1], signals.nan_to_num(0.0) * 4 - 1)


def test_the_mask_is_1_where_any_channel_has_a_value():
    nan = torch.nan
    signals = torch.tensor([[[1.0, nan, nan, 0.0], [nan, 2.0, nan, 0.0]]])
    found = NetInput(SignalsConfig(scale="none"), has_mask=True)(signals)
    assert found.tolist() == [[[1, 0, 0, 0], [0, 2, 0, 0], [1, 1, 0, 1]]]


def test_the_input_of_a_net_is_channels_last_in_memory():
    found = NetInput(SignalsConfig(), has_mask=True)(torch.rand(4, 2, 8))[:, :, None]
    assert found.is_contiguous(memory_format=torch.channels_last)


def trained_state(signals, train_idx, ema_decay=0.0, scale="min-max"):
    data = put_on_device(signals, np.arange(len(signals)) % 2, "cpu")
    train = TrainConfig(n_epochs=1, batch_size=8, ema_decay=ema_decay)
    recipe = Recipe(NET, train, AugmentConfig(), SignalsConfig(scale=scale))
    return make_state(recipe, data, Replica(torch.tensor(train_idx), (0, 0)), CPU)


def test_recorder_counts_give_the_logits_of_the_same_values_in_0_to_1():
    signals = np.random.default_rng(0).random((20, 1, 24)).astype(np.float32)
    signals[:, :, 20:] = np.nan
    counts = signals * np.float32(200) + np.float32(1024)
    nets = [trained_state(each, np.arange(16)).net.eval() for each in (signals, counts)]
    logits = [net(torch.tensor(each)) for net, each in zip(nets, (signals, counts), strict=True)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-3, atol=1e-4)


def test_the_scale_is_stored_with_the_weights_and_in_their_average():
    signals = signals_with_gaps()
    state = trained_state(signals, np.arange(16), ema_decay=0.9)
    for net in (state.net, state.predictor):
        assert net.scale.unit.ne(1).all()
    again = build_net(NET, (3, 16), 2, 1, SignalsConfig())
    again.load_state_dict(state.predictor.state_dict(), strict=True)
    rows = torch.tensor(signals)
    assert torch.equal(again.eval()(rows), state.predictor.eval()(rows))


def test_a_net_on_features_takes_them_as_they_are():
    net = build_net(NET, (1, 16), 2, 0, None).eval()
    features = torch.rand(4, 1, 16)
    assert torch.equal(net(features), net.net(features))
