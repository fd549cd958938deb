"""The command `python -m hbcomp.tune`: search the hyperparameters of an experiment with Optuna."""

from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Train", then="hbcomp cv {winner}")
def tune(
    experiment: options.Experiment = "quickstart",
    space: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The search space, or an experiment that has one.  [default: the experiment's own "
            "space.toml, or that of its net's preset]",
        ),
    ] = None,
    trials: options.Trials = 30,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds after which no trial begins.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="How many trials train at once, each in a process.")
    ] = 1,
    cluster: options.Cluster = None,
    assignments: options.Assignments = None,
    train: options.Train = None,
    competition: options.OfCompetition = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="The fixed rule by which trials are scored: half or argmax, where the metric has "
            "them.  [default: the metric's first]"
        ),
    ] = None,
    best: Annotated[
        int,
        typer.Option(min=0, help="How many of the best trials are trained again on fresh seeds."),
    ] = 3,
    folds: Annotated[
        int | None,
        typer.Option(min=1, help="Train only the first folds of each trial.  [default: all]"),
    ] = None,
    interim_checks: Annotated[
        int, typer.Option(min=0, max=5, help="Interim checks within each fold, to prune trials.")
    ] = 0,
    alpha: Annotated[
        float,
        typer.Option(min=0.001, max=0.499, help="Chance of pruning a trial as good as the best."),
    ] = 0.05,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Seed of the sampler, the folds and the nets.")
    ] = 0,
    name: Annotated[
        str, typer.Option(help="The name of the study, for several of one experiment.")
    ] = "tune",
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A database for several machines, e.g. postgresql+psycopg://..."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start a new version of the study without trials.")
    ] = False,
) -> dict[str, Any]:
    """Search an experiment's hyperparameters, prune trials that fall behind, confirm the best.

    Trials are scored by cross-validation under a fixed rule. Every finished trial is kept; the
    same command continues. The winner on fresh seeds becomes an experiment for `hbcomp cv`.

    Examples: hbcomp tune quickstart --trials 30 --jobs 2

    hbcomp tune resnet --train train.csv --space my.toml --timeout 7200
    """
    from hbcomp.experiment.setup import prepare, space_file
    from hbcomp.tuning.search_space import read_space
    from hbcomp.tuning.tune_experiment import TuneOptions, run

    request = prepare(
        experiment,
        options.assigned(assignments, train, competition=competition, cluster=cluster),
        None,
    )
    tune_options = TuneOptions(
        n_trials=trials,
        timeout=timeout,
        n_jobs=jobs,
        url=storage,
        name=name,
        rule=rule,
        seed=seed,
        n_epoch_checks=interim_checks,
        alpha=alpha,
        n_folds=folds,
        n_best=best,
        is_fresh=fresh,
    )
    return run(request, read_space(space_file(request, space)), tune_options)


if __name__ == "__main__":
    cli.run(tune)
