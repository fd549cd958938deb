"""What every command shares: one line per error, exit codes, and JSON as the last line.

Commands write for people on stderr, through `console`; stdout carries one JSON object.
"""

import errno
import functools
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import typer
from rich.console import Console

from hbcomp.errors import InputError

EXIT_WRONG_INPUT = 2
EXIT_INTERRUPTED = 130

# What a path or a disk can be that is for the user to mend, and no bug of ours.
USERS_TO_MEND = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}

# No markup: brackets in a file name are not for rich to read. Wide where nobody reads it on a
# screen: a log's lines must not be broken at 80 columns.
console = Console(
    stderr=True, highlight=False, markup=False, width=None if sys.stderr.isatty() else 160
)

Numbers = Mapping[str, Any]


class Interrupted(Exception):  # noqa: N818  # it is no error: the user asked for it
    """The user stopped a command; the message says what is kept and how to go on."""


def guarded(function: Callable[..., Numbers]) -> Callable[..., None]:
    """Return `function` as a command: its numbers become the last line, its InputError one line."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        try:
            numbers = function(*args, **kwargs)
        except InputError as error:
            _say("error", str(error))
            raise typer.Exit(EXIT_WRONG_INPUT) from None
        except OSError as error:
            if error.errno not in USERS_TO_MEND:
                raise
            where = f"{error.filename}: " if error.filename else ""
            _say("error", f"{where}{error.strerror}")
            raise typer.Exit(EXIT_WRONG_INPUT) from None
        except KeyboardInterrupt:
            _say("interrupted", "nothing half-written is left; the same command starts over")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except Interrupted as stop:
            _say("interrupted", str(stop))
            raise typer.Exit(EXIT_INTERRUPTED) from None
        typer.echo(json.dumps(numbers, allow_nan=False))

    return command


def _say(kind: str, message: str) -> None:
    # Not through rich: it would wrap the line, and an error must stay one line.
    typer.echo(f"{kind}: {' '.join(message.split())}", err=True)


def run(function: Callable[..., Numbers]) -> None:
    """Run one command as a program of its own, as in `python -m hbcomp.cv`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(guarded(function))
    app()
