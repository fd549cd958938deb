import numpy as np
import pytest
import torch
from bench import loops, train
from bench.beats import tiled_beats
from bench.loops import FrameBeats, iloc_loop, tensor_loop
from bench.train import OURS, Window, common_rate, measure_net, ours

from hbcomp.data.synthetic import make_rows
from hbcomp.nets.registry import build_net
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.signals import SignalsConfig
from hbcomp.training import device
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import Compute
from hbcomp.training.loader import put_on_device
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Recipe

CPU = Compute("cpu", "fp32", 1, "tests")
TINY = ResNetConfig(widths=(4, 8), strides=(2, 2), hidden=8)
RECIPE = Recipe(TINY, TrainConfig(n_epochs=3, batch_size=16), AugmentConfig())


@pytest.fixture
def beats():
    dataset = make_rows(n=48, t=32, k=3)
    return put_on_device(dataset.signals, dataset.known_labels, "cpu")


def test_the_frame_holds_the_same_beats(beats):
    items = [FrameBeats(beats)[i] for i in range(48)]
    assert torch.equal(torch.stack([signal for signal, _ in items]), beats.signals)
    assert torch.equal(torch.stack([label for _, label in items]), beats.labels)


@pytest.mark.parametrize("make_loop", [iloc_loop, tensor_loop])
def test_the_plain_loops_train(make_loop, beats):
    net = build_net(TINY, (1, 32), 3, 0, SignalsConfig())
    before = [parameter.clone() for parameter in net.parameters()]
    assert make_loop(net, beats, 16)() > 0
    assert not any(map(torch.equal, before, net.parameters()))


def test_a_diverged_plain_loop_has_no_rate(beats):
    net = build_net(TINY, (1, 32), 3, 0, SignalsConfig())
    loop = tensor_loop(net, beats, 16)
    beats.signals[0] = float("inf")
    with pytest.raises(FloatingPointError, match="rate means nothing"):
        loop()


def test_ours_gives_a_rate_for_every_epoch(beats):
    rates = list(ours(RECIPE, beats, 1, CPU))
    assert len(rates) == 3
    assert min(rates) > 0


@pytest.mark.parametrize(
    ("windows", "rate"),
    [
        ([[Window(0.0, 10.0, 100)]], 10.0),
        ([[Window(0.0, 10.0, 100)], [Window(0.0, 10.0, 50)]], 15.0),
        # Only seconds 5 to 10 are common; half of each epoch lies in them.
        ([[Window(0.0, 10.0, 100)], [Window(5.0, 15.0, 200)]], 30.0),
        # The second worker's epoch before the common time does not count.
        ([[Window(4.0, 8.0, 40)], [Window(0.0, 4.0, 999), Window(4.0, 8.0, 40)]], 20.0),
    ],
)
def test_the_rate_of_workers_is_that_of_their_common_time(windows, rate):
    assert common_rate(windows) == pytest.approx(rate)


def test_workers_that_never_met_have_no_rate():
    with pytest.raises(RuntimeError, match="never trained at the same time"):
        common_rate([[Window(0.0, 1.0, 9)], [Window(2.0, 3.0, 9)]])


def test_tiled_beats_repeat_the_sample_without_duplicates():
    dataset = tiled_beats(8100)
    assert dataset.n_rows == len(np.unique(dataset.flat, axis=0)) == 8100
    assert np.array_equal(dataset.known_labels[:4000], dataset.known_labels[4000:8000])


def test_every_loop_of_a_net_is_measured_against_ours(monkeypatch):
    # One core: no worker processes, and no threads that wait for each other.
    for module in (train, loops, device):
        monkeypatch.setattr(module, "n_cores", lambda: 1)
    monkeypatch.setattr(train, "measure_ceilings", lambda _: train.Ceilings(1e9, 1e9))
    recipe = train.recipe_of("resnet")
    found = measure_net(Recipe(TINY, recipe.train, recipe.augment), max_steps=2)
    ways = {OURS, "iloc loop, plain net", "tensor loop, plain net", "tensor loop, our net"}
    assert found["n_rows"] == 2 * 256
    assert ways <= set(found["rows_per_second"])
    assert set(found["rows_per_second"]) == set(found["roofline"]["per_cent"])
    assert found["ours_is_faster_by"][OURS] == {"median": 1.0, "low": 1.0, "high": 1.0, "n": 3}
    (table,) = train.tables({"resnet": found})
    assert len(table.rows) == len(found["rows_per_second"])


def test_a_worker_states_its_epochs_but_the_first(beats):
    windows = train.work(RECIPE, (beats.signals.numpy(), beats.labels.numpy()), CPU)
    assert [window.n_rows for window in windows] == [48, 48]
    assert all(window.start < window.end for window in windows)
