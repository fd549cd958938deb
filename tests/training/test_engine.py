from dataclasses import replace

import numpy as np
import pytest
import torch

from hbcomp.data.synthetic import make_rows
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.signals import SignalsConfig
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import draw_order, n_batches, put_on_device
from hbcomp.training.optim import StepDecay, TrainConfig
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import DivergedError, train_epochs

CPU = Compute("cpu", "fp32", 1, "tests")
TINY = ResNetConfig(widths=(4, 8), strides=(1, 2))


def recipe(net=TINY, augment=None, **train):
    keys = {"n_epochs": 2, "batch_size": 8, "lr": 1e-2, **train}
    return Recipe(net, TrainConfig(**keys), augment or AugmentConfig())


@pytest.fixture
def beats():
    dataset = make_rows(n=48, t=32, k=3)
    return put_on_device(dataset.signals, dataset.known_labels, "cpu")


def last_net(a_recipe, beats, train_idx=None, seed=(0, 0)):
    *_, last = epochs_alone(a_recipe, beats, train_idx, seed)
    return last.net


def epochs_alone(a_recipe, beats, train_idx=None, seed=(0, 0), compute=CPU):
    rows = torch.arange(len(beats.labels)) if train_idx is None else train_idx
    for (epoch,) in train_epochs(a_recipe, beats, [Replica(rows, seed)], compute):
        yield epoch


def same_weights(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "a_recipe",
    [
        recipe(),
        recipe(ema_decay=0.9),
        recipe(augment=AugmentConfig(scale=0.1, noise=0.01, shift=2)),
        recipe(net=TINY.model_copy(update={"dropout": 0.5})),
        recipe(optimizer="adam", schedule=StepDecay()),
    ],
    ids=["plain", "ema", "augment", "dropout", "adam-step"],
)
def test_the_same_seed_gives_the_same_bits(a_recipe, beats):
    assert same_weights(last_net(a_recipe, beats), last_net(a_recipe, beats))
    assert not same_weights(last_net(a_recipe, beats), last_net(a_recipe, beats, seed=(0, 1)))


def test_the_global_generator_is_neither_used_nor_moved(beats):
    a_recipe = recipe(net=TINY.model_copy(update={"dropout": 0.5}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = last_net(a_recipe, beats)
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(2)
        assert same_weights(first, last_net(a_recipe, beats))


def test_rows_outside_train_idx_do_not_influence_the_training(beats):
    train_idx = torch.arange(0, 32)
    first = last_net(recipe(), beats, train_idx)
    beats.signals[32:] = 9.0
    beats.labels[32:] = 0
    assert same_weights(first, last_net(recipe(), beats, train_idx))


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_predicting_between_epochs_does_not_influence_the_training(beats, ema_decay):
    a_recipe = recipe(ema_decay=ema_decay, n_epochs=3)
    watched = None
    for epoch in epochs_alone(a_recipe, beats):
        predict_probs(epoch.net, beats.signals, CPU)
        watched = epoch.net
    assert same_weights(watched, last_net(a_recipe, beats))


def test_the_loss_falls_and_the_epochs_are_counted(beats):
    epochs = list(epochs_alone(recipe(n_epochs=15), beats))
    assert [epoch.epoch for epoch in epochs] == list(range(1, 16))
    assert epochs[-1].loss < epochs[0].loss / 2
    assert all(epoch.seconds > 0 for epoch in epochs)


def test_a_diverging_loss_names_the_epoch_and_the_remedy(beats):
    beats.signals[:] = float("inf")
    as_they_are = replace(recipe(), signals=SignalsConfig(scale="none"))
    with pytest.raises(DivergedError, match=r"epoch 1: the loss must be finite, but is nan; try"):
        last_net(as_they_are, beats)


def test_the_reference_net_trains(beats):
    probs = predict_probs(
        last_net(recipe(net=ReferenceConfig(), n_epochs=1), beats), beats.signals, CPU
    )
    assert probs.shape == (48, 3)


def test_bf16_training_stays_close_to_fp32(beats):
    *_, full = epochs_alone(recipe(), beats)
    half = Compute("cpu", "bf16", 1, "tests")
    *_, short = epochs_alone(recipe(), beats, compute=half)
    assert short.loss == pytest.approx(full.loss, rel=0.1)
    probs = predict_probs(short.net, beats.signals, half)
    assert probs.dtype == np.float32
    assert probs.sum(axis=1) == pytest.approx(np.ones(48), abs=1e-5)


def test_prediction_equals_one_softmax_over_all_rows(beats, monkeypatch):
    monkeypatch.setattr("hbcomp.training.inference.BATCH_SIZE", 7)
    net = last_net(recipe(), beats)
    with torch.inference_mode():
        whole = net.eval()(beats.signals).softmax(dim=1).numpy()
    np.testing.assert_allclose(predict_probs(net, beats.signals, CPU), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("t", "expected"), [(64, [48]), (65, [48]), (640, [12] * 4)])
def test_fewer_long_signals_are_predicted_at_once(t, expected, monkeypatch):
    monkeypatch.setattr("hbcomp.training.inference.BATCH_SIZE", 120)
    monkeypatch.setattr("hbcomp.training.inference.WHOLE_VALUES", 64)
    seen = []

    class Counting(torch.nn.Module):
        def forward(self, signals):
            seen.append(len(signals))
            return signals[:, 0, :3]

    predict_probs(Counting(), torch.zeros(48, 1, t), CPU)
    assert seen == expected


def test_an_epoch_takes_every_row_at_most_once_in_whole_batches():
    rows = torch.arange(100, 130)
    taken = list(draw_order(rows, 8, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in taken] == [8] * n_batches(30, 8)
    seen = torch.cat(taken).tolist()
    assert len(set(seen)) == len(seen) == 24
    assert set(seen) <= set(rows.tolist())


def test_fewer_rows_than_a_batch_make_one_batch_of_all():
    (batch,) = draw_order(torch.arange(5), 8, torch.Generator().manual_seed(0))
    assert sorted(batch.tolist()) == [0, 1, 2, 3, 4]


def test_beats_on_the_device_do_not_share_memory_with_the_data_set():
    dataset = make_rows(n=16, t=8)
    before = dataset.signals.copy()
    put_on_device(dataset.signals, dataset.known_labels, "cpu").signals.zero_()
    np.testing.assert_array_equal(dataset.signals, before)
