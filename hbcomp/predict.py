"""The command `python -m hbcomp.predict`: a finished experiment, applied to new data."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Submit", then="hbcomp check {submission}")
def predict(
    run: options.Finished,
    data: Annotated[
        Path | None, typer.Option(help="The file to answer; default: the run's own test file.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; default: submissions/RUN-DATA.csv.")
    ] = None,
    fold: Annotated[
        Literal["all"] | None,
        typer.Option(metavar="all", help="Use the nets that `cv RUN --fold all` trained."),
    ] = None,
    base_models: Annotated[
        list[str] | None,
        typer.Option(
            "--base-model",
            metavar="NAME=FILE",
            help="Probabilities of the rows by a blend's imported base model.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; default: as the run.")
    ] = None,
) -> dict[str, Any]:
    """Answer new data with the mean of a run's nets under the run's rule.

    For the run's own test file, on the device it ran on, this gives the very bytes it wrote.
    With --fold all, the nets that were trained on everything answer. A blend is answered by its
    recipe: every base model's nets, combined, calibrated and decided as it says.

    Examples: hbcomp predict resnet --data testB.csv

    hbcomp predict blend --data testB.csv --base-model lightgbm=lightgbm-testB.csv
    """
    from hbcomp.crossval.predict import apply_run
    from hbcomp.experiment.folder import find_run
    from hbcomp.system.errors import InputError

    found, files = find_run(run), _files(base_models or [])
    if not found.recipe_file.exists():
        if files:
            raise InputError(f"--base-model is for a blend, but {run} is none")
        return apply_run(found, data, out, device, cli.console, is_refit=fold is not None)
    from hbcomp.blending.apply_recipe import apply_blend

    if fold:
        raise InputError(f"--fold all is for a run, but {run} is a blend")
    return apply_blend(found, data, out, device, files, cli.console)


def _files(assignments: list[str]) -> dict[str, Path]:
    from hbcomp.system.errors import InputError

    pairs = [assignment.partition("=") for assignment in assignments]
    if wrong := [whole for whole, pair in zip(assignments, pairs, strict=True) if not all(pair)]:
        raise InputError(f"--base-model must look like NAME=FILE, but got {', '.join(wrong)}")
    names = [name for name, _, _ in pairs]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"--base-model takes one file for each name, but {', '.join(doubled)} has two"
        )
    return {name: Path(file) for name, _, file in pairs}


if __name__ == "__main__":
    cli.run(predict)
