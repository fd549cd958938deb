"""The command `python -m hbcomp.bench`: how fast nets train on this machine."""

from typing import Annotated, Any

import typer

from hbcomp.system import command as cli

DEFAULT = ("resnet", "reference")


@cli.command("Look")
def bench(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(help="Presets or own experiments; default: resnet and reference."),
    ] = None,
) -> dict[str, Any]:
    """Measure how fast the nets of experiments train on this machine.

    A few steps are timed, of one net and of as many as `hbcomp cv` trains at once, and from them
    the time of an epoch and of a run on 100,000 rows is computed. Nothing is written.

    Examples: hbcomp bench

    hbcomp bench resnet mine
    """
    from hbcomp.crossval.speed import measure_speeds

    return measure_speeds(experiments or DEFAULT)


if __name__ == "__main__":
    cli.run(bench)
