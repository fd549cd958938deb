"""The command `python -m hbcomp.check`: would the leaderboard accept this file?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp import cli


def check(
    file: Annotated[Path, typer.Argument(help="The submission to check.")],
    test: Annotated[
        Path | None, typer.Option(help="The file with the test ids; default: the bundled one.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=2, help="The number of classes; default: as the header says.")
    ] = None,
    id_column: Annotated[str, typer.Option(help="The test file's id column.")] = "id",
    signal_column: Annotated[
        str, typer.Option(help="The test file's signal column.")
    ] = "heartbeat_signals",
) -> dict[str, Any]:
    """Check header, ids and their order, and that every answer is a finite number in [0, 1].

    Example: hbcomp check submissions/mine.csv --test testA.csv
    """
    from hbcomp.data.dataset import DataConfig
    from hbcomp.data.reader import read_dataset
    from hbcomp.data.sample import TEST
    from hbcomp.submissions.files import check_submission

    columns = DataConfig(id_column=id_column, signal_column=signal_column)
    beats = read_dataset(test or TEST, columns, labelled=False)
    submission = check_submission(file, beats.ids, classes)
    n_rows, n_classes = submission.answers.shape
    cli.console.print(f"{file}: {n_rows:,} rows, {n_classes} classes, every check passed")
    return {"file": str(file), "n_rows": n_rows, "n_classes": n_classes, "accepted": True}


def main() -> None:
    """Run the command."""
    cli.run(check)


if __name__ == "__main__":
    main()
