"""The command `python -m hbcomp.diff`: how much do submission files differ?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system.errors import InputError


@cli.command("Submit")
def diff(
    files: Annotated[list[Path], typer.Argument(help="Two or more submission files.")],
) -> dict[str, Any]:
    """Count the rows that differ, by predicted class, and the maximum score difference.

    Two scores differ by at most the sum of |a - b| over rows and classes. More than two files give
    a matrix of all pairs.

    Example: hbcomp diff submissions/resnet.csv submissions/blend.csv
    """
    from hbcomp.submissions.differences import compare_files

    if len(files) < 2:
        raise InputError(f"two files or more are compared, but got only {files[0]}")
    return compare_files(files, cli.console)


if __name__ == "__main__":
    cli.run(diff)
