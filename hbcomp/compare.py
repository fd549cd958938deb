"""The command `python -m hbcomp.compare`: is one experiment better than another, and where?"""

from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Look", then="hbcomp report")
def compare(
    first: options.Finished,
    second: Annotated[str, typer.Argument(help="Another one, made on the same beats.")],
    rule: Annotated[
        str, typer.Option(help="One decision rule for both; auto: each under its own.")
    ] = "auto",
) -> dict[str, Any]:
    """Compare two experiments on the same rows: difference with its noise, classes, changed rows.

    Every answer is out-of-fold and its rule cross-fitted. The page and the list of changed rows go
    to experiments/comparisons/.

    Example: hbcomp compare resnet quickstart
    """
    from hbcomp.analysis.compare_runs import compare_experiments
    from hbcomp.experiment.folder import find_run

    return compare_experiments(find_run(first), find_run(second), rule, cli.console)


if __name__ == "__main__":
    cli.run(compare)
