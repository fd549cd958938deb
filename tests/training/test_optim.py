from itertools import pairwise
from unittest.mock import ANY

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from hbcomp.training.loader import n_batches
from hbcomp.training.optim import (
    MIN_BATCH,
    Average,
    Linear,
    OneCycle,
    StepDecay,
    TrainConfig,
    ema_table,
    has_decay,
    lr_at,
    lr_table,
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
    decays = {name: has_decay(parameter) for name, parameter in net.named_parameters()}
    assert {name for name, each in decays.items() if each} == {"0.weight", "3.weight"}


def test_the_table_of_rates_is_the_schedule_epoch_by_epoch():
    config = TrainConfig(n_epochs=3, lr=0.1)
    table = lr_table(config, n_steps=4)
    assert table.shape == (3, 4)
    np.testing.assert_allclose(table.ravel(), [lr_at(config, step, 12) for step in range(12)])


def test_the_average_starts_at_the_weights_and_slows_down_to_its_decay():
    shares = ema_table(TrainConfig(n_epochs=2, ema_decay=0.9), n_steps=200).ravel()
    assert shares[0] == 1
    assert (np.diff(shares) <= 0).all()
    assert shares[-1] == pytest.approx(0.1)


def test_an_average_is_torchs_own_at_a_constant_decay():
    generator = torch.Generator().manual_seed(0)
    net = nn.Linear(2, 2)
    theirs = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    ours = Average(list(net.parameters()), [p.detach().clone() for p in net.parameters()])
    for step in range(5):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator))
        theirs.update_parameters(net)
        ours.update(torch.tensor(1.0 if step == 0 else 0.1))
    for own, expected in zip(ours.targets, theirs.module.parameters(), strict=True):
        torch.testing.assert_close(own, expected.detach())


@pytest.mark.parametrize("min_steps", [0, 1, 500, 1500])
@pytest.mark.parametrize("batch_size", [2, 16, 64, 256, 1024])
def test_a_schedule_fits_any_number_of_rows(batch_size, min_steps):
    config = TrainConfig(n_epochs=26, batch_size=batch_size, min_steps=min_steps)
    for n_rows in [*range(2, 700), 3_071, 3_072, 3_200, 80_000, 10**6]:
        schedule = config.for_rows(n_rows)
        order = torch.arange(n_rows)[: n_batches(n_rows, schedule.batch_size) * schedule.batch_size]
        n_steps = len(order) // schedule.batch_size
        assert len(order) == n_steps * schedule.batch_size  # every row of the allocation is used
        assert n_steps >= 1
        assert 2 <= schedule.batch_size <= min(batch_size, n_rows)
        is_least = schedule.batch_size <= MIN_BATCH
        assert n_steps >= config.min_steps_per_epoch or is_least
        assert config.n_steps(n_rows) == n_steps * schedule.n_epochs >= min_steps
        # Never an epoch too many.
        assert schedule.n_epochs == 26 or (schedule.n_epochs - 1) * n_steps < min_steps
        assert schedule.for_rows(n_rows) == schedule
        is_told = bool(config.deviations(n_rows))
        assert is_told == (schedule.n_epochs > 26 or schedule.batch_size < batch_size)


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "n_epochs"),
    [(24, 16, 1500), (160, 16, 150), (1600, 133, 125), (3200, 256, 125), (80_000, 256, 26)],
)
def test_few_rows_make_a_small_batch_and_more_epochs(n_rows, batch_size, n_epochs):
    schedule = TrainConfig(n_epochs=26, min_steps=1500).for_rows(n_rows)
    assert (schedule.batch_size, schedule.n_epochs) == (batch_size, n_epochs)


@pytest.mark.parametrize(
    ("n_rows", "expected"),
    [
        (
            304,
            [
                "batches of 25 rows instead of 256, because a net has 304 training rows",
                "125 epochs of 12 steps instead of 26, because train.min_steps asks for 1,500 "
                "steps",
            ],
        ),
        (
            16,
            [
                ANY,
                "1,500 epochs of 1 step instead of 26, because train.min_steps asks for 1,500 "
                "steps",
            ],
        ),
        (80_000, []),
    ],
)
def test_what_few_rows_change_is_said_in_words(n_rows, expected):
    assert TrainConfig(n_epochs=26, min_steps=1500).deviations(n_rows) == expected


def test_a_schedule_that_names_its_epochs_and_steps_has_them():
    config = TrainConfig(n_epochs=3, batch_size=50, min_steps_per_epoch=1)
    assert config.for_rows(60) == config
