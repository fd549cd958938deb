import builtins
import io
import os
import sys

import pytest
import torch

from hbcomp.system.environment import n_cores
from hbcomp.system.errors import InputError
from hbcomp.training.device import ComputeConfig, choose_compute, synchronize


def test_the_device_is_chosen_with_a_reason():
    compute = choose_compute(ComputeConfig(device="cpu"), is_compute_bound=False)
    assert (compute.device, compute.precision) == ("cpu", "fp32")
    assert compute.reason == "cpu requested; fp32, as bf16 does not pay for this net on this cpu"


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


def test_the_folds_of_a_split_share_the_cores(monkeypatch):
    monkeypatch.setattr("hbcomp.training.device.n_cores", lambda: 8)
    for n_folds, expected in [(1, 8), (2, 4), (5, 1), (16, 1)]:
        config = ComputeConfig(device="cpu")
        assert choose_compute(config, is_compute_bound=False, n_folds=n_folds).n_threads == expected


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such quotas")
def test_the_quota_of_a_container_counts_as_cores(monkeypatch):
    quota = "/sys/fs/cgroup/cpu.max"
    is_there, read = os.path.exists, builtins.open
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("os.path.exists", lambda path: path == quota or is_there(path))
    for text, expected in [("150000 100000\n", 2), ("max 100000\n", 8)]:
        monkeypatch.setattr(
            "builtins.open",
            lambda path, *args, text=text, **keys: (
                io.StringIO(text) if path == quota else read(path, *args, **keys)
            ),
        )
        assert n_cores() == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_missing_gpu_that_was_named_is_an_error(device):
    with pytest.raises(InputError, match=f"torch finds no device '{device}'"):
        choose_compute(ComputeConfig(device=device), is_compute_bound=False)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"precision": "tf32"}, "compute.precision tf32"),
        ({"engine": "graph"}, "compute.engine graph"),
    ],
)
def test_what_only_cuda_has_is_refused_elsewhere(keys, what):
    with pytest.raises(InputError, match=f"{what} needs a CUDA GPU, but the device is cpu"):
        choose_compute(ComputeConfig(device="cpu", **keys), is_compute_bound=False)


@pytest.mark.parametrize(("asked", "engine"), [("auto", "eager"), ("compile", "compile")])
def test_a_cpu_steps_eagerly_unless_told_to_compile(asked, engine):
    config = ComputeConfig(device="cpu", engine=asked)
    assert choose_compute(config, is_compute_bound=True).engine == engine


def test_fp32_is_not_shortened_to_tf32_by_cudnn():
    choose_compute(ComputeConfig(device="cpu"), is_compute_bound=False).enter()
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_a_cpu_needs_no_waiting():
    synchronize(torch.device("cpu"))
