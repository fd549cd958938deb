import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from hbcomp.training.optim import (
    Linear,
    OneCycle,
    StepDecay,
    TrainConfig,
    averaged_weights,
    lr_at,
    make_optimizer,
)


def rates_of(n_steps, **keys):
    config = TrainConfig(**keys)
    return [lr_at(config, step, n_steps) for step in range(n_steps)]


def test_step_decay_is_torchs_step_lr():
    # 3 steps an epoch, decays every 2 epochs, as the reference's StepLR(100, 0.5) on its scale.
    config = TrainConfig(schedule=StepDecay(every=2, gamma=0.5), lr=1e-4, n_epochs=6)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=1e-4)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    for epoch in range(6):
        for step in range(3):
            assert lr_at(config, epoch * 3 + step, 18) == theirs.get_last_lr()[0]
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("kind", [OneCycle, Linear])
def test_warm_up_rises_to_the_peak_and_then_falls_towards_zero(kind):
    rates = rates_of(100, schedule=kind(warmup=0.25), lr=1.0)
    peak = rates.index(max(rates))
    assert peak == 25
    assert rates[peak] == pytest.approx(1.0)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < 0.02


def test_the_linear_schedule_is_two_straight_lines():
    rates = rates_of(60, schedule=Linear(warmup=0.5), lr=1.0)
    for side in (rates[:30], rates[30:]):
        steps = {round(after - before, 9) for before, after in pairwise(side)}
        assert len(steps) == 1


def test_without_warm_up_the_first_step_has_the_peak():
    assert rates_of(10, schedule=OneCycle(warmup=0.0), lr=0.3)[0] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "schedule",
    [
        {"kind": "step", "warmup": 0.1},
        {"kind": "one-cycle", "gamma": 0.1},
        {"kind": "linear", "every": 3},
        {"kind": "cosine"},
    ],
)
def test_a_schedule_refuses_the_options_of_another(schedule):
    with pytest.raises(ValidationError):
        TrainConfig.model_validate({"schedule": schedule})


def test_norms_and_biases_have_no_weight_decay():
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.Flatten(), nn.Linear(4, 2))
    decayed, free = make_optimizer(net, TrainConfig(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert {p.ndim for p in free["params"]} == {1}
    assert len(decayed["params"]) + len(free["params"]) == len(list(net.parameters()))


def test_the_average_follows_the_weights_and_the_buffers():
    net = nn.BatchNorm1d(2)
    average = averaged_weights(net, decay=0.9)
    expected_weight, expected_mean = None, None
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        with torch.no_grad():
            net.weight.copy_(torch.rand(2, generator=generator))
        net(torch.rand(8, 2, generator=generator))
        average.update_parameters(net)
        share = 0.0 if step == 0 else min(0.9, (1 + step) / (10 + step))
        if step == 0:
            expected_weight, expected_mean = net.weight.detach().clone(), net.running_mean.clone()
        else:
            expected_weight = share * expected_weight + (1 - share) * net.weight.detach()
            expected_mean = share * expected_mean + (1 - share) * net.running_mean
    torch.testing.assert_close(average.module.weight.detach(), expected_weight)
    torch.testing.assert_close(average.module.running_mean, expected_mean)
    assert not math.isnan(average.module.num_batches_tracked.item())
