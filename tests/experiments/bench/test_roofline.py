import pytest
import torch
from bench.plain import plain_net
from bench.roofline import Ceilings, Floor, Work, count_work, floor_of, measure_ceilings

from hbcomp.nets.base import NetConfig
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.training.device import Compute


class TwoLayers(NetConfig):
    """8 timepoints to 4 features to k classes, nothing else."""

    sees_mask = False
    name: str = "two-layers"

    def build(self, shape, n_classes):
        return torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(shape[1], 4, bias=False),
            torch.nn.ReLU(),
            torch.nn.Linear(4, n_classes, bias=False),
        )


def test_the_reference_counts_91_6_mflop_per_row():
    work = count_work(ReferenceConfig(), 205, 4, n_rows=2, precision="fp32")
    assert work.forward_flops / 2 == pytest.approx(91.6e6, rel=0.01)
    assert work.flops / 2 == pytest.approx(274.5e6, rel=0.01)


def test_the_work_of_two_layers_is_what_one_counts_by_hand():
    work = count_work(TwoLayers(), 8, 2, n_rows=10, precision="fp32")
    # A multiplication and an addition per weight and row, in three products a layer, but for
    # the gradient of the signals, which nobody needs.
    assert work.forward_flops == 10 * 2 * (8 * 4 + 4 * 2)
    assert work.flops == 10 * 2 * (2 * 8 * 4 + 3 * 4 * 2)
    # First layer: signals twice, output twice. Second: input three times, output twice.
    activations = 10 * (2 * 8 + 2 * 4 + 3 * 4 + 2 * 2)
    # Weights read twice; gradient written; Adam reads 4 and writes 3.
    assert work.n_bytes == 4 * activations + 4 * (2 + 1 + 4 + 3) * (8 * 4 + 4 * 2)


def test_bf16_halves_activations_and_weights_but_not_the_optimiser():
    full, half = (
        count_work(TwoLayers(), 8, 2, n_rows=10, precision=each).n_bytes
        for each in ("fp32", "bf16")
    )
    optimiser = 4 * (1 + 4 + 3) * (8 * 4 + 4 * 2)
    assert full - optimiser == 2 * (half - optimiser)


def test_the_plain_resnet_counts_the_same_work():
    class Plain(NetConfig):
        sees_mask = False  # it makes its own
        name: str = "plain"

        def build(self, shape, n_classes):
            return plain_net(ResNetConfig(), shape[1], n_classes)

    counts = {count_work(each, 205, 4, 4, "fp32") for each in (Plain(), ResNetConfig())}
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("flops", "n_bytes", "seconds", "serial"),
    [(1000, 10, 10.0, 12.0), (100, 100, 20.0, 21.0), (0, 0, 0.0, 0.0)],
)
def test_the_floor_is_the_slower_of_computing_and_moving(flops, n_bytes, seconds, serial):
    work = Work(n_rows=4, forward_flops=0, flops=flops, n_bytes=n_bytes)
    floor = floor_of(work, Ceilings(flops_per_second=100.0, bytes_per_second=5.0))
    assert floor == Floor(seconds, serial)


def test_per_cent_of_the_roofline_is_floor_over_time():
    work = Work(n_rows=4, forward_flops=0, flops=0, n_bytes=0)
    # 4 rows a step at 1 row a second: 4 seconds a step.
    assert Floor(seconds=3.0, serial_seconds=9.0).per_cent(work, rows_per_second=1.0) == 75.0


def test_ceilings_are_measured(monkeypatch):
    monkeypatch.setattr("bench.roofline.COPY_BYTES", {"cpu": 1 << 12})
    monkeypatch.setattr("bench.roofline.PRODUCT_SIDE", {"cpu": 16})
    ceilings = measure_ceilings(Compute("cpu", "fp32", 1, "tests"))
    assert min(ceilings.flops_per_second, ceilings.bytes_per_second) > 0
