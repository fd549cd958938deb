"""The command `python -m hbcomp.eda`: a description of a data set, as numbers and as a page."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options

FOLDER = Path("experiments/eda")


@cli.command("Look")
def eda(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="A labelled file; default: that of the competition, or else the sample."
        ),
    ] = None,
    test: options.Test = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: experiments/eda/<file>.")
    ] = None,
    competition: options.Competition = "heartbeat",
) -> dict[str, Any]:
    """Describe a data set: classes, lengths, values, duplicates, shift to test, example signals.

    Prints tables and writes index.html and its pictures.

    Examples: hbcomp eda train.csv --test testA.csv

    hbcomp eda --competition FOLDER
    """
    from hbcomp.analysis.describe_data import look_at
    from hbcomp.competitions.competition import DEFAULT, load_competition
    from hbcomp.competitions.load import load_data
    from hbcomp.data.dataset import as_options, data_config
    from hbcomp.system.files import stem

    config = data_config(competition=competition, train=data, test=test)
    name = stem(data) if data else "bundled"
    if competition != DEFAULT:
        name = load_competition(competition).name
    numbers = look_at(*load_data(config), out or FOLDER / name, cli.console)
    words = ["hbcomp", "cv", "resnet", *as_options(config), "--name", "NAME"]
    return {**numbers, **({"next": shlex.join(words)} if as_options(config) else {})}


if __name__ == "__main__":
    cli.run(eda)
