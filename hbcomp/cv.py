"""The command `python -m hbcomp.cv`: from CSV files to a cross-validated, checked submission."""

from typing import Annotated, Any, Literal

import typer

from hbcomp.system import command as cli
from hbcomp.system import options
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch

DEFAULT = "quickstart"  # the experiment on the bundled sample


@cli.command("Train", then="hbcomp mistakes {experiment}")
def cv(
    experiment: options.Experiment = DEFAULT,
    assignments: options.Assignments = None,
    train: options.Train = None,
    test: options.Test = None,
    competition: options.OfCompetition = None,
    name: Annotated[
        str | None, typer.Option(help="Run as a new experiment of this name, keeping the old one.")
    ] = None,
    jobs: options.Jobs = None,
    cluster: options.Cluster = None,
    fold: Annotated[
        Literal["all"] | None,
        typer.Option(metavar="all", help="Train on everything, after the cross-validation."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="SEED-FOLD,...", help="Train these folds and stop, as 0-3,0-4."),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Train the folds of the I-th of N machines and stop."),
    ] = None,
    track: Annotated[
        options.TrackerName | None,
        typer.Option(help="Show every epoch in a tracker, as `hbcomp track` does afterwards."),
    ] = None,
    force: options.Force = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show the time of this call by phase.")
    ] = False,
) -> dict[str, Any]:
    """Cross-validate an experiment and write its submission, report and pictures.

    Every finished fold is stored at once, and the same command continues after any stop. With
    --fold all, nets are trained on all rows of a finished experiment (refit.seeds, refit.n_epochs)
    and predict the test file; their score is not measured. With --only or --part some folds are
    trained and stored, while other processes train others; without them the same command then
    assembles all.

    Examples: hbcomp cv

    hbcomp cv resnet --train train.csv --test testA.csv --name mine

    hbcomp cv resnet --competition FOLDER --name mine

    hbcomp cv mine --fold all

    hbcomp cv mine --part 2/5

    hbcomp cv mine --track mlflow
    """
    if fold and force:
        raise InputError("--force replaces folds only; delete folds/SEED-all to train a net again")
    if sum(each is not None for each in (fold, only, part)) > 1:
        raise InputError("--fold all, --only and --part exclude each other; give one of them")
    if track and (only or part):
        raise InputError(
            "--track shows whole runs; leave it out with --only, --part: give it to the call that "
            "assembles the folds"
        )
    if force and (only or part):
        raise InputError(
            "--force would delete folds that others train; use it without --only, --part"
        )
    watch = Stopwatch()
    with watch.phase("import"):  # torch comes with these: --help need not wait
        from hbcomp.crossval import parts, refit
        from hbcomp.crossval.cross_validate import run
        from hbcomp.experiment.setup import prepare
        from hbcomp.tracking.live import tracked

    request = prepare(
        experiment, options.assigned(assignments, train, test, competition, cluster), name
    )
    try:
        if only is not None or part is not None:
            return parts.run(request, watch, only=only, part=part, n_jobs=jobs)
        with tracked(request.run, track):
            if fold:
                return refit.run(request, watch, n_jobs=jobs)
            return run(request, watch, n_jobs=jobs, force=force, has_profile=profile)
    except KeyboardInterrupt:
        raise cli.interrupted(len(request.run.stored_folds()), "cv") from None


if __name__ == "__main__":
    cli.run(cv)
