"""Commands of hbcomp in processes of their own, forked from one that has imported everything.

A command's imports take seconds and a tiny run takes half of one, so a server imports once and
every command is a fork of it (the standard library's forkserver). Drawing takes most of a tiny run,
so nothing is drawn and a command's pictures are blank unless a test asks for them.
"""

import base64
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import MagicMock

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["imported_once"])
BLANK = base64.b64decode(  # a PNG of one white pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True)
class Strike:
    """A signal that the command sends itself at the n-th call of a function of hbcomp.

    With `is_in_worker` one of the worker processes of `hbcomp tune` sends it to itself instead.
    """

    module: str
    function: str
    n: int = 1
    is_after: bool = False
    signal: int = signal.SIGKILL
    is_in_worker: bool = False


@dataclass(frozen=True)
class Done:
    """A finished command."""

    returncode: int
    stdout: str
    stderr: str


def run_hbcomp(
    words: Sequence[str],
    cwd: Path,
    strike: Strike | None = None,
    prepare: Callable[[], None] | None = None,
    *,
    draws: bool = False,
) -> Done:
    """Run `hbcomp WORDS` in the folder `cwd` and wait for its end."""
    return start_hbcomp(words, cwd, strike, prepare, draws=draws)()


def start_hbcomp(
    words: Sequence[str],
    cwd: Path,
    strike: Strike | None = None,
    prepare: Callable[[], None] | None = None,
    *,
    draws: bool = False,
) -> Callable[[], Done]:
    """Start `hbcomp WORDS` in the folder `cwd` after `prepare()`; calling the result waits."""
    streams = [cwd / ".stdout", cwd / ".stderr"]
    process = SERVER.Process(
        target=_child, args=(list(words), cwd, streams, strike, prepare, draws, dict(os.environ))
    )
    _ensure_server()
    process.start()

    def wait() -> Done:
        process.join()
        texts = [stream.read_text() for stream in streams]
        for stream in streams:
            stream.unlink()
        return Done(process.exitcode or 0, *texts)

    return wait


def draw_nothing(replace=setattr):
    """Let figures be empty and pictures blank; `replace` sets an attribute of a module."""
    style = import_module("hbcomp.reporting.figures.style")
    empty = style.Figure()
    for name in ("comparisons", "data", "mistakes", "runs", "tuning"):
        module = import_module(f"hbcomp.reporting.figures.{name}")
        for key, value in vars(module).copy().items():
            if getattr(value, "__annotations__", {}).get("return") is style.Figure:
                replace(module, key, lambda *_, **__: empty)
    replace(style, "to_png", lambda _: BLANK)


def few_trials():
    """Let a blend's weights be tuned by 5 trials; give it to a command as `prepare`."""
    import_module("hbcomp.blending.methods").N_TRIALS = 5


def few_trials_and_a_tracker():
    """Let a tracker that is not installed take any call, too; give it to a command as `prepare`."""
    few_trials()
    sys.modules |= {"tensorboard": MagicMock(), "torch.utils.tensorboard": MagicMock()}


@cache
def _ensure_server():
    """Start the server, which has to find the module that it imports."""
    former = os.environ.get("PYTHONPATH")
    places = [str(Path(__file__).parent), *([former] if former else [])]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if former:
            os.environ["PYTHONPATH"] = former


def _child(words, cwd, streams, strike, prepare, draws, environment):
    os.environ.update(environment)
    os.chdir(cwd)
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    sys.argv = ["hbcomp", *words]
    # Tests may run in the background of a shell, which lets Ctrl-C be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not draws:
        draw_nothing()
    if prepare:
        prepare()
    if strike and strike.is_in_worker:
        # Workers are fresh processes: the strike travels with the work they are given.
        import_module("hbcomp.tuning.search").work = partial(_work, strike, cwd / ".struck")
    elif strike:
        _arm(strike, os.kill)
    import_module("hbcomp.__main__").main()


def _arm(strike, kill):
    module = import_module(f"hbcomp.{strike.module}")
    setattr(module, strike.function, _striking(getattr(module, strike.function), strike, kill))


def _work(strike, marker, job, slot):
    def kill_first(pid, number):
        with suppress(FileExistsError):
            marker.touch(exist_ok=False)  # so only one of them strikes, whoever comes first
            os.kill(pid, number)

    module = import_module("hbcomp.tuning.search")
    if not marker.exists():
        _arm(strike, kill_first)
    return module.work(job, slot)


def _striking(function, strike, kill):
    n_calls = 0

    def wrapper(*args, **kwargs):
        nonlocal n_calls
        n_calls += 1
        if n_calls == strike.n and not strike.is_after:
            kill(os.getpid(), strike.signal)
        result = function(*args, **kwargs)
        if n_calls == strike.n and strike.is_after:
            kill(os.getpid(), strike.signal)
        return result

    return wrapper
