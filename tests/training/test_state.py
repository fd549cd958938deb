"""Nets stacked into one train as they would alone."""

from dataclasses import replace
from statistics import median

import pytest
import torch

from hbcomp.data.synthetic import make_beats
from hbcomp.nets.attention import AttentionConfig
from hbcomp.nets.dilated import DilatedConfig
from hbcomp.nets.inception import InceptionConfig
from hbcomp.nets.linear import LinearConfig
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.registry import NETS
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.wide import WideConfig
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.engine import train_epochs
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import put_beats
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Member, Recipe, make_state
from hbcomp.training.step import train_step

CPU = Compute("cpu", "fp32", 1, "tests")
STACKED = replace(CPU, layout="stacked", n_together=3)
NET = {
    "linear": LinearConfig(),
    "resnet": ResNetConfig(widths=(4, 8), strides=(1, 2), hidden=8),
    "reference": ReferenceConfig(),
    "wide": WideConfig(widths=(4, 8), kernels=(5, 3), hidden=8),
    "inception": InceptionConfig(n_groups=1, width=4, kernels=(5, 3), hidden=8),
    "dilated": DilatedConfig(width=8, dilations=(1, 2), hidden=8),
    "attention": AttentionConfig(widths=(4, 8), n_layers=1, n_heads=2, hidden=8),
}


def recipe(net="resnet", **train):
    keys = {"n_epochs": 2, "batch_size": 8, "lr": 1e-3, **train}
    return Recipe(NET[net], TrainConfig(**keys), AugmentConfig(scale=0.1, noise=0.01, shift=2))


@pytest.fixture(scope="module")
def beats():
    dataset = make_beats(n=48, t=16, k=3)
    return put_beats(dataset.signals, dataset.known_labels, "cpu")


@pytest.fixture
def members():
    return [Member(torch.arange(48)[torch.arange(48) % 3 != fold], (7, fold)) for fold in range(3)]


def distance(ours, theirs):
    """Return the length of the difference over the length of `theirs`, all tensors as one."""
    ours, theirs = (torch.cat([each.flatten() for each in side]) for side in (ours, theirs))
    return ((ours - theirs).norm() / theirs.norm()).item()


def gradients(state, position=None):
    """Return those of a net alone, or of one member of a stack."""
    tensors = [each.grad for each in state.weights.tensors if each.requires_grad]
    return tensors if position is None else [tensor[position] for tensor in tensors]


def after_one_step(a_recipe, beats, members, precision):
    compute = replace(CPU, precision=precision)
    state = make_state(a_recipe, beats, members, compute)
    state.begin(1)
    train_step(state, a_recipe, beats, compute)
    return state


@pytest.fixture
def _without_dropout(monkeypatch):
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda _self, features: features)


def test_every_net_of_the_registry_is_stacked_here():
    assert set(NET) == set(NETS)


@pytest.mark.parametrize("net", NET)
@pytest.mark.usefixtures("_without_dropout")
def test_a_stacked_step_equals_the_steps_of_its_members(beats, members, net):
    a_recipe = recipe(net)
    stack = after_one_step(a_recipe, beats, members, "fp32")
    for position, member in enumerate(members):
        alone = after_one_step(a_recipe, beats, [member], "fp32")
        assert torch.equal(stack.order[:, position], alone.order[:, 0])
        torch.testing.assert_close(stack.loss_sum[position], alone.loss_sum[0])
        assert distance(gradients(stack, position), gradients(alone)) < 1e-4
        buffers = stack.weights.nets[position].buffers(), alone.weights.nets[0].buffers()
        for ours, theirs in zip(*buffers, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("net", NET)
@pytest.mark.usefixtures("_without_dropout")
def test_a_stack_in_bf16_is_as_close_to_fp32_as_autocast_is(beats, members, net):
    a_recipe = recipe(net)
    stack = after_one_step(a_recipe, beats, members, "bf16")
    stacked_errors, errors = [], []
    for position, member in enumerate(members):
        exact = gradients(after_one_step(a_recipe, beats, [member], "fp32"))
        autocast = gradients(after_one_step(a_recipe, beats, [member], "bf16"))
        stacked_errors.append(distance(gradients(stack, position), exact))
        errors.append(distance(autocast, exact))
    # Of one member, rounding may flip a maximum in one of the two and change all its gradient.
    assert 0 < median(stacked_errors) < 1.5 * median(errors)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_stacked_training_stays_close_to_training_alone(beats, members, ema_decay):
    a_recipe = recipe(ema_decay=ema_decay)
    *_, stacked = train_epochs(a_recipe, beats, members, STACKED)
    for member, ours in zip(members, stacked, strict=True):
        *_, (alone,) = train_epochs(a_recipe, beats, [member], CPU)
        assert ours.loss == pytest.approx(alone.loss, rel=1e-3)
        probs = [predict_probs(each.net, beats.signals, CPU) for each in (ours, alone)]
        assert probs[0] == pytest.approx(probs[1], abs=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_nets_in_streams_have_the_bits_of_nets_alone(beats, members, dropout):
    net = NET["resnet"].model_copy(update={"dropout": dropout})
    a_recipe = replace(recipe(ema_decay=0.9), net=net)
    *_, beside = train_epochs(a_recipe, beats, members, CPU)
    for member, ours in zip(members, beside, strict=True):
        *_, (alone,) = train_epochs(a_recipe, beats, [member], CPU)
        assert ours.loss == alone.loss
        for name, tensor in alone.net.state_dict().items():
            assert torch.equal(ours.net.state_dict()[name], tensor)


def test_members_in_streams_may_differ_in_steps(beats):
    rows = [torch.arange(16), torch.arange(40)]
    members = [Member(train_idx, (0, fold)) for fold, train_idx in enumerate(rows)]
    *_, beside = train_epochs(recipe(), beats, members, CPU)
    for member, ours in zip(members, beside, strict=True):
        *_, (alone,) = train_epochs(recipe(), beats, [member], CPU)
        assert ours.loss == alone.loss


def test_stacked_members_drop_different_units(beats):
    net = NET["resnet"].model_copy(update={"dropout": 0.5})
    twins = [Member(torch.arange(48), (0, 0)), Member(torch.arange(48), (0, 0))]
    *_, epochs = train_epochs(replace(recipe(), net=net), beats, twins, STACKED)
    assert epochs[0].loss != epochs[1].loss
    *_, epochs = train_epochs(recipe(), beats, twins, STACKED)
    assert epochs[0].loss == pytest.approx(epochs[1].loss, rel=1e-4)


def test_a_stack_of_unequal_steps_is_a_bug(beats):
    rows = [torch.arange(16), torch.arange(40)]
    members = [Member(train_idx, (0, 0)) for train_idx in rows]
    with pytest.raises(AssertionError, match="members of a stack differ in steps"):
        make_state(recipe(), beats, members, CPU)


def test_batches_of_all_rows_stack_only_where_they_are_equally_long():
    shapes = [Member(torch.arange(n), (0, 0)).shape(256) for n in (100, 101, 256, 600)]
    assert shapes == [(1, 100), (1, 101), (1, 256), (2, 256)]
