"""The command `python -m hbcomp.mistakes`: what is still wrong in an experiment, and why?"""

from typing import Annotated, Any

import typer

from hbcomp.system import command as cli


@cli.command("Look", then="hbcomp report")
def mistakes(
    name: Annotated[str, typer.Argument(help="A finished run or blend.")],
    further: Annotated[
        list[str] | None,
        typer.Argument(help="Further experiments that must agree on a label issue."),
    ] = None,
    min_prob: Annotated[
        float, typer.Option(help="What each model must exceed for that class; 0.5 or more.")
    ] = 0.5,
) -> dict[str, Any]:
    """Show what an experiment still predicts wrong, why, and how much could be gained.

    Answers are out-of-fold, under the experiment's rule, cross-fitted. A row is a label issue where
    every base model of a blend, or every seed of a run, predicts the same other class. The page
    mistakes.html and the list label_issues.csv go to the experiment's folder. No label is changed.

    Example: hbcomp mistakes blend
    """
    from hbcomp.analysis.find_mistakes import write_mistakes
    from hbcomp.experiment.folder import find_run

    return write_mistakes(find_run(name), further or [], min_prob, cli.console)


if __name__ == "__main__":
    cli.run(mistakes)
