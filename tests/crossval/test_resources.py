import pytest
import torch

from hbcomp.crossval.resources import (
    MEMORY_SHARE,
    MOST_TOGETHER,
    WORKER_SECONDS,
    Work,
    fastest,
    fewest_seconds,
    most_together,
    seconds_per_step,
)
from hbcomp.data.synthetic import make_beats
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.loader import put_beats
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Member, Recipe


@pytest.mark.parametrize(
    ("seconds_of_one", "expected"),
    # 8 nets one by one, or 4 at once in 2 rounds that crowding makes a tenth longer.
    [(WORKER_SECONDS / 10, 1), (WORKER_SECONDS / 5, 4), (WORKER_SECONDS * 10, 4)],
)
def test_nets_train_at_once_where_that_saves_more_than_workers_take_to_start(
    seconds_of_one, expected
):
    assert fewest_seconds(Work(8, n_steps=100), 4, seconds_of_one / 100) == expected


def test_nets_at_once_stay_within_their_share_of_memory():
    for free in (0, 10, 999, 10_000):
        n = most_together(10, bytes_of_one=100, bytes_free=free)
        assert 1 <= n <= 10
        assert n == 1 or n * 100 <= free * MEMORY_SHARE
    assert most_together(99, bytes_of_one=0, bytes_free=1) == 1
    assert most_together(99, bytes_of_one=1, bytes_free=10**9) == MOST_TOGETHER


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 5: 2.5}, 5),
        ({1: 1.0, 5: 4.9}, 1),  # 2 % are no gain
    ],
)
def test_the_number_of_nets_with_the_most_steps_per_second_is_taken(seconds, expected):
    chosen, gain = fastest(seconds)
    assert chosen == expected
    assert gain == pytest.approx(chosen * seconds[1] / seconds[chosen])


def test_a_pilot_leaves_no_trace_in_the_training_to_come(monkeypatch):
    monkeypatch.setattr("hbcomp.crossval.resources.MIN_SECONDS", 0.01)
    dataset = make_beats(n=32, t=16)
    beats = put_beats(dataset.signals, dataset.known_labels, "cpu")
    recipe = Recipe(
        ResNetConfig(widths=(4,), strides=(2,)), TrainConfig(batch_size=8), AugmentConfig()
    )
    members = [Member(torch.arange(32), (0, fold)) for fold in (0, 1)]
    before, rng = beats.signals.clone(), torch.get_rng_state()
    compute = Compute("cpu", "fp32", 1, "tests", n_together=2)
    assert seconds_per_step(recipe, beats, members, compute) > 0
    assert torch.equal(before, beats.signals)
    assert torch.equal(rng, torch.get_rng_state())
