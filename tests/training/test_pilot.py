import pytest
import torch

from hbcomp.data.synthetic import make_beats
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.loader import put_beats
from hbcomp.training.optim import TrainConfig
from hbcomp.training.pilot import (
    MEMORY_SHARE,
    MOST_TOGETHER,
    WORKER_SECONDS,
    Work,
    fastest,
    fewest_seconds,
    most_together,
    seconds_per_step,
)
from hbcomp.training.state import Member, Recipe


def jobs(n_nets, n_steps, alone, in_crowd, n_jobs=4):
    return fewest_seconds(
        Work(n_nets, n_steps), n_jobs, seconds_alone=alone, seconds_in_crowd=in_crowd
    )


@pytest.mark.parametrize(
    ("n_nets", "alone", "in_crowd", "expected"),
    [
        (8, 1.0, 2.0, 4),  # four cores make one net twice as fast: four nets at once win
        (8, 1.0, 4.5, 1),  # four cores make one net more than four times as fast: one by one
        (5, 1.0, 2.6, 1),  # the second round would leave three cores idle
        (4, 1.0, 2.0, 4),
        (8, 1.0, 3.8, 4),  # a draw: processes of one thread do not wait for each other
    ],
)
def test_folds_run_in_parallel_where_threads_do_not_help_enough(n_nets, alone, in_crowd, expected):
    assert jobs(n_nets, 1000, alone, in_crowd) == expected


def test_short_work_is_not_worth_starting_processes():
    assert jobs(8, 1, WORKER_SECONDS / 10, WORKER_SECONDS / 80) == 1


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
    monkeypatch.setattr("hbcomp.training.pilot.MIN_SECONDS", 0.01)
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
