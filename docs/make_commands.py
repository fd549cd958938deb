"""Write docs/commands.md, the help of every command, from the commands themselves.

python docs/make_commands.py

The signatures are read, not what typer makes of them, because that differs between its versions.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import typer

import hbcomp

PAGE = Path(__file__).parent / "commands.md"
HEAD = """# Commands

This page is made from the commands by `python docs/make_commands.py`, and a test keeps it up to
date. `hbcomp COMMAND --help` says the same in a terminal, and `python -m hbcomp.COMMAND` is the
same command as `hbcomp COMMAND`. What all commands have in common, such as `--json` and the exit
codes, is in the [guide](guide.md#what-all-commands-have-in-common).
"""
VALUES = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH", datetime: "DATE"}


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a command."""

    names: tuple[str, ...]  # as they are typed: --set, or EXPERIMENT for an argument
    value: str  # what an option takes; empty for a flag
    help: str
    default: Any
    envvar: str | None
    is_option: bool
    is_repeated: bool
    is_required: bool


def commands() -> dict[str, Callable[..., Any]]:
    """Return the function of every command: of every module directly in the package, by name."""
    found = {}
    for path in sorted(Path(hbcomp.__file__).parent.glob("[a-z]*.py")):
        function = getattr(import_module(f"hbcomp.{path.stem}"), path.stem, None)
        if inspect.isfunction(function):
            found[path.stem.replace("_", "-")] = function
    return found


def parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Return the arguments and then the options of a command."""
    hints = get_type_hints(function, include_extras=True)
    found = [
        _parameter(each, hints[name])
        for name, each in inspect.signature(function).parameters.items()
    ]
    return sorted(found, key=lambda each: each.is_option)


def page() -> str:
    """Return the text of docs/commands.md."""
    found = commands()
    index = " · ".join(f"[{name}](#{name})" for name in found)
    sections = [_section(name, function) for name, function in found.items()]
    return "\n".join([HEAD, index, *sections]).rstrip() + "\n"


def _parameter(signature: inspect.Parameter, hint: Any) -> Parameter:
    kind, info = get_args(hint)[:2]
    if NoneType in get_args(kind):
        kind = next(each for each in get_args(kind) if each is not NoneType)
    is_repeated = get_origin(kind) is list
    if is_repeated:
        kind = get_args(kind)[0]
    is_option = isinstance(info, typer.models.OptionInfo)
    is_required = signature.default is inspect.Parameter.empty
    word = signature.name.replace("_", "-")
    # Within Annotated, typer takes the first name of an option for its default.
    named = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    names = (named or [f"--{word}"]) if is_option else [info.metavar or signature.name.upper()]
    return Parameter(
        names=tuple(names),
        value="" if kind is bool else info.metavar or VALUES.get(kind, "TEXT"),
        help=info.help or "",
        default=None if is_required or kind is bool else signature.default,
        envvar=info.envvar,
        is_option=is_option,
        is_repeated=is_repeated,
        is_required=is_required,
    )


def _section(name: str, function: Callable[..., Any]) -> str:
    known = parameters(function)
    usage = " ".join(["hbcomp", name, *_usage(known)])
    about, examples = _about(inspect.getdoc(function) or "")
    parts = [f"\n## {name}\n", f"`{usage}`\n", about]
    if known:
        rows = [f"| {_call(each)} | {_meaning(each)} |" for each in known]
        parts.append("\n".join(["", "| argument or option | meaning |", "|---|---|", *rows]))
    if examples:
        parts.append("\n".join(["", "```sh", *examples, "```"]))
    return "\n".join(parts)


def _usage(known: list[Parameter]) -> Iterator[str]:
    for each in known:
        if not each.is_option:
            name = each.names[0].strip("[].")
            dots = "..." * each.is_repeated
            yield f"{name}{dots}" if each.is_required else f"[{name}]{dots}"
        elif each.is_required:
            yield f"{each.names[0]} {each.value}"
    if any(each.is_option and not each.is_required for each in known):
        yield "[OPTIONS]"


def _about(text: str) -> tuple[str, list[str]]:
    """Return the paragraphs of a docstring without its examples, and the examples as typed."""
    paragraphs = [" ".join(each.split()) for each in text.split("\n\n")]
    starts = [i for i, each in enumerate(paragraphs) if each.startswith("Example")]
    first = starts[0] if starts else len(paragraphs)
    examples = [
        each.split(":", 1)[1] if i == 0 else each for i, each in enumerate(paragraphs[first:])
    ]
    return "\n\n".join(paragraphs[:first]), [_as_typed(each.strip()) for each in examples]


def _as_typed(example: str) -> str:
    words = example.split(", or ")[0].removeprefix("python -m hbcomp.").removeprefix("hbcomp ")
    command, _, rest = words.partition(" ")
    return f"hbcomp {command.replace('_', '-')} {rest}".strip()


def _call(each: Parameter) -> str:
    names = ", ".join(f"`{name}`" for name in each.names)
    return f"{names} `{each.value}`" if each.is_option and each.value else names


def _meaning(each: Parameter) -> str:
    return " ".join(" ".join(_sentences(each)).split()).replace("|", "\\|")


def _sentences(each: Parameter) -> Iterator[str]:
    yield each.help
    if each.is_required and each.is_option:
        yield "Required."
    if each.is_option and each.is_repeated and "repeatable" not in each.help:
        yield "It can be given several times."
    if each.default is not None:
        yield f"Default: `{each.default}`."
    if each.envvar:
        yield f"Environment variable: `{each.envvar}`."


if __name__ == "__main__":
    PAGE.write_text(page())
