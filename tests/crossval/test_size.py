"""What a training needs is known before anything is trained."""

import numpy as np
import pytest
import torch

from hbcomp.crossval import size as sizes
from hbcomp.crossval.size import size_of_net, size_warnings
from hbcomp.data.dataset import Dataset
from hbcomp.data.splits import FoldsConfig, make_folds
from hbcomp.experiment.config import Config
from hbcomp.nets.registry import NETS, build_net, count_parameters
from hbcomp.nets.signals import SignalsConfig
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.training.device import Compute, best_rate

CPU = Compute("cpu", "fp32", 1, "tests")
SHAPE = (2, 60)


def rows(n=20, shape=SHAPE):
    return Dataset(
        ids=np.arange(n).astype(str),
        signals=np.zeros((n, *shape), np.float32),
        labels=np.arange(n) % 4,
        source="x.csv",
    )


def folds(data=None, n_folds=2):
    data = rows() if data is None else data
    return {0: make_folds(FoldsConfig(n_folds=n_folds), data, 0)}


def config_of(**values):
    return validate(Config, {"net": {"name": "resnet"}, **values}, "")


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets how many bytes are free."""
    return lambda n_bytes: monkeypatch.setattr(sizes, "free_bytes", lambda _: n_bytes)


@pytest.mark.parametrize("name", [name for name, kind in NETS.items() if not kind.is_fitted])
def test_the_size_of_a_net_is_the_same_without_its_memory(name, monkeypatch):
    config = NETS[name](name=name)
    real = size_of_net(config, SHAPE, 4, SignalsConfig())
    monkeypatch.setattr(sizes, "MANY_TO_BUILD", 0)
    assert size_of_net(config, SHAPE, 4, SignalsConfig()) == real
    net = build_net(config, SHAPE, 4, 0, SignalsConfig())
    assert real.n_parameters == count_parameters(net)
    assert real.n_largest >= max(each.numel() for each in net.parameters())


def test_asking_for_a_size_draws_no_random_number():
    before = torch.random.get_rng_state()
    size_of_net(NETS["reference"](name="reference"), SHAPE, 4, SignalsConfig())
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_net_of_usual_size_gets_no_warning():
    assert not [*size_warnings(config_of(), CPU, rows(), None, folds(), is_streamed=False)]


def test_a_huge_dense_layer_is_named_with_its_share(free):
    free(10**12)
    data = rows(8, (1, 100_000))
    (warning,) = size_warnings(config_of(), CPU, data, None, folds(data), is_streamed=False)
    assert "resnet on 100000 time steps has 154 M parameters, 154 M of them in its layer" in warning
    large = config_of(net={"name": "reference"})
    (warning,) = size_warnings(large, CPU, data, None, folds(data), is_streamed=False)
    assert 'net.name = "convtran" has 0.1 M' in warning


def test_a_step_that_nearly_fills_the_memory_gets_a_batch_size_that_fits(free):
    config = config_of(train={"batch_size": 256})
    size = size_of_net(config.net, SHAPE, 4, SignalsConfig())
    data = rows(8000)
    needed = 4 * 5 * size.n_parameters + 256 * size.bytes_per_row
    for_rows = data.signals.nbytes
    free(int(needed / 0.9) + for_rows)
    (warning,) = size_warnings(config, CPU, data, None, folds(data), is_streamed=False)
    assert "a step of 256 rows of net resnet needs about" in warning
    assert "train.batch_size 128 would fit" in warning
    free(int(needed * 0.9) + for_rows)
    with pytest.raises(InputError, match=r"needs about .* free; train\.batch_size 128 would fit"):
        [*size_warnings(config, CPU, data, None, folds(data), is_streamed=False)]
    free(1000 + for_rows)
    with pytest.raises(InputError, match="make the net smaller"):
        [*size_warnings(config, CPU, data, None, folds(data), is_streamed=False)]


def test_a_net_that_no_machine_holds_is_refused_in_one_line():
    config = config_of(net={"name": "reference"})
    with pytest.raises(InputError, match=r"needs about .* GB for 13108 M parameters"):
        [
            *size_warnings(
                config, CPU, rows(8, (1, 100_000)), None, folds(rows(8)), is_streamed=False
            )
        ]


def test_few_rows_are_refused_only_if_their_own_smaller_batch_does_not_fit(free):
    config = config_of(train={"batch_size": 256})
    size = size_of_net(config.net, SHAPE, 4, SignalsConfig())
    data = rows(400)  # 200 to train on, in batches of 16
    free(int((4 * 5 * size.n_parameters + 16 * size.bytes_per_row) / 0.7) + data.signals.nbytes)
    assert not [*size_warnings(config, CPU, data, None, folds(data), is_streamed=False)]


def test_operations_are_counted_as_by_hand():
    size = size_of_net(NETS["linear"](name="linear"), SHAPE, 4, None)
    assert size.operations_per_row == 2 * 4 * 2 * 60


@pytest.fixture
def slow(monkeypatch):
    """Let matrix products be so slow that a cross-validation of the rows takes days."""
    monkeypatch.setattr(sizes, "MANY_OPERATIONS", 0)
    monkeypatch.setattr(sizes, "best_rate", lambda _: 3000.0)


def test_the_least_time_of_a_cross_validation_is_told_where_it_is_long(slow):
    config = config_of(net={"name": "linear"}, train={"n_epochs": 10})
    data = rows(3200)
    (warning,) = size_warnings(config, CPU, data, rows(), folds(data), is_streamed=False)
    # a product and its two gradients, in 12 batches of 133 of the 1,600 rows
    of_row = size_of_net(config.net, SHAPE, 4, SignalsConfig()).operations_per_row
    operations = 2 * 10 * 12 * 133 * 3 * of_row
    assert warning.startswith(
        f"a cross-validation takes {operations / 3000 / 3600:.1f} h at best on cpu: 2 times 10 "
        f"epochs of 1,600 rows of net linear are {operations:.1e} additions"
    )
    stopping = config_of(net={"name": "linear"}, train={"early_stopping": {"patience": 3}})
    (warning,) = size_warnings(stopping, CPU, data, None, folds(data), is_streamed=False)
    assert "unless early stopping ends it" in warning


def test_distances_to_all_rows_are_what_takes_long_of_lines(slow):
    config = config_of(features={"name": "lines"}, net={"name": "linear"})
    data = rows(3200)
    (warning,) = size_warnings(config, CPU, data, rows(), folds(data), is_streamed=False)
    assert "features lines of 3,220 rows from 3,200 are" in warning


def test_what_takes_no_three_hours_is_no_warning(monkeypatch):
    monkeypatch.setattr(sizes, "MANY_OPERATIONS", 0)
    data = rows(3200)
    assert not [*size_warnings(config_of(), CPU, data, None, folds(data), is_streamed=False)]


def test_the_best_rate_is_that_of_a_matrix_product():
    assert best_rate(CPU) > 1e8


def test_streamed_rows_are_announced_with_their_size_and_place(free):
    free(10**12)
    (line,) = size_warnings(config_of(), CPU, rows(), rows(), folds(), is_streamed=True)
    assert line == (
        "20 rows of 2 x 60 values and 20 test rows are 19 kB, and 1000 GB are free on cpu: they "
        "are streamed from the host's memory, batch by batch (compute.rows)"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"features": {"name": "lines"}, "net": {"name": "linear"}},
            "features lines need all rows",
        ),
        ({"compute": {"engine": "graph"}}, "engine graph needs rows on the device"),
        (
            {"net": {"name": "quant"}, "train": {"n_epochs": 1}},
            "net quant is fitted on all rows in memory",
        ),
    ],
)
def test_what_cannot_be_streamed_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        [*size_warnings(config_of(**values), CPU, rows(), None, folds(), is_streamed=True)]
