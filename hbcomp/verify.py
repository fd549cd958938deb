"""The command `python -m hbcomp.verify`: are the results of finished experiments reproducible?"""

from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system.errors import InputError


@cli.command("Look")
def verify(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Experiments; default: all finished ones."),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(metavar="SEED-FOLD", help="The net that predicts again; default: the first."),
    ] = None,
    all_folds: Annotated[
        bool, typer.Option("--all-folds", help="Let every net predict again.")
    ] = False,
) -> dict[str, Any]:
    """Compute the results of finished experiments again; exit code 2 if any differs.

    These are compared: every file with its sha256 in manifest.json; scores with those of the stored
    predictions; predictions with those of the folds; oof.csv and test.csv; the submission and its
    row in the ledger; the data's fingerprints; one net's probabilities with those of its weights,
    to the bit on the machine that trained it; a blend with what its recipe gives.

    All files that cv, import-oof and blend write are checked, but not lock files, studies.db,
    tuning/, space.toml, pictures/threshold-study.png and your own files. Nothing is written.

    Examples: hbcomp verify

    hbcomp verify resnet blend --all-folds
    """
    from hbcomp.verification.verify_runs import verify_runs

    if fold and all_folds:
        raise InputError("--all-folds includes --fold; give one of the two")
    nets = [fold] if fold else [] if all_folds else None
    return verify_runs(runs, nets, cli.console)


if __name__ == "__main__":
    cli.run(verify)
