"""The command `python -m hbcomp.import_oof`: probabilities made elsewhere, as an experiment."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Combine", then="hbcomp blend {experiment} OTHER")
def import_oof(
    name: Annotated[str, typer.Argument(help="What to call the experiment.")],
    oof: Annotated[
        Path,
        typer.Option(help="Out-of-fold probabilities: CSV with id,[label,][fold,]prob_CLASS,..."),
    ],
    like: Annotated[
        str | None,
        typer.Option(help="The experiment whose rows, folds, metric and decision rule it shares."),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Probabilities of the test rows: CSV with id,prob_CLASS,...")
    ] = None,
    competition: Annotated[
        str | None,
        typer.Option(
            help="Whose metric scores it: one that ships with hbcomp, or a folder with a "
            "competition.toml; default: that of --like, or else heartbeat."
        ),
    ] = None,
    trust: options.Trust = False,
    assignments: options.Assignments = None,
    train: options.Train = None,
    test_data: options.Test = None,
    seed: options.Seed = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", help="Divide rows that do not sum to 1 by their sum.")
    ] = False,
    force: options.Force = False,
) -> dict[str, Any]:
    """Import probabilities that were made elsewhere: they blend, compare and report like a run.

    Rows are matched by id. A fold column says over which folds they were made; without one they
    are taken as made over the experiment's own, which `hbcomp folds` writes.

    Examples: hbcomp import-oof lightgbm --oof oof.csv --test test.csv --like resnet

    hbcomp import-oof lightgbm --oof oof.csv --train train.csv --competition my-competition
    """
    from hbcomp.blending.import_probs import ImportOptions, run
    from hbcomp.experiment.config import Config
    from hbcomp.experiment.folder import find_run
    from hbcomp.experiment.setup import prepare
    from hbcomp.system.config import override, validate

    changes = options.assigned(assignments, train, test_data, competition)
    config = (
        prepare(like, changes, None).config
        if like
        else validate(Config, override({}, changes), "options")
    )
    wanted = ImportOptions(oof, test, like or "", config, seed, normalise, trust)
    return run(wanted, find_run(name), force=force)


if __name__ == "__main__":
    cli.run(import_oof)
