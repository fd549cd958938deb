"""Options that several commands have, each with its name and its help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Experiment = Annotated[
    str, typer.Argument(help="An experiment: the name of a folder under experiments/.")
]
Finished = Annotated[str, typer.Argument(help="A finished experiment.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the experiment, e.g. train.n_epochs=3."
    ),
]
Train = Annotated[Path | None, typer.Option(help="The labelled file: the key data.train.")]
Test = Annotated[Path | None, typer.Option(help="The file to predict: the key data.test.")]
TestIds = Annotated[
    Path | None,
    typer.Option(help="The file with the test ids; default: that of the experiment that wrote it."),
]
Sample = Annotated[
    Path | None,
    typer.Option(help="A labelled file; default: that of the competition, or else the sample."),
]
Trials = Annotated[int, typer.Option(min=1, help="Trials in total, over all calls.")]
COMPETITION = typer.Option(
    help="A competition that ships with hbcomp, or a folder with a competition.toml."
)
Competition = Annotated[str, COMPETITION]
OfCompetition = Annotated[str | None, COMPETITION]
CompetitionOfRun = Annotated[
    str | None,
    typer.Option(
        help="A competition that ships with hbcomp, or a folder with a competition.toml; default: "
        "that of the experiment that wrote the file."
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Execute the metric.py of somebody else's competition.")
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Train in this many processes at once.  [default: measured]"),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Train on the workers of a Dask scheduler, as tcp://host:8786, or of local:4.",
    ),
]
TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]
Seed = Annotated[
    int | None, typer.Option(help="One of the experiment's seeds; default: the first.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a different result of this name.")]
ByHand = Annotated[
    bool, typer.Option("--by-hand", help="Accept a file that was made or edited by hand.")
]


def assigned(
    assignments: list[str] | None,
    train: Path | None = None,
    test: Path | None = None,
    competition: str | None = None,
    cluster: str | None = None,
) -> list[str]:
    """Return what the options and --set assign to keys of the experiment, in this order."""
    from hbcomp.system.config import as_assignments

    options = {
        "data.competition": competition,
        "data.train": train,
        "data.test": test,
        "compute.cluster": cluster,
    }
    return [*as_assignments(options), *(assignments or [])]
