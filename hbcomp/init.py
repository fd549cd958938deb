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
    like: Annotated[
        str | None,
        typer.Option(help="Take metric and submission of this competition, e.g. heartbeat."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="The label's column.  [default: found]")] = None,
    row_id: Annotated[
        str | None, typer.Option("--id", help="The id's column.  [default: found]")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="A column, e.g. of patients, whose groups stay in one fold.")
    ] = None,
    folder: Annotated[Path, typer.Option("--to", help="Where to write competition.toml.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace a competition.toml.")] = False,
) -> dict[str, Any]:
    """Write the competition.toml of a competition, and say what was inferred and why.

    Look it over: it says how files are read, what the score is and what a submission looks like.

    Examples: hbcomp init --train train.csv --test test.csv --sample sample_submission.csv

    hbcomp init --train renamed.csv --like heartbeat
    """
    from hbcomp.competitions.infer import Wanted
    from hbcomp.competitions.write import write_competition

    wanted = Wanted(metric=metric, kind=kind, like=like, label=label, id=row_id, group=group)
    return write_competition(folder, train, test, sample, wanted, cli.console, is_forced=force)


if __name__ == "__main__":
    cli.run(init)
