"""The command `python -m hbcomp.eda`: a first look at a data set, as numbers and as a page."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options

FOLDER = Path("experiments/eda")


@cli.command("Look", then="hbcomp cv resnet --train {data} --name NAME")
def eda(
    data: Annotated[
        Path | None, typer.Argument(help="A labelled CSV or parquet file; default: the sample.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="The test file that goes with it.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: experiments/eda/<file>.")
    ] = None,
    id_column: options.IdColumn = "id",
    signal_column: options.SignalColumn = "heartbeat_signals",
    label_column: options.LabelColumn = "label",
    ignored_columns: options.IgnoredColumns = None,
) -> dict[str, Any]:
    """Describe a data set: classes, lengths, values, duplicates, shift to test, example beats.

    Prints tables and writes index.html and its pictures.

    Example: hbcomp eda train.csv --test testA.csv
    """
    from hbcomp.analysis.describe_data import look_at
    from hbcomp.data.dataset import DataConfig
    from hbcomp.data.load import load_data
    from hbcomp.system.config import validate
    from hbcomp.system.files import stem

    asked = {
        "train": data,
        "test": test,
        "id_column": id_column,
        "signal_column": signal_column,
        "label_column": label_column,
        "ignored_columns": ignored_columns,
    }
    given = {key: value for key, value in asked.items() if value is not None}
    rows, test_rows = load_data(validate(DataConfig, given, ""))
    name = stem(data) if data else "bundled"
    return look_at(rows, test_rows, out or FOLDER / name, cli.console)


if __name__ == "__main__":
    cli.run(eda)
