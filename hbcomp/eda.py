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
        Path | None, typer.Argument(help="A labelled CSV or parquet file; default: the sample.")
    ] = None,
    test: options.Test = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: experiments/eda/<file>.")
    ] = None,
    id_column: options.IdColumn = "id",
    signal_column: options.SignalColumn = "heartbeat_signals",
    label_column: options.LabelColumn = "label",
    ignored_columns: options.IgnoredColumns = None,
) -> dict[str, Any]:
    """Describe a data set: classes, lengths, values, duplicates, shift to test, example signals.

    Prints tables and writes index.html and its pictures.

    Example: hbcomp eda train.csv --test testA.csv
    """
    from hbcomp.analysis.describe_data import look_at
    from hbcomp.competitions.load import load_data
    from hbcomp.data.dataset import as_options, data_config
    from hbcomp.system.files import stem

    config = data_config(
        train=data,
        test=test,
        id_column=id_column,
        signal_column=signal_column,
        label_column=label_column,
        ignored_columns=ignored_columns,
    )
    name = stem(data) if data else "bundled"
    numbers = look_at(*load_data(config), out or FOLDER / name, cli.console)
    words = ["hbcomp", "cv", "resnet", *as_options(config), "--name", "NAME"]
    return {**numbers, **({"next": shlex.join(words)} if data else {})}


if __name__ == "__main__":
    cli.run(eda)
