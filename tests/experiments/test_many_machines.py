"""The calculated duration of runs on many machines."""

from dataclasses import replace

import pytest
from scale import WORKERS, Costs, copies, seconds

COSTS = Costs(begin=5, rows=100, bandwidth=50, first=2, fold=60, fold_bytes=25, store=0.25, end=3)


def test_one_worker_does_everything_one_after_the_other():
    # Through the scheduler: two copies. The bytes of all folds but the last come back meanwhile.
    assert seconds(COSTS, 10, 1) == 5 + 2 * 2 + 2 + 10 * 60 + 0.5 + 0.25 + 3


def test_folds_are_trained_in_rounds_of_all_workers():
    took = {n: seconds(replace(COSTS, store=0, fold_bytes=0), 10, n) for n in (4, 5, 9, 10)}
    sent = {n: copies(n, is_one_machine=False) * 2 for n in took}
    assert {n: took[n] - sent[n] - 10 for n in took} == {4: 180, 5: 120, 9: 120, 10: 60}


def test_workers_beyond_the_folds_are_no_use():
    assert seconds(COSTS, 10, 64) >= seconds(COSTS, 10, 10)


@pytest.mark.parametrize("n_workers", WORKERS)
def test_no_number_of_workers_is_faster_than_the_caller_can_store(n_workers):
    slow = replace(COSTS, store=100.0)
    assert seconds(slow, 20, n_workers) >= 20 * 100


@pytest.mark.parametrize("n_workers", WORKERS)
def test_workers_never_give_more_than_their_number(n_workers):
    assert seconds(COSTS, 320, n_workers) * n_workers >= seconds(COSTS, 320, 1)


def test_each_round_of_copies_triples_the_workers_that_have_the_rows():
    numbers = [copies(n, is_one_machine=False) for n in (1, 2, 3, 4, 9, 10, 27, 28)]
    assert numbers == [2, 4, 4, 6, 6, 8, 8, 10]


def test_workers_that_share_cores_are_as_slow_as_the_cores():
    shared = replace(COSTS, n_cores=2, rows=0, first=0, store=0, fold_bytes=0)
    assert seconds(shared, 8, 4) == seconds(shared, 8, 2)
