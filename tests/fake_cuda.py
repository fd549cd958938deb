"""A CUDA device made of the CPU: what is put on `cuda` lies in main memory, streams run in order.

It shows that no attribute, argument or shape is wrong in a branch that only CUDA reaches. What a
real device computes, and how fast, only a real device tells.
"""

from contextlib import contextmanager, nullcontext

import torch
from torch.overrides import TorchFunctionMode


def _on_cpu(value):
    is_cuda = isinstance(value, str | torch.device) and str(value).startswith("cuda")
    return torch.device("cpu") if is_cuda else value


class OnCpu(TorchFunctionMode):
    """Whatever names the device `cuda` gets the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = {name: _on_cpu(value) for name, value in (kwargs or {}).items()}
        return func(*map(_on_cpu, args), **kwargs)


class Stream:
    """Work in the order it is sent."""

    def wait_stream(self, other):
        assert isinstance(other, Stream)


class Graph(torch.cuda.CUDAGraph):
    """A captured step: capturing computes nothing, a replay computes the step."""

    def __new__(cls):
        return object.__new__(cls)  # what torch builds without CUDA refuses to be made

    def __init__(self):
        self.generators = []
        self.n_replays = 0

    def register_generator_state(self, generator):
        self.generators.append(generator)

    def replay(self):
        self.n_replays += 1
        self.step()


class FakeCuda:
    """What was asked of the device, and how much memory it says that it has."""

    def __init__(self, n_devices=1, n_bytes=80 * 2**30):
        self.n_devices = n_devices
        self.n_bytes = n_bytes
        self.graphs = []
        self.n_emptied = 0

    def install(self, monkeypatch):
        """Take the place of `torch.cuda`, function by function."""
        fakes = {
            "is_available": lambda: True,
            "device_count": lambda: self.n_devices,
            "get_device_name": lambda *_: "a fake GPU",
            "is_bf16_supported": lambda **_: True,
            "set_device": lambda _device: None,
            "synchronize": lambda *_: None,
            "empty_cache": self._empty_cache,
            "mem_get_info": lambda *_: (self.n_bytes, self.n_bytes),
            "memory_allocated": lambda *_: 0,
            "max_memory_allocated": lambda *_: 2**20,
            "reset_peak_memory_stats": lambda *_: None,
            "Stream": Stream,
            "current_stream": Stream,
            "stream": lambda _stream: nullcontext(),
            "CUDAGraph": Graph,
            "graph": self._capture,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    def _empty_cache(self):
        self.n_emptied += 1

    @contextmanager
    def _capture(self, graph, stream):
        assert isinstance(stream, Stream)
        self.graphs.append(graph)
        yield
