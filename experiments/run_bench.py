"""How fast is hbcomp, against the ways that people write? On this machine, in up to five minutes.

    python experiments/run_bench.py                             # all parts
    python experiments/run_bench.py --only train --net resnet   # one part, one net
    python experiments/run_bench.py --save                      # written to results/bench/

Training against the loops that people write and against the roofline, reading CSV, thresholds, how
`hbcomp cv` scales, how fast help is shown. Pairs run interleaved, so that a clock that drifts slows
both. The last line is one JSON object.
"""

from typing import Annotated, Any

import typer
from bench.suite import PARTS, measure_all

from hbcomp.system import command as cli

NETS = ("reference", "resnet")


def run_bench(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help=f"Measure this part ({', '.join(PARTS)}); repeatable."),
    ] = None,
    net: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A net to train; repeatable.")
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Write what was measured to experiments/results/bench/.")
    ] = False,
) -> dict[str, Any]:
    """Measure training, reading, thresholds, scaling and start-up against the plain ways."""
    return measure_all(only or [], net or NETS, save=save)


if __name__ == "__main__":
    cli.run(run_bench)
