"""What every command shares: one line per error, what to do next, and JSON.

Commands write for people on stderr, through `console`; stdout carries one JSON object, on a
terminal only with --json.
"""

import functools
import inspect
import json
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn, TextIO, TypeVar, cast

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from hbcomp.system.errors import InputError, is_out_of_memory
from hbcomp.system.exit_codes import (
    EXIT_WRONG_INPUT,
    Terminated,
    exit_code_of,
    is_users_to_mend,
)

MAX_MESSAGE = 5_000  # assumed: eight problems of ordinary ids are a tenth of it
# Characters that move a terminal's cursor or turn its text around, halves of characters, and marks
# and spaces that make two different texts look alike.
UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5"
    r"\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\u3164\ud800-\udfff"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def escape_control_chars(text: str) -> str:
    """Return text with control and invisible characters escaped, except tabs and line ends."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


WARNING = "warning: "  # how such a message begins
log = logging.getLogger("hbcomp")


class _Console(Console):
    """A console on which ids, names and messages cannot control the terminal.

    Where hbcomp is a library, messages are logged instead, and tables left to the page of the run.
    """

    is_library = False

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, or log a message that a command would print."""
        if not self.is_library or not all(isinstance(each, str | Table) for each in objects):
            super().print(*objects, **options)
            return
        for text in (each for each in objects if isinstance(each, str)):
            level = logging.WARNING if text.startswith(WARNING) else logging.INFO
            log.log(level, "%s", escape_control_chars(text.removeprefix(WARNING)))

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of what is printed, escaped except for rich's own control segments."""
        for segment in super().render(renderable, options):
            yield (
                segment
                if segment.control
                else segment._replace(text=escape_control_chars(segment.text))
            )


# A program that was started with its stderr closed has none.
_is_on_screen = sys.stderr is not None and sys.stderr.isatty()
# Without markup, because rich would read brackets in a file name. Wide where stderr is no screen,
# because a log's lines must not be broken at 80 columns.
console = _Console(stderr=True, highlight=False, markup=False, width=None if _is_on_screen else 160)


@contextmanager
def as_library(*, has_bars: bool) -> Iterator[None]:
    """Log what commands print within the block; bars are shown on a screen, if at all."""
    former = console.is_library, console.quiet
    console.is_library, console.quiet = True, not has_bars
    try:
        yield
    finally:
        console.is_library, console.quiet = former


Numbers = Mapping[str, Any]
AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Numbers])
Panel = Literal["Train", "Combine", "Look", "Submit"]  # of `hbcomp --help`, in this order
SETTINGS = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class Command:
    """A command's function, its panel in `hbcomp --help`, and the line to type after it."""

    function: Callable[..., Numbers]
    panel: Panel
    then: str | None

    @property
    def name(self) -> str:
        """The name of the function and of its module."""
        return self.function.__name__


COMMANDS: dict[str, Command] = {}  # by the name of the function; imported commands only


def command(panel: Panel, then: str | None = None) -> Callable[[AnyCommand], AnyCommand]:
    """Return a decorator that makes a function a command.

    The braces in `then` are keys of the command's numbers, or else names of its parameters; where
    the value of one is None, there is nothing to do next. A command may return the line itself, as
    the number `next`.
    """

    def declare(function: AnyCommand) -> AnyCommand:
        COMMANDS[function.__name__] = Command(function, panel, then)
        return function

    return declare


class Interrupted(Exception):  # noqa: N818  # it is no error: the user asked for it
    """The user stopped a command; the message says what is kept and how to go on."""


def interrupted(n_kept: int, command: str) -> Interrupted:
    """Return what a stopped `command` says: how many folds are kept, and how to go on.

    The line is what the user typed, `hbcomp cv ARGUMENTS` or `python -m hbcomp.cv ARGUMENTS`. A
    --force stays in it, because it keeps the folds of the same configuration.
    """
    program = Path(sys.argv[0])
    typed = ["hbcomp"]
    if program.suffix == ".py":  # the file of a module that `python -m` runs
        is_whole = program.stem == "__main__"
        typed = ["python", "-m", "hbcomp" if is_whole else f"hbcomp.{command}"]
    line = shlex.join([*typed, *sys.argv[1:]])
    kept = "1 finished fold is kept" if n_kept == 1 else f"{n_kept} finished folds are kept"
    return Interrupted(f"{kept}; continue with: {line}")


class CheckError(InputError):
    """A check failed; the command's numbers are printed before the message."""

    def __init__(self, message: str, numbers: Numbers) -> None:
        super().__init__(message)
        self.numbers = numbers


JSON_OPTION = inspect.Parameter(
    "has_json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option("--json", help="Print the result as JSON, also on a terminal."),
    ],
)


def guarded(function: Callable[..., Numbers], then: str | None = None) -> Callable[..., None]:
    """Return the program of a command, which prints its numbers or one line for an error."""

    @functools.wraps(function)
    def guard(*args: Any, has_json: bool = False, **arguments: Any) -> None:
        try:
            _check_texts([*args, *arguments.values()])
            with terminable():
                numbers = function(*args, **arguments)
            _print_written(numbers)
            _print_next(numbers.get("next") or _filled(then, {**arguments, **numbers}))
            _print_json(numbers, always=has_json)
        except InputError as error:
            if isinstance(error, CheckError):
                _print_json(error.numbers, always=has_json)
            _say("error", str(error))
            raise typer.Exit(EXIT_WRONG_INPUT) from None
        except OSError as error:
            _say_what_to_mend(error)
            raise typer.Exit(EXIT_WRONG_INPUT) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            _say(
                "error",
                f"out of memory ({str(error).splitlines()[0] if str(error) else 'on the CPU'}); "
                "what was finished is kept; end other programs, or give this one less to do",
            )
            raise typer.Exit(EXIT_WRONG_INPUT) from None
        except KeyboardInterrupt as stop:
            _say("interrupted", "nothing half-written is left; the same command starts over")
            raise typer.Exit(exit_code_of(stop)) from None
        except Interrupted as stop:
            _say("interrupted", str(stop))
            raise typer.Exit(exit_code_of(stop.__context__)) from None

    signature = inspect.signature(function)
    parameters = [*signature.parameters.values(), JSON_OPTION]
    guard.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return guard


def _print_written(numbers: Numbers) -> None:
    """Print the paths of what was written."""
    for what in ("page", "report", "submission"):
        if numbers.get(what):
            console.print(f"{what}: {numbers[what]}", soft_wrap=True)


class _Quoted(Formatter):
    """A formatter that quotes values for a shell."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None:
            raise LookupError
        return shlex.quote(format(str(value), format_spec))


def _filled(then: str | None, values: Numbers) -> str | None:
    """Return the line that one would type next; None where a value for it is missing."""
    with suppress(LookupError):
        return _Quoted().vformat(then, (), values) if then else None
    return None


def _print_next(line: str | None) -> None:
    if line:
        console.print(f"next: {line}", soft_wrap=True)


def _print_json(numbers: Numbers, *, always: bool) -> None:
    """Print the numbers as JSON if stdout is no terminal, or `always`."""
    if always or not sys.stdout.isatty():
        print(json.dumps(numbers, allow_nan=False), flush=True)


def _say_what_to_mend(error: OSError) -> None:
    """Print what is wrong with a path or a disk; raise an error again that is a bug of hbcomp."""
    if not is_users_to_mend(error):
        raise error
    where = f"{error.filename}: " if error.filename else ""
    _say("error", f"{where}{error.strerror}; mend that and give the same command again")


def _check_texts(values: Iterable[Any]) -> None:
    """Refuse file names that are not UTF-8, because no report, ledger or page could hold them."""
    for value in values:
        if isinstance(value, list):
            _check_texts(value)
        elif isinstance(value, str | Path):
            try:
                str(value).encode()
            except UnicodeEncodeError:
                raise InputError(
                    f"{value}: file names must be UTF-8 text, but this one is not; rename the file"
                ) from None


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` within the block, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python sets handlers in the main thread only
        return
    former = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM within the block, for this thread and the processes it starts.

    A worker that starts here never receives them, not even while it imports, where it would print a
    traceback; its owner receives them and ends it. Signals that come meanwhile are delivered at the
    end of the block.
    """
    from multiprocessing import resource_tracker

    # The first worker needs the tracker, and Python 3.11 unblocks the signals once it has started.
    resource_tracker.ensure_running()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


@contextmanager
def ctrl_c_delayed() -> Iterator[None]:
    """Let a Ctrl-C within the block come at its end, whichever thread of the process gets it."""
    former = signal.getsignal(signal.SIGINT)
    if not callable(former) or threading.current_thread() is not threading.main_thread():
        yield  # nobody would hear it, or only the main thread may say who hears it
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
        if came:
            former(*came[0])


@contextmanager
def tracker_warnings_off() -> Iterator[None]:
    """Turn off the warnings of joblib's resource tracker, if it starts within the block.

    Workers that are ended while they start do not release what they share. The tracker deletes it,
    as it should, and would warn of it below the last line, as if something were lost.
    """
    former = os.environ.get("PYTHONWARNINGS")
    hushed = [former] if former else []
    os.environ["PYTHONWARNINGS"] = ",".join([*hushed, "ignore:resource_tracker:UserWarning"])
    try:
        yield
    finally:
        if former is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = former


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def _say(kind: str, message: str) -> None:
    # Rich would wrap the line, and an error must stay one line.
    line = escape_control_chars(" ".join(message.split()))
    if len(line) > MAX_MESSAGE:  # it quotes an endless id
        line = f"{line[:MAX_MESSAGE]} ... ({len(line):,} characters)"
    print(f"{kind}: {line}", file=sys.stderr, flush=True)


def _null() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


class _Output:
    """A standard stream that drops what cannot be written for one of these `reasons`."""

    def __init__(self, name: str, stream: Any, reasons: tuple[type[Exception], ...]) -> None:
        # A program that was started with the stream closed has none.
        self._stream = stream or _null()
        self._name, self._reasons = name, reasons

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        with self._writing():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what was written, or drop it."""
        with self._writing():
            self._stream.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except self._reasons:
            pass
        except OSError as error:
            error.filename = error.filename or self._name
            raise

    def leave(self) -> None:
        """Flush the stream, or drop what cannot be written, so that the exit code stays."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):  # a stream of a test has no descriptor
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def start(app: Callable[[], None]) -> None:
    """Run a program of commands, which does not stop when nobody reads its output.

    Messages are dropped where stderr is closed, full or a pipe that nobody reads. So are results on
    stdout, except that a disk too full for a result is an error.
    """
    _open_standard_descriptors()
    former = sys.stdout, sys.stderr
    out = _Output("stdout", sys.stdout, (BrokenPipeError,))
    err = _Output("stderr", sys.stderr, (OSError, ValueError))
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        try:
            app()
        except SystemExit as stop:
            if not stop.code:
                out.flush()  # help is buffered, and only now a full disk shows
            raise
    except OSError as error:
        _say_what_to_mend(error)
        sys.exit(EXIT_WRONG_INPUT)
    finally:
        out.leave()
        err.leave()
        sys.stdout, sys.stderr = former


def _open_standard_descriptors() -> None:
    """Open the null device for every standard stream that is closed.

    Otherwise the next file would get a descriptor of theirs, and a library's warning, written to
    descriptor 2, would end up in that file.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # for worker processes
    os.close(descriptor)


def run(function: Callable[..., Numbers]) -> None:
    """Run one command as a program, as `python -m hbcomp.cv` does."""
    app = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, context_settings=SETTINGS
    )
    app.command()(guarded(function, COMMANDS[function.__name__].then))
    start(app)
