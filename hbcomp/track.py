"""The command `python -m hbcomp.track`: a run as an experiment tracker shows it."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hbcomp.system import command as cli


@cli.command("Look")
def track(
    run: Annotated[str, typer.Argument(help="A run, also one that is still training.")],
    to: Annotated[
        Literal["tensorboard", "mlflow", "wandb", "trackio"],
        typer.Option(help='The tracker; each is an extra: pip install "hbcomp[mlflow]".'),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(help="Where it keeps its files; default: tracking/ for those that need one."),
    ] = None,
) -> dict[str, Any]:
    """Replay a run into a tracker: its configuration, every epoch of its stored folds, its score.

    Nothing is sent anywhere unless the tracker itself is set up to: Weights & Biases is used
    offline, and its `wandb sync` uploads. A run that is replayed again is there twice.

    Examples: hbcomp track mine --to tensorboard

    hbcomp track mine --to mlflow --folder tracking
    """
    from hbcomp.experiment.folder import find_run
    from hbcomp.tracking.replay import replay_run

    return replay_run(find_run(run), to, folder, cli.console)


if __name__ == "__main__":
    cli.run(track)
