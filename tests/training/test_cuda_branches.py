"""Branches that only CUDA reaches, run on a CPU that poses as a GPU."""

from types import SimpleNamespace

import pytest
import torch
from bench import roofline, train
from bench.train import measure_net, recipe_of
from fake_cuda import FakeCuda, OnCpu

from hbcomp.crossval import resources
from hbcomp.crossval.resources import choose_group_size, choose_resources
from hbcomp.crossval.speed import measure_speed
from hbcomp.data.synthetic import make_rows
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.system.environment import machine
from hbcomp.training import step
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import ComputeConfig, choose_compute
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import put_on_device
from hbcomp.training.optim import TrainConfig
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import N_EAGER_STEPS, GraphSteps, train_epochs

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a real GPU is there")
RECIPE = Recipe(
    ResNetConfig(widths=(4,), strides=(2,), hidden=8, dropout=0.2),
    TrainConfig(n_epochs=2, batch_size=8),
    AugmentConfig(scale=0.1, noise=0.01, shift=1),
)


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    fake.install(monkeypatch)
    # What a real graph records of itself, a fake one is handed.
    monkeypatch.setattr(GraphSteps, "_capture", capture_without_computing(GraphSteps._capture))
    with OnCpu():
        yield fake


def capture_without_computing(capture):
    def captured(steps):
        taken, steps._step = steps._step, lambda: None
        graph = capture(steps)
        steps._step = taken
        dropout = (
            steps.state.streams.dropout
        )  # the default generator while it is captured, so for good

        def replayed():
            with step.drawing_from(dropout):
                taken()

        graph.step = replayed
        return graph

    return captured


@pytest.fixture
def beats():
    dataset = make_rows(n=48, t=16, k=3)
    return put_on_device(dataset.signals, dataset.known_labels, "cpu")


def compute_of(**keys):
    return choose_compute(ComputeConfig(**keys), is_compute_bound=False)


def members(n):
    return [Replica(torch.arange(40), (0, fold)) for fold in range(n)]


def last_losses(beats, compute, n=2):
    *_, epochs = train_epochs(RECIPE, beats, members(n), compute)
    return [epoch.loss for epoch in epochs]


@pytest.mark.usefixtures("cuda")
def test_a_gpu_trains_captured_steps_in_bf16_unless_told_otherwise():
    compute = compute_of()
    assert (compute.device, compute.precision, compute.engine) == ("cuda", "bf16", "graph")
    assert "a fake GPU" in compute.reason
    for precision in ("fp32", "tf32"):
        compute = compute_of(precision=precision, engine="eager", device="cuda:0")
        compute.enter()
        expected = "tf32" if precision == "tf32" else "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == expected
        assert compute.engine == "eager"


def test_captured_steps_have_the_bits_of_eager_ones(cuda, beats):
    eager = last_losses(beats, compute_of(precision="fp32", engine="eager"))
    assert cuda.graphs == []
    assert last_losses(beats, compute_of(precision="fp32", engine="graph")) == eager
    n_steps = RECIPE.train.n_epochs * 5  # 40 rows in batches of 8
    assert [graph.n_replays for graph in cuda.graphs] == [n_steps - N_EAGER_STEPS] * 2
    # Else every replay would draw the same noise; dropout's generator is the capture's own affair.
    assert [len(graph.generators) for graph in cuda.graphs] == [1, 1]


@pytest.mark.usefixtures("cuda")
def test_a_net_predicts_in_one_large_batch(beats):
    compute = compute_of(precision="fp32")
    *_, (epoch,) = train_epochs(RECIPE, beats, members(1), compute)
    probs = predict_probs(epoch.net, beats.signals, compute)
    assert probs.sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("n_bytes", "seconds", "expected"),
    [
        (80 * 2**30, {1: 1.0, 4: 2.0}, 4),
        (80 * 2**30, {1: 1.0, 4: 4.0}, 1),
        (3 * 2**20, {1: 1.0, 2: 1.0}, 2),  # four of a MiB each do not fit into 80 % of three
        (2**20, {1: 1.0}, 1),
    ],
)
def test_as_many_nets_train_at_once_as_fit_and_gain(
    cuda, beats, monkeypatch, n_bytes, seconds, expected
):
    cuda.n_bytes = n_bytes
    monkeypatch.setattr(
        resources, "seconds_per_step", lambda _recipe, _beats, some, _compute: seconds[len(some)]
    )
    compute = choose_group_size(RECIPE, beats, members(4), compute_of())
    assert compute.models_per_process == expected
    assert f"{expected} at once" in compute.reason


def test_nets_that_do_not_fit_together_after_all_train_alone(cuda, beats, monkeypatch):
    def fake(_recipe, _beats, some, _compute):
        if len(some) > 1:
            raise torch.OutOfMemoryError
        return 1.0

    monkeypatch.setattr(resources, "seconds_per_step", fake)
    assert choose_group_size(RECIPE, beats, members(4), compute_of()).models_per_process == 1
    assert cuda.n_emptied == 2  # also after the failure, or the nets to come find it taken


@pytest.mark.usefixtures("cuda")
def test_the_nets_of_a_run_on_a_gpu_are_timed_for_real(tmp_path, beats, monkeypatch):
    monkeypatch.setattr(resources, "MIN_SECONDS", 0.001)
    monkeypatch.setattr(resources, "N_STEPS_PER_TIMING", 2)
    config = Config(net=RECIPE.net, train=RECIPE.train, augment=RECIPE.augment)
    how = choose_resources(config, RunFolder(tmp_path), beats, members(3), 3, None)
    assert how.compute.models_per_process in {1, 3}
    assert how.n_jobs == 1


class CudaGenerator(torch.Generator):
    device = torch.device("cuda:0")


def test_a_generator_of_a_gpu_is_lent_without_reading_its_state(monkeypatch):
    """Reading it would make the host wait, and a captured step may not."""
    lent = []
    default = SimpleNamespace(
        graphsafe_get_state=lambda: "the default's", graphsafe_set_state=lent.append
    )
    monkeypatch.setattr(torch.cuda, "default_generators", (default,))
    own = CudaGenerator()
    with step.drawing_from(own):
        assert lent == [own]
    assert lent == [own, "the default's"]


@pytest.mark.usefixtures("cuda")
def test_the_machine_names_its_gpu_and_its_memory():
    about = machine()
    assert (about.gpu, about.gpu_memory_gib) == ("a fake GPU", 80.0)


@pytest.mark.usefixtures("cuda")
def test_the_benchmark_measures_every_way_to_train_on_a_gpu(monkeypatch):
    monkeypatch.setattr(train, "SECONDS_PER_EPOCH", 0.0)
    monkeypatch.setattr(train, "BATCH_SIZE", 64)
    monkeypatch.setattr(roofline, "PRODUCT_SIDE", {"cpu": 8, "gpu": 8})
    monkeypatch.setattr(roofline, "COPY_BYTES", {"cpu": 64, "gpu": 64})
    found = measure_net(recipe_of("linear"), max_steps=1)
    ways = set(found["rows_per_second"])
    assert {"ours", "ours, fp32", "ours, tf32", "ours, not captured"} < ways
    assert "ours, 5 nets in streams" in ways


@pytest.mark.usefixtures("cuda")
def test_the_speed_on_a_gpu_is_that_of_the_nets_that_a_run_trains_at_once(monkeypatch, tmp_path):
    seconds = {1: 0.1, 5: 0.2}
    monkeypatch.setattr(
        resources, "seconds_per_step", lambda _recipe, _beats, some, _compute: seconds[len(some)]
    )
    monkeypatch.setattr(
        "hbcomp.crossval.speed.seconds_per_step",
        lambda _recipe, _beats, some, _compute, _min_seconds: seconds[len(some)],
    )
    found = measure_speed(Config(), RunFolder(tmp_path))
    assert (found["compute"]["device"], found["n_at_once"], found["n_processes"]) == ("cuda", 5, 1)
    size = found["batch_size"]
    assert found["rows_per_second"] == {"alone": size / 0.1, "at_once": 5 * size / 0.2}
