"""The command `python -m hbcomp.compete`: a plan, from CSV files to one submission."""

from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options
from hbcomp.system.stopwatch import Stopwatch


@cli.command("Train", then="hbcomp mistakes {experiment}")
def compete(
    plan: Annotated[str, typer.Argument(help="A plan: experiments/PLAN/plan.toml, or a preset.")],
    hours: Annotated[
        float | None,
        typer.Option(min=0.0, help="Train what fits into this time, the cheapest first."),
    ] = None,
    train: options.Train = None,
    test: options.Test = None,
    competition: options.OfCompetition = None,
    assignments: options.Assignments = None,
    jobs: options.Jobs = None,
    cluster: options.Cluster = None,
    force: options.Force = False,
) -> dict[str, Any]:
    """Train every experiment of a plan, blend them, and write one submission.

    A plan.toml lists `runs`, experiments that are trained in order, and what `blend` makes of
    them. With --hours the cheapest is trained first, as many as fit, and then further seeds of
    them; each is timed before, and blended with the others when it is finished. Every finished fold
    is stored at once; the same command continues after a stop.

    Example: hbcomp compete auto --hours 2 --train train.csv --test testA.csv
    """
    watch = Stopwatch()
    from hbcomp.blending.plan import carry_out, n_kept, prepare_all, read_plan
    from hbcomp.blending.timed_plan import carry_out_within
    from hbcomp.experiment.folder import find_run

    steps, name = read_plan(plan), find_run(plan).name
    requests = prepare_all(steps, options.assigned(assignments, train, test, competition, cluster))
    try:
        if hours is None:
            return carry_out(name, steps, requests, watch, n_jobs=jobs, force=force)
        return carry_out_within(hours, name, steps, requests, watch, n_jobs=jobs, force=force)
    except KeyboardInterrupt:
        raise cli.interrupted(n_kept(requests), "compete") from None


if __name__ == "__main__":
    cli.run(compete)
