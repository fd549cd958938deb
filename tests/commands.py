"""Commands of hbcomp in processes of their own, forked from one that has imported everything.

A command's imports take seconds and a tiny run takes half of one, so a server imports once and
every command is a fork of it (the standard library's forkserver).
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "hbcomp.workflow",
        "hbcomp.application",
        "hbcomp.overview",
        "hbcomp.threshold_study",
        "hbcomp.__main__",
        "sklearn.model_selection",
        "pyarrow.parquet",
        "pandas",
    ]
)


@dataclass(frozen=True)
class Strike:
    """A signal that the command sends itself at the n-th call of a function of hbcomp."""

    module: str
    function: str
    n: int = 1
    is_after: bool = False
    signal: int = signal.SIGKILL


@dataclass(frozen=True)
class Done:
    """A finished command."""

    returncode: int
    stdout: str
    stderr: str


def run_hbcomp(words: Sequence[str], cwd: Path, strike: Strike | None = None) -> Done:
    """Run `hbcomp WORDS` in the folder `cwd` and wait for its end."""
    streams = [cwd / ".stdout", cwd / ".stderr"]
    process = SERVER.Process(
        target=_child, args=(list(words), cwd, streams, strike, dict(os.environ))
    )
    process.start()
    process.join()
    texts = [stream.read_text() for stream in streams]
    for stream in streams:
        stream.unlink()
    return Done(process.exitcode or 0, *texts)


def _child(words, cwd, streams, strike, environment):
    os.environ.update(environment)
    os.chdir(cwd)
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    sys.argv = ["hbcomp", *words]
    if strike:
        module = import_module(f"hbcomp.{strike.module}")
        setattr(module, strike.function, _striking(getattr(module, strike.function), strike))
    import_module("hbcomp.__main__").main()


def _striking(function, strike):
    n_calls = 0

    def wrapper(*args, **kwargs):
        nonlocal n_calls
        n_calls += 1
        if n_calls == strike.n and not strike.is_after:
            os.kill(os.getpid(), strike.signal)
        result = function(*args, **kwargs)
        if n_calls == strike.n and strike.is_after:
            os.kill(os.getpid(), strike.signal)
        return result

    return wrapper
