"""A loaded model answers as its run did, whole or exported, without training code."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from commands import run_hbcomp
from notebook_rows import TINY, make_arrays

import hbcomp
from hbcomp.nets.registry import NETS, build_net
from hbcomp.nets.signals import SignalsConfig
from hbcomp.scoring.calibration import Temperature, VectorScaling
from hbcomp.scoring.decision import (
    ArgMax,
    ClassWeights,
    Clip,
    ClipPerClass,
    DecisionRule,
    Floor,
    Half,
    LeastCost,
    Raw,
    most_likely,
)
from hbcomp.serving.card import Card
from hbcomp.serving.nets import Ensemble
from hbcomp.serving.onnx_graph import as_torch, write_graph
from hbcomp.training.device import ComputeConfig, choose_compute
from hbcomp.training.inference import predict_probs

X, Y, T, _ = make_arrays()
ONNX = "the extra `onnx`: pip install 'hbcomp[onnx]'"
RULES = [
    Raw(),
    Half(),
    ArgMax(),
    Clip(lo=0.2, hi=0.6),
    ClipPerClass(lo=(0.1, 0.2, 0.3), hi=(0.5, 0.6, 0.7)),
    ClassWeights(weights=(1.0, 2.0, 3.0)),
    LeastCost(costs=((0.0, 1.0, 5.0), (1.0, 0.0, 1.0), (2.0, 1.0, 0.0))),
    Floor(least=0.1),
    Temperature(temperature=1.7),
    VectorScaling(scales=(1.0, 2.0, 0.5), biases=(0.0, 1.0, -1.0)),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished run, and the run's result."""
    folder = tmp_path_factory.mktemp("trained")
    with contextlib.chdir(folder):
        options = {"metric": "abs-sum", "n_folds": 2, "seeds": [0, 1], "overrides": TINY}
        return folder, hbcomp.cross_validate(X, Y, T, run="mine", **options)


@pytest.fixture
def result(here, trained):
    folder, result = trained
    shutil.copytree(folder, here, dirs_exist_ok=True)
    return result


def test_as_many_rows_are_predicted_at_once_as_in_training():
    seen, net = [], torch.nn.Flatten()
    net.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    for n_steps in (16, 100_000):
        signals = torch.zeros(30, 1, n_steps)
        predict_probs(
            net, signals, choose_compute(ComputeConfig(device="cpu"), is_compute_bound=False)
        )
        in_training = [*seen]
        seen.clear()
        Ensemble([net]).predict(signals.numpy())
        assert seen == in_training
        seen.clear()


def python(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\n")[0]


def test_a_run_and_its_exported_folder_give_its_very_probabilities(here, result):
    done = run_hbcomp(["export", "mine", "--to", "to/model"], here)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert (numbers["n_nets"], numbers["bytes"] < 50_000) == (4, True)
    models = [hbcomp.load(each) for each in ("mine", "experiments/mine", "to/model")]
    shutil.rmtree("experiments")
    models.append(hbcomp.load(here / "to/model"))
    for model in models:
        assert np.array_equal(model.predict_proba(T), result.test_probs)
        assert np.array_equal(model.answers(T), result.answers)
        assert np.array_equal(model.predict(T[:, None]), result.predicted)
        assert model.classes.tolist() == result.classes.tolist()
        assert model.card.score == result.score
        alone = np.concatenate([model.predict_proba(row[None]) for row in T])
        assert np.allclose(alone, result.test_probs, atol=1e-6)


def test_rows_may_be_padded_as_in_the_files_that_a_run_read(here):
    train, test = X.round(2) + 1, T.round(2) + 1  # no value is the padding
    train[::3, 9:], test[::2, 6:] = 0, 0
    numbers = np.unique(Y, return_inverse=True)[1]
    for name, signals, labels in (("train", train, {"label": numbers}), ("test", test, {})):
        texts = [",".join(map(str, row)) for row in signals]
        rows = {
            "id": [f"{name} {i}" for i in range(len(texts))],
            "heartbeat_signals": texts,
            **labels,
        }
        pd.DataFrame(rows).to_csv(f"{name}.csv", index=False)
    words = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    files = ["--train", "train.csv", "--test", "test.csv"]
    done = run_hbcomp(["cv", "resnet", "--name", "mine", *files, *words], here)
    assert done.returncode == 0, done.stderr
    stored = np.load("experiments/mine/predictions.npz")["test_probs"]
    assert run_hbcomp(["export", "mine", "--to", "model"], here).returncode == 0
    for place in ("mine", "model"):
        for signals in (test, np.where(test == 0, np.nan, test)):
            assert np.array_equal(hbcomp.load(place).predict_proba(signals), stored)


def test_loading_needs_no_training_code_and_no_pandas(here, result):
    code = (
        "import sys, hbcomp; hbcomp.load('mine');"
        "print([m for m in ('pandas', 'sklearn', 'hbcomp.training', 'hbcomp.crossval',"
        "'hbcomp.data.reader', 'typer', 'rich') if m in sys.modules])"
    )
    assert python(code, here) == "[]"


def test_a_folder_is_replaced_only_if_it_is_a_model_and_forced(here, result):
    (here / "full").mkdir()
    (here / "full/notes.txt").touch()
    for words in (["--to", "full"], ["--to", "full", "--force"]):
        done = run_hbcomp(["export", "mine", *words], here)
        assert (done.returncode, "full: exists" in done.stderr) == (2, True)
    for words in ([], ["--force"]):
        assert run_hbcomp(["export", "mine", "--to", "m", *words], here).returncode == 0
    again = run_hbcomp(["export", "m", "--to", "n"], here)
    assert (again.returncode, "is an exported model already" in again.stderr) == (2, True)
    assert {path.name for path in here.iterdir() if path.is_dir()} == {
        *("experiments", "submissions", "full", "m")
    }


def test_damaged_weights_and_other_experiments_are_refused(here, result):
    with pytest.raises(hbcomp.InputError, match=r"refit.json.*is `hbcomp cv mine --fold all` done"):
        hbcomp.load("mine", fold="all")
    with pytest.raises(hbcomp.InputError, match=r"fold must be 'all', .*, not 0"):
        hbcomp.load("mine", fold=0)
    with pytest.raises(hbcomp.InputError, match="absent: neither an exported model nor a finished"):
        hbcomp.load("absent")
    report = Path("experiments/mine/report.json")
    values = json.loads(report.read_text())
    report.write_text(json.dumps({**values, "kind": "imported"}))
    with pytest.raises(hbcomp.InputError, match=r"only nets make a model, .* is imported"):
        hbcomp.load("mine")
    report.write_text(json.dumps({**values, "folds": []}))
    with pytest.raises(hbcomp.InputError, match=r"it must name nets \(folds\)"):
        hbcomp.load("mine")
    report.write_text(json.dumps(values))
    weights = next(Path("experiments/mine/folds").glob("*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(hbcomp.InputError, match="damaged: its sha256 is not the manifest's"):
        hbcomp.load("mine")


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (T[0], r"signals must have the shape \(n, 1, 16\) or \(n, 16\), but have \(16,\)"),
        (T[:, 1:], "signals must have the shape"),
        (T.astype(str), "signals must be numbers, but are"),
        (T * np.inf, "values must be finite in float32"),
    ],
)
def test_wrong_signals_are_refused(here, result, signals, message):
    with pytest.raises(hbcomp.InputError, match=message), np.errstate(invalid="ignore"):
        hbcomp.load("mine").predict(signals)


def test_of_equal_answers_the_more_probable_one_is_the_class():
    probs = np.array([[0.3, 0.45, 0.25], [0.6, 0.3, 0.1]])
    classes = np.array(["a", "b", "c"])
    assert most_likely(classes, Half().apply(probs), probs).tolist() == ["b", "a"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_every_rule_as_torch_is_the_rule(rule):
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    found = as_torch(rule)(torch.tensor(probs)).numpy()
    assert np.allclose(found, rule.apply(probs), rtol=0, atol=1e-12)


def test_there_is_a_test_of_every_rule():
    assert {type(rule) for rule in RULES} == set(DecisionRule.__args__)


def make_card(net, rule, shape=(2, 24)):
    values = {
        "experiment": "planted",
        "config": {"net": {"name": net}},
        "data": {"n_channels": shape[0], "n_timepoints": shape[1], "n_train": 9},
        "metric": {"classes": ["a", "b", "c"]},
        "chosen": {"name": "planted", "rule": rule.model_dump(mode="json") | {"kind": rule.kind}},
    }
    return Card.model_validate_json(json.dumps(values))


def planted_nets(name, shape=(2, 24), scale="min-max"):
    """Return two nets of random weights, as if trained on rows in [0, 1]."""
    nets = []
    for seed in (0, 1):
        net = build_net(NETS[name](), shape, 3, seed, SignalsConfig(scale=scale)).eval()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.weight, std=0.5)
        nets.append(net)
    return nets


def check_parity(folder, name, rule, scale):
    from hbcomp.serving.model import _session

    ensemble = Ensemble(planted_nets(name, scale=scale))
    write_graph(folder / "model.onnx", ensemble, make_card(name, rule))
    signals = np.random.default_rng(0).random((5, 2, 24), dtype=np.float32)
    signals[1, :, 20:] = signals[3, 1, 4:9] = np.nan
    predict = _session(folder / "model.onnx")
    for rows in (signals, signals[:1]):
        assert np.allclose(predict(rows), ensemble.predict(rows), rtol=0, atol=1e-5)


def test_a_net_as_onnx_gives_the_probabilities_of_torch(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=ONNX)
    check_parity(tmp_path, "linear", ClassWeights(weights=(1.0, 2.0, 3.0)), "per-row")


@pytest.mark.long("a graph of every net takes seconds each")
@pytest.mark.parametrize("name", [name for name in NETS if not NETS[name].is_fitted])
def test_every_net_as_onnx_gives_the_probabilities_of_torch(tmp_path, name):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=ONNX)
    check_parity(tmp_path, name, Half(), "min-max")


def test_an_onnx_folder_answers_alone_and_without_torch(here, result):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=ONNX)
    done = run_hbcomp(["export", "mine", "--to", "m", "--onnx"], here)
    assert done.returncode == 0, done.stderr
    shutil.rmtree("experiments")
    np.save("rows.npy", T)
    code = (
        "import sys, numpy, hbcomp; model = hbcomp.load('m'); rows = numpy.load('rows.npy');"
        "probs, answers = model.predict_proba(rows), model.answers(rows);"
        "numpy.savez('found.npz', probs=probs, answers=answers); print('torch' in sys.modules)"
    )
    assert python(code, here) == "False"
    with np.load("found.npz") as found:
        assert np.allclose(found["probs"], result.test_probs, rtol=0, atol=1e-6)
        assert np.array_equal(found["answers"], result.answers)
    import onnxruntime

    session = onnxruntime.InferenceSession("m/model.onnx")
    (answers,) = session.run(["answers"], {"signals": T[:, None].astype(np.float32)})
    assert np.array_equal(answers, result.answers)
    classes = session.get_modelmeta().custom_metadata_map["classes"]
    assert json.loads(classes) == ["elk", "gnu", "yak"]
    assert b"site-packages" not in Path("m/model.onnx").read_bytes()


def test_without_the_extra_onnx_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("hbcomp.serving.onnx_graph.find_spec", lambda name: name == "onnx")
    with pytest.raises(hbcomp.InputError, match=r'needs onnxscript: pip install "hbcomp\[onnx\]"'):
        write_graph(tmp_path / "m", Ensemble(planted_nets("linear")), make_card("linear", Raw()))
    monkeypatch.setattr("hbcomp.serving.onnx_graph.find_spec", lambda name: True)
    with pytest.raises(hbcomp.InputError, match="the trees of quant cannot be written as ONNX"):
        write_graph(tmp_path / "m", Ensemble(planted_nets("quant")), make_card("quant", Raw()))


def test_a_graph_of_a_fixed_number_of_rows_is_refused(tmp_path, monkeypatch):
    fixed = SimpleNamespace(shape=[2, 1, 24])
    program = SimpleNamespace(model=SimpleNamespace(graph=SimpleNamespace(inputs=[fixed])))
    monkeypatch.setattr("hbcomp.serving.onnx_graph.find_spec", lambda name: True)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: program)
    with pytest.raises(hbcomp.InputError, match=r"net 'linear' cannot .* for any number of rows"):
        write_graph(tmp_path / "m", Ensemble(planted_nets("linear")), make_card("linear", Raw()))
