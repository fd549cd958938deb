"""The command `python -m hbcomp.init`: from a competition's files to its competition.toml."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hbcomp.system import command as cli


@cli.command("Train", then="hbcomp cv --competition {folder}")
def init(
    train: Annotated[Path, typer.Option(help="The labelled file.")],
    test: Annotated[Path | None, typer.Option(help="The file to answer.")] = None,
    sample: Annotated[
        Path | None, typer.Option(help="The sample submission: header and order of the rows.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="The score, e.g. accuracy or macro-f1.  [default: by kind]")
    ] = None,
    kind: Annotated[
        Literal["probabilities", "probability", "label"] | None,
        typer.Option(help="What is submitted.  [default: as the sample submission has it]"),
    ] = None,
    folder: Annotated[Path, typer.Option("--to", help="Where to write competition.toml.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace a competition.toml.")] = False,
) -> dict[str, Any]:
    """Write the competition.toml of a competition, and say what was inferred and why.

    Look it over: it says how files are read, what the score is and what a submission looks like.

    Example: hbcomp init --train train.csv --test test.csv --sample sample_submission.csv
    """
    from hbcomp.competitions.write import write_competition

    return write_competition(
        folder, train, test, sample, metric, kind, cli.console, is_forced=force
    )


if __name__ == "__main__":
    cli.run(init)
