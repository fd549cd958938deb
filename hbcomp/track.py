"""The command `python -m hbcomp.track`: a run as an experiment tracker shows it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Look")
def track(
    run: Annotated[str, typer.Argument(help="A run, also one that is still training.")],
    to: Annotated[
        options.TrackerName,
        typer.Option(help='The tracker; each is an extra: pip install "hbcomp[mlflow]".'),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(help="Where it keeps its files; default: tracking/ for those that need one."),
    ] = None,
) -> dict[str, Any]:
    """Give a tracker what it lacks of a run: configuration, every epoch of its folds, score.

    `cv --track` does so while it trains. Nothing is sent anywhere unless the tracker itself is set
    up to: Weights & Biases is used offline, and its `wandb sync` uploads. What a tracker has is
    kept in tracking.json; without this file, a run is given to it again, as another one.

    Examples: hbcomp track mine --to tensorboard

    hbcomp track mine --to mlflow --folder tracking
    """
    from hbcomp.experiment.folder import find_run
    from hbcomp.tracking.replay import replay_run

    return replay_run(find_run(run), to, folder, cli.console)


if __name__ == "__main__":
    cli.run(track)
