"""The command `python -m hbcomp.predict`: a finished run's nets and rule, applied to new data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp import cli


def predict(
    run: Annotated[str, typer.Argument(help="A finished experiment.")],
    data: Annotated[
        Path | None, typer.Option(help="The file to answer; default: the run's own test file.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; default: submissions/RUN-DATA.csv.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; default: as the run.")
    ] = None,
) -> dict[str, Any]:
    """Answer new data with the mean of a run's nets under the run's rule.

    For the run's own test file, on the device it ran on, this gives the very bytes it wrote.

    Example: python -m hbcomp.predict resnet --data testB.csv
    """
    from hbcomp.application import apply_run
    from hbcomp.experiment.folder import find_run

    return apply_run(find_run(run), data, out, device, cli.console)


def main() -> None:
    """Run the command."""
    cli.run(predict)


if __name__ == "__main__":
    main()
