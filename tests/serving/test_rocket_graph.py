"""The net rocket in operations of ONNX: the probabilities of the net, but for a moved position."""

import numpy as np
import pytest
import torch
from test_model import ONNX, make_card

import hbcomp
from hbcomp.nets import base
from hbcomp.nets.registry import ScaledNet
from hbcomp.nets.rocket import RocketConfig
from hbcomp.nets.signal_input import Scale
from hbcomp.nets.signals import SignalsConfig
from hbcomp.scoring.decision import Raw
from hbcomp.serving.nets import Ensemble
from hbcomp.serving.onnx_graph import write_graph
from hbcomp.serving.rocket_graph import RocketGraph, without_gaps

# A position that rounding moves over a bias changes a share by 1 / positions.
MOVED = 0.01


def fitted(n_channels=2, n_steps=24, transforms=("minirocket", "hydra")):
    """Return rows with gaps and shorter ones, and a rocket net of two classes fitted on them."""
    signals = torch.randn(40, n_channels, n_steps, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 2
    signals = signals.cumsum(2) * (1 + labels[:, None, None])
    signals[::3, :, n_steps - n_steps // 3 :] = torch.nan
    signals[5, 0, 1:3] = signals[6, 0] = torch.nan
    config = RocketConfig(transforms=transforms, n_features=84 * 8)
    return signals, config.fit(signals, labels, 2, seed=0)


@pytest.mark.parametrize(("n_channels", "n_steps"), [(1, 60), (3, 24), (2, 5)])
def test_a_rocket_net_in_operations_of_onnx_has_its_probabilities(n_channels, n_steps):
    signals, net = fitted(n_channels, n_steps)
    assert torch.equal(without_gaps(signals), base.without_gaps(signals))
    with torch.no_grad():
        found, wanted = RocketGraph(net)(signals).softmax(1), net(signals).softmax(1)
    assert (found - wanted).abs().max() < MOVED


def test_features_of_multirocket_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hbcomp.serving.onnx_graph.find_spec", lambda name: True)
    signals, net = fitted(transforms=("multirocket",))
    ensemble = Ensemble([ScaledNet(Scale(SignalsConfig(), signals.shape[1]), net)])
    with pytest.raises(hbcomp.InputError, match="multirocket's features cannot be written as ONNX"):
        write_graph(tmp_path / "model.onnx", ensemble, make_card("rocket", Raw()))


@pytest.mark.long("writing the graph takes half a minute")
def test_a_rocket_net_as_onnx_has_its_probabilities(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=ONNX)
    from hbcomp.serving.model import _session

    signals, net = fitted()
    ensemble = Ensemble([ScaledNet(Scale(SignalsConfig(), 2), net).eval()])
    write_graph(tmp_path / "model.onnx", ensemble, make_card("rocket", Raw()))
    predict = _session(tmp_path / "model.onnx")
    for rows in (signals.numpy(), signals[:1].numpy()):
        assert np.allclose(predict(rows), ensemble.predict(rows), rtol=0, atol=MOVED)
