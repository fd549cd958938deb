"""Which test rows are pseudo-labelled, and that a net is taught exactly those."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.data.synthetic import make_rows
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.loader import put_on_device
from hbcomp.training.optim import TrainConfig
from hbcomp.training.pseudo import PseudoConfig, pseudo_labels, select
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import train_epochs

CPU = Compute("cpu", "fp32", 1, "tests")
RECIPE = Recipe(
    ResNetConfig(widths=(4, 8), strides=(1, 2)),
    TrainConfig(n_epochs=2, batch_size=8),
    AugmentConfig(),
)
N_TRAIN, N_TEST = 32, 16


def some_probs(seed, n_sources=2, n=30, k=3):
    return list(np.random.default_rng(seed).dirichlet(np.full(k, 0.2), size=(n_sources, n)))


@given(seed=st.integers(0, 10**6), n_sources=st.integers(1, 4), min_prob=st.floats(0.51, 1.0))
def test_a_row_is_taken_where_every_source_is_sure_of_the_same_class(seed, n_sources, min_prob):
    probs = some_probs(seed, n_sources)
    expected = [
        (row, label, min(each[row, label] for each in probs))
        for row in range(30)
        for label in range(3)
        if all(each[row, label] >= min_prob for each in probs)
    ]
    rows = select(probs, min_prob)
    taken = zip(rows.test_idx.tolist(), rows.labels.tolist(), rows.probs.tolist(), strict=True)
    assert list(taken) == expected


@given(seed=st.integers(0, 10**6))
def test_the_order_of_the_sources_changes_no_row(seed):
    probs = some_probs(seed, n_sources=3)
    rows, turned = select(probs, 0.6), select(probs[::-1], 0.6)
    for name in ("test_idx", "labels", "probs", "agreement"):
        assert np.array_equal(getattr(rows, name), getattr(turned, name))


def test_agreement_is_the_share_of_rows_all_sources_call_alike_whatever_their_doubt():
    one = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    other = np.array([[0.4, 0.6], [0.8, 0.2], [0.1, 0.9], [0.1, 0.9]])
    rows = select([one, other], 0.8)
    assert rows.agreement == 0.75
    assert rows.numbers(n_classes=3) == {"n_rows": 2, "by_class": (1, 1, 0), "agreement": 0.75}
    assert select([one], 0.8).agreement is None


def test_probabilities_that_change_no_row_still_change_the_fingerprint():
    probs = some_probs(0)
    moved = [probs[0], probs[1].copy()]
    moved[1][0] = np.nextafter(moved[1][0], 0)
    one, other = (pseudo_labels({(0, 0): each, (1, 0): probs}, 0.9) for each in (probs, moved))
    assert np.array_equal(one.of_fold[0, 0].test_idx, other.of_fold[0, 0].test_idx)
    assert one.fingerprint(0) != other.fingerprint(0)
    assert one.fingerprint(1) == other.fingerprint(1)
    assert one.of_all.fingerprint != other.of_all.fingerprint


def test_a_net_that_holds_nothing_out_learns_from_the_mean_over_all_folds():
    folds = {(0, fold): some_probs(fold) for fold in range(3)}
    means = [np.mean([folds[key][source] for key in folds], axis=0) for source in range(2)]
    ours, expected = pseudo_labels(folds, 0.55).of_all, select(means, 0.55)
    assert len(expected.test_idx)
    assert ours.test_idx.tolist() == expected.test_idx.tolist()
    assert ours.labels.tolist() == expected.labels.tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runs": ["a", "b", "a"]}, "runs must be unique, but got ['a', 'b', 'a']"),
        ({"min_prob": 0.5}, "min_prob: Input should be greater than 0.5"),
        ({"min_prob": 1.01}, "min_prob: Input should be less than or equal to 1"),
    ],
)
def test_a_configuration_without_sense_is_refused(values, message):
    with pytest.raises(InputError) as error:
        validate(PseudoConfig, values, "here")
    assert message in str(error.value)


@pytest.fixture
def train():
    return make_rows(n=N_TRAIN, t=16, k=3)


@pytest.fixture
def beats(train):
    test = make_rows(n=N_TEST, t=16, k=3, seed=1)
    return put_on_device(
        train.signals, train.known_labels, "cpu", test.signals, trains_on_test=True
    )


def last(beats, members):
    *_, epochs = train_epochs(RECIPE, beats, members, CPU)
    return epochs


def same_weights(first, second):
    ours, theirs = first.net.state_dict(), second.net.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_unlabelled_beats_that_nobody_takes_change_no_bit(train, beats):
    member = Replica(torch.arange(N_TRAIN), (0, 0))
    without = put_on_device(train.signals, train.known_labels, "cpu")
    assert same_weights(*last(without, [member]), *last(beats, [member]))


def test_pseudo_labels_teach_what_the_same_labels_of_the_beats_would(beats):
    rows = torch.arange(4, N_TRAIN + 8)
    labels = torch.arange(len(rows)) % 3
    labelled = replace(beats, labels=beats.labels.index_copy(0, rows, labels))
    taught = last(beats, [Replica(rows, (0, 0), labels)])
    assert same_weights(*taught, *last(labelled, [Replica(rows, (0, 0))]))
    others = last(beats, [Replica(rows, (0, 0), (labels + 1) % 3)])
    assert not same_weights(*taught, *others)


def test_nets_beside_each_other_each_learn_their_own_labels(beats):
    rows = torch.arange(N_TRAIN + N_TEST)
    members = [
        Replica(rows, (0, 0), torch.arange(len(rows)) % 3),
        Replica(rows, (0, 0), (torch.arange(len(rows)) + 1) % 3),
        Replica(rows, (0, 0), torch.cat([beats.labels[:N_TRAIN], torch.ones(N_TEST).long()])),
    ]
    for member, ours in zip(members, last(beats, members), strict=True):
        (alone,) = last(beats, [member])
        assert ours.loss == pytest.approx(alone.loss, rel=1e-4)
    losses = [epoch.loss for epoch in last(beats, members)]
    assert min(abs(losses[a] - losses[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_a_row_that_nobody_labelled_cannot_be_learned(beats):
    with pytest.raises(IndexError, match="out of bounds"):
        last(beats, [Replica(torch.arange(N_TRAIN + 1), (0, 0))])
