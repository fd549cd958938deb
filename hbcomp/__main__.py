"""All commands under one name: `hbcomp cv` is `python -m hbcomp.cv`."""

import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, get_args

import typer

import hbcomp
from hbcomp.system import command as cli


def commands() -> list[cli.Command]:
    """Return the command of every file directly in the package, by panel and name."""
    for file in iter_modules(hbcomp.__path__):
        if not file.ispkg and not file.name.startswith("_"):
            import_module(f"hbcomp.{file.name}")
    panels = get_args(cli.Panel)
    by_name = sorted(cli.COMMANDS.items())
    return sorted((each for _, each in by_name), key=lambda each: panels.index(each.panel))


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"hbcomp {hbcomp.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    pass  # the callback of the option does it


def main() -> None:
    """Run the command that the first argument names."""
    app = typer.Typer(
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings=cli.SETTINGS,
        help="From a competition's CSV files to a cross-validated, checked submission.",
    )
    app.callback()(_options)
    every = commands()
    # Reading the options of all commands takes typer as long as most of them do.
    asked = [each for each in every if each.name.replace("_", "-") == "".join(sys.argv[1:2])]
    for each in asked or every:
        app.command(rich_help_panel=each.panel)(cli.guarded(each.function, each.then))
    cli.start(app)


if __name__ == "__main__":
    main()
