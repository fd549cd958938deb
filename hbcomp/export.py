"""The command `python -m hbcomp.export`: a finished run or blend as a folder that answers."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Submit")
def export(
    run: options.Finished,
    to: Annotated[Path, typer.Option(help="The folder to write.")],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write one ONNX graph instead of weights.")
    ] = False,
    fold: Annotated[
        Literal["all"] | None,
        typer.Option(metavar="all", help="The nets that `cv RUN --fold all` trained."),
    ] = None,
    force: options.Force = False,
) -> dict[str, Any]:
    """Write what a run or a blend needs to answer into one folder: nets, rule, competition.

    `hbcomp.load(FOLDER).predict(signals)` answers without training code, the data or the run. An
    ONNX graph holds scale, nets, their mean and the rule, and needs onnxruntime only; to write one,
    install "hbcomp[onnx]". A run on lines is exported with its training rows.

    Examples: hbcomp export mine --to mine-model

    hbcomp export mine --to mine-model --onnx
    """
    from hbcomp.serving.export import export_run

    return export_run(run, to, cli.console, as_onnx=onnx, fold=fold, force=force)


if __name__ == "__main__":
    cli.run(export)
