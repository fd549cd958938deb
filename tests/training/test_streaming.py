"""Rows that stay on the host train the same nets, bit by bit on a CPU, as rows on the device."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from hbcomp.data.synthetic import make_rows
from hbcomp.training import device as devices
from hbcomp.training.device import Compute, ComputeConfig, streams_rows
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import (
    NO_LABEL,
    StreamedSignals,
    all_rows,
    batches,
    put_on_device,
)

CPU = torch.device("cpu")
PARTS = (
    np.arange(24, dtype=np.float32).reshape(4, 2, 3),
    -np.arange(12, dtype=np.float32).reshape(2, 2, 3),
)


@pytest.fixture
def streamed():
    return StreamedSignals(PARTS, CPU)


@pytest.mark.parametrize("rows", [[0, 3, 1], [4, 5], [5, 0, 4, 0], [2], []])
@pytest.mark.parametrize("size", [1, 4, 6, 9])
def test_rows_of_any_part_are_those_of_the_parts_in_one_tensor(streamed, rows, size):
    resident = torch.tensor(np.concatenate(PARTS))
    assert (len(streamed), streamed.shape) == (6, (6, 2, 3))
    assert torch.equal(streamed[torch.tensor(rows).long()], resident[rows])
    for some in (None, torch.tensor(rows).long()):
        pairs = zip(batches(streamed, size, some), batches(resident, size, some), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    assert torch.equal(all_rows(streamed), resident)


def test_test_rows_to_train_on_follow_without_a_copy():
    labels = np.array([0, 1, 0, 1])
    data = put_on_device(PARTS[0], labels, "cpu", PARTS[1], trains_on_test=True, is_streamed=True)
    assert data.signals.parts == PARTS
    assert data.labels.tolist() == [*labels, NO_LABEL, NO_LABEL]
    assert data.shape == (2, 3)
    assert data.device == CPU


def test_a_batch_is_never_the_memory_of_the_file(tmp_path):
    PARTS[0].tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=PARTS[0].shape)
    batch = StreamedSignals((mapped,), CPU)[torch.tensor([1])]
    batch.zero_()
    assert np.array_equal(mapped, PARTS[0])


def test_predictions_are_those_of_resident_rows_bit_by_bit():
    signals = make_rows(n=40).signals
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(signals[0].size, 3))
    compute = Compute("cpu", "fp32", 1, "tests")
    resident = predict_probs(net, torch.tensor(signals), compute)
    assert np.array_equal(predict_probs(net, StreamedSignals((signals,), CPU), compute), resident)


def test_rows_are_streamed_where_they_do_not_fit_or_as_configured(monkeypatch):
    array = np.zeros((10, 1, 10), np.float32)  # 400 bytes
    monkeypatch.setattr(devices, "available_bytes", lambda: 1000)
    assert not streams_rows(ComputeConfig(), "cpu", array, array, None)
    assert streams_rows(ComputeConfig(), "cpu", array, array, array)
    assert streams_rows(ComputeConfig(rows="streamed"), "cpu", array)
    assert not streams_rows(ComputeConfig(rows="resident"), "cpu", array, array, array)


def test_a_captured_graph_cannot_stream():
    with pytest.raises(ValidationError, match=r"engine. graph cannot stream"):
        ComputeConfig(rows="streamed", engine="graph")
