"""The command `python -m hbcomp.bench`: how fast this machine is, with hbcomp and without."""

import sys
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system.errors import InputError

NETS = ("reference", "resnet")


@cli.command("Look")
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="Measure this part: train, read, thresholds, scaling or startup; repeatable.",
        ),
    ] = None,
    net: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A net to train; repeatable.")
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Write all of it to experiments/bench/.")
    ] = False,
) -> dict[str, Any]:
    """Measure training, reading, thresholds, scaling and start-up against the plain ways.

    Pairs run interleaved, so that a clock that drifts slows both. It takes up to five minutes.

    Examples: hbcomp bench

    hbcomp bench --only train --net resnet
    """
    if sys.platform == "win32":
        raise InputError("the benchmark measures memory with os.wait4, which Windows does not have")
    from hbcomp.benchmarks.suite import measure_all

    return measure_all(only or [], net or NETS, save=save)


if __name__ == "__main__":
    cli.run(bench)
