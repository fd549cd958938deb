"""What a step asks of the device, counted by the profiler on whatever device there is."""

from collections import Counter

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from hbcomp.data.synthetic import make_rows
from hbcomp.nets.attention import AttentionConfig
from hbcomp.nets.dilated import DilatedConfig
from hbcomp.nets.inception import InceptionConfig
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import ComputeConfig, choose_compute, synchronize
from hbcomp.training.loader import put_on_device
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import N_EAGER_STEPS, drawing_from, make_steps, train_epochs

# Whatever makes the host wait for a device.
WAITS = {"aten::item", "aten::nonzero", "cudaStreamSynchronize", "cudaDeviceSynchronize"}
NETS = {
    "resnet": ResNetConfig(widths=(4, 8), strides=(1, 2)),
    "reference": ReferenceConfig(),
    "inception": InceptionConfig(n_groups=1, width=4, kernels=(5, 3), hidden=8),
    "dilated": DilatedConfig(width=4, dilations=(1, 2), hidden=8),
    "attention": AttentionConfig(widths=(4, 8), n_layers=1, n_heads=2, hidden=8),
}


def profiled(call):
    """Return all that began on the host during the call.

    The profiler itself waits for the device when it ends, which is not the call's doing.
    """
    on_cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with (
        profile(activities=[ProfilerActivity.CPU, *on_cuda], acc_events=True) as profiler,
        record_function("the call"),
    ):
        call()
    events = list(profiler.events())
    within = next(each.time_range for each in events if each.name == "the call")
    return [each for each in events if within.start <= each.time_range.start <= within.end]


def waits(events):
    """Return what made the host wait.

    Not inside the fused optimiser: on a CPU it reads its rate from the tensor, which is memory.
    """
    return [each.name for each in events if each.name in WAITS and not in_optimizer(each)]


def in_optimizer(event):
    while event is not None:
        if event.name.startswith("aten::_fused_adam"):
            return True
        event = event.cpu_parent
    return False


def launched(events):
    """Return how often each operation ran."""
    return Counter(each.name for each in events if each.name.startswith(("aten::", "cudaGraph")))


@pytest.fixture
def compute():
    chosen = choose_compute(ComputeConfig(precision="fp32", n_threads=1), is_compute_bound=False)
    chosen.enter()
    return chosen


@pytest.fixture
def beats(compute):
    dataset = make_rows(n=64, t=16, k=3)
    return put_on_device(dataset.signals, dataset.known_labels, compute.device)


def steps_of(net, beats, compute):
    recipe = Recipe(
        NETS[net],
        TrainConfig(n_epochs=2, batch_size=8, ema_decay=0.9),
        AugmentConfig(scale=0.1, noise=0.01, shift=2),
    )
    members = [Replica(torch.arange(64, device=beats.device), (0, 0))]
    (steps,) = make_steps(recipe, beats, members, compute)
    return steps


@pytest.mark.parametrize("net", NETS)
def test_no_step_makes_the_host_wait_and_all_steps_are_alike(net, beats, compute):
    steps = steps_of(net, beats, compute)
    steps.begin(1)
    for _ in range(N_EAGER_STEPS + 1):
        steps()
    synchronize(beats.device)
    one, two = [profiled(steps) for _ in range(2)]
    assert waits(one) == []
    assert launched(one) == launched(two)
    if compute.engine == "graph":
        # torch tells the graph where each random stream is: the noise's and that of dropout.
        fills = launched(one).pop("aten::fill_", 0)
        assert fills <= 2 * 2
        assert launched(one) - Counter({"aten::fill_": fills}) == {"cudaGraphLaunch": 1}


def test_a_step_launches_few_operations(beats, compute):
    steps = steps_of("resnet", beats, compute)
    steps.begin(1)
    for _ in range(N_EAGER_STEPS + 1):
        steps()
    counts = launched(profiled(steps))
    # 889 on a CPU when this was written, views and nested calls included; one graph on CUDA.
    assert counts.total() < 950


def test_an_epoch_waits_for_the_device_once_for_each_net(beats, compute):
    recipe = Recipe(NETS["resnet"], TrainConfig(n_epochs=3, batch_size=8), AugmentConfig())
    members = [Replica(torch.arange(64, device=beats.device), (0, fold)) for fold in (0, 1)]
    epochs = train_epochs(recipe, beats, members, compute)
    next(epochs)
    # On CUDA once more, for what all of them still have to do.
    assert len(waits(profiled(lambda: next(epochs)))) <= 2 * len(members) + 2


def test_the_default_generator_is_lent_and_given_back():
    own = torch.Generator().manual_seed(5)
    expected = torch.rand(4, generator=torch.Generator().manual_seed(5))
    before = torch.get_rng_state()
    with drawing_from(own):
        first = torch.rand(2)
    with drawing_from(own):
        second = torch.rand(2)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(torch.cat([first, second]), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA GPU")
@pytest.mark.parametrize("net", NETS)
def test_captured_steps_train_like_eager_ones(net, beats):
    recipe = Recipe(
        NETS[net], TrainConfig(n_epochs=2, batch_size=8), AugmentConfig(noise=0.01, shift=1)
    )
    members = [Replica(torch.arange(64, device=beats.device), (0, fold)) for fold in (0, 1)]
    losses = []
    for engine in ("eager", "graph"):
        config = ComputeConfig(precision="fp32", engine=engine)
        compute = choose_compute(config, is_compute_bound=False)
        *_, last = train_epochs(recipe, beats, members, compute)
        losses.append([epoch.loss for epoch in last])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
