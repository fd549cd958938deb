import numpy as np
import pytest
import torch

from hbcomp.data.synthetic import make_beats
from hbcomp.errors import InputError
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute, ComputeConfig, choose_compute
from hbcomp.training.engine import DivergedError, Recipe, train_epochs
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import batches, n_batches, put_beats
from hbcomp.training.optim import StepDecay, TrainConfig

CPU = Compute("cpu", "fp32", 1, "tests")
TINY = ResNetConfig(widths=(4, 8), strides=(1, 2))


def recipe(net=TINY, augment=None, **train):
    keys = {"n_epochs": 2, "batch_size": 8, "lr": 1e-2, **train}
    return Recipe(net, TrainConfig(**keys), augment or AugmentConfig())


@pytest.fixture
def beats():
    dataset = make_beats(n=48, t=32, k=3)
    return put_beats(dataset.signals, dataset.known_labels, "cpu")


def last_net(a_recipe, beats, train_idx=None, seed=(0, 0)):
    rows = torch.arange(len(beats.labels)) if train_idx is None else train_idx
    *_, last = train_epochs(a_recipe, beats, rows, seed, CPU)
    return last.net


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
    with torch.random.fork_rng():
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
    for epoch in train_epochs(a_recipe, beats, torch.arange(48), (0, 0), CPU):
        predict_probs(epoch.net, beats.signals, CPU)
        watched = epoch.net
    assert same_weights(watched, last_net(a_recipe, beats))


def test_the_loss_falls_and_the_epochs_are_counted(beats):
    epochs = list(train_epochs(recipe(n_epochs=15), beats, torch.arange(48), (0, 0), CPU))
    assert [epoch.epoch for epoch in epochs] == list(range(1, 16))
    assert epochs[-1].loss < epochs[0].loss / 2
    assert all(epoch.seconds > 0 for epoch in epochs)


def test_a_diverging_loss_names_the_epoch_and_the_remedy(beats):
    beats.signals[:] = float("inf")
    with pytest.raises(DivergedError, match=r"epoch 1: the loss must be finite, but is nan; try"):
        last_net(recipe(), beats)


def test_the_reference_net_trains(beats):
    probs = predict_probs(
        last_net(recipe(net=ReferenceConfig(), n_epochs=1), beats), beats.signals, CPU
    )
    assert probs.shape == (48, 3)


def test_bf16_training_stays_close_to_fp32(beats):
    rows = torch.arange(48)
    *_, full = train_epochs(recipe(), beats, rows, (0, 0), CPU)
    half = Compute("cpu", "bf16", 1, "tests")
    *_, short = train_epochs(recipe(), beats, rows, (0, 0), half)
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


def test_an_epoch_takes_every_row_at_most_once_in_whole_batches():
    rows = torch.arange(100, 130)
    taken = list(batches(rows, 8, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in taken] == [8] * n_batches(30, 8)
    seen = torch.cat(taken).tolist()
    assert len(set(seen)) == len(seen) == 24
    assert set(seen) <= set(rows.tolist())


def test_fewer_rows_than_a_batch_make_one_batch_of_all():
    (batch,) = batches(torch.arange(5), 8, torch.Generator().manual_seed(0))
    assert sorted(batch.tolist()) == [0, 1, 2, 3, 4]


def test_beats_on_the_device_do_not_share_memory_with_the_data_set():
    dataset = make_beats(n=16, t=8)
    before = dataset.signals.copy()
    put_beats(dataset.signals, dataset.known_labels, "cpu").signals.zero_()
    np.testing.assert_array_equal(dataset.signals, before)


def test_the_device_is_chosen_with_a_reason():
    compute = choose_compute(ComputeConfig(device="cpu"), is_compute_bound=False, n_jobs=1)
    assert (compute.device, compute.precision) == ("cpu", "fp32")
    assert compute.reason == "asked for; fp32, as bf16 does not pay for this net on this cpu"


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_cpu_computes_bf16_only_with_the_instructions_and_a_net_that_gains(monkeypatch, has_bf16):
    monkeypatch.setattr("hbcomp.training.device._cpu_has_bf16", lambda: has_bf16)
    for bound in (True, False):
        chosen = choose_compute(ComputeConfig(device="cpu"), is_compute_bound=bound)
        assert chosen.precision == ("bf16" if has_bf16 and bound else "fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_named_precision_is_taken(precision):
    config = ComputeConfig(device="cpu", precision=precision)
    assert choose_compute(config, is_compute_bound=False).precision == precision


def test_threads_are_shared_among_the_jobs(monkeypatch):
    monkeypatch.setattr("hbcomp.training.device.n_cores", lambda: 8)
    for n_jobs, expected in [(1, 8), (2, 4), (5, 1), (16, 1)]:
        config = ComputeConfig(device="cpu")
        assert choose_compute(config, is_compute_bound=False, n_jobs=n_jobs).n_threads == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_missing_gpu_that_was_named_is_an_error(device):
    with pytest.raises(InputError, match=f"'{device}' was asked for, but torch finds no such"):
        choose_compute(ComputeConfig(device=device), is_compute_bound=False)
