"""The command `python -m hbcomp.compare`: is one experiment better than another, and where?"""

from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Look", then="hbcomp report")
def compare(
    run_a: options.Finished,
    run_b: Annotated[str, typer.Argument(help="Another one, made on the same rows.")],
    rule: Annotated[
        str, typer.Option(help="One decision rule for both; auto: each under its own.")
    ] = "auto",
) -> dict[str, Any]:
    """Compare two experiments row by row: the difference and its noise, classes, changed rows.

    Every answer is out-of-fold and its rule cross-fitted. The page and the list of rows that the
    two predict differently go to experiments/comparisons/.

    Example: hbcomp compare resnet quickstart
    """
    from hbcomp.analysis.compare_runs import compare_experiments
    from hbcomp.experiment.folder import find_run

    return compare_experiments(find_run(run_a), find_run(run_b), rule, cli.console)


if __name__ == "__main__":
    cli.run(compare)
