"""Nets that train at the same time train as they would alone."""

import pytest
import torch

from hbcomp.data.synthetic import make_rows
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.loader import put_on_device
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import train_epochs

CPU = Compute("cpu", "fp32", 1, "tests")
NET = ResNetConfig(widths=(4, 8), strides=(1, 2), hidden=8)


def recipe(net=NET, **train):
    keys = {"n_epochs": 2, "batch_size": 8, "lr": 1e-3, **train}
    return Recipe(net, TrainConfig(**keys), AugmentConfig(scale=0.1, noise=0.01, shift=2))


@pytest.fixture(scope="module")
def beats():
    dataset = make_rows(n=48, t=16, k=3)
    return put_on_device(dataset.signals, dataset.known_labels, "cpu")


@pytest.fixture
def members():
    return [Replica(torch.arange(48)[torch.arange(48) % 3 != fold], (7, fold)) for fold in range(3)]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_nets_trained_at_once_have_the_bits_of_nets_alone(beats, members, dropout):
    a_recipe = recipe(NET.model_copy(update={"dropout": dropout}), ema_decay=0.9)
    *_, beside = train_epochs(a_recipe, beats, members, CPU)
    for member, ours in zip(members, beside, strict=True):
        *_, (alone,) = train_epochs(a_recipe, beats, [member], CPU)
        assert ours.loss == alone.loss
        for name, tensor in alone.net.state_dict().items():
            assert torch.equal(ours.net.state_dict()[name], tensor)


def test_nets_trained_at_once_may_differ_in_steps(beats):
    rows = [torch.arange(16), torch.arange(40)]
    members = [Replica(train_idx, (0, fold)) for fold, train_idx in enumerate(rows)]
    *_, beside = train_epochs(recipe(), beats, members, CPU)
    for member, ours in zip(members, beside, strict=True):
        *_, (alone,) = train_epochs(recipe(), beats, [member], CPU)
        assert ours.loss == alone.loss


def test_nets_trained_at_once_may_differ_in_epochs(beats):
    rows = [torch.arange(16), torch.arange(40)]
    members = [Replica(train_idx, (0, fold)) for fold, train_idx in enumerate(rows)]
    a_recipe = recipe(min_steps=15)
    last = {
        epoch.position: epoch
        for epochs in train_epochs(a_recipe, beats, members, CPU)
        for epoch in epochs
    }
    assert [last[position].epoch for position in (0, 1)] == [8, 3]  # of 2 and of 5 steps
    for member, ours in zip(members, last.values(), strict=True):
        *_, (alone,) = train_epochs(a_recipe, beats, [member], CPU)
        assert ours.loss == alone.loss
        assert ours.lr == alone.lr
