"""The command `python -m hbcomp.compete`: carry out a plan, from CSV files to one submission."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system.stopwatch import Stopwatch


def compete(
    plan: Annotated[str, typer.Argument(help="A plan: experiments/PLAN/plan.toml, or a preset.")],
    train: Annotated[
        Path | None, typer.Option(help="The labelled file; data.train of every run.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="The file to answer; data.test of every run.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Train in this many processes at once.  [default: measured]"),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Delete stored folds and a blend that were made differently."),
    ] = False,
) -> dict[str, Any]:
    """Train every experiment of a plan, blend them, and write one submission.

    A plan.toml lists `runs`, experiments that are trained in order, and what `blend` makes of
    them. Every finished fold is stored at once; the same command continues after a stop.

    Example: hbcomp compete best-cpu --train train.csv --test testA.csv
    """
    watch = Stopwatch()
    from hbcomp.blending.plan import carry_out, n_kept, prepare_all, read_plan
    from hbcomp.experiment.folder import find_run
    from hbcomp.system.config import as_assignments

    files = as_assignments({"data.train": train, "data.test": test})
    wanted = read_plan(plan)
    asked = prepare_all(wanted, files)
    try:
        return carry_out(find_run(plan).name, wanted, asked, watch, n_jobs=jobs, force=force)
    except KeyboardInterrupt:
        raise cli.interrupted(n_kept(asked), "compete") from None


def main() -> None:
    """Run the command."""
    cli.run(compete)


if __name__ == "__main__":
    main()
