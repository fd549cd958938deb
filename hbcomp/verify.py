"""The command `python -m hbcomp.verify`: are the results of finished experiments reproducible?"""

from collections import Counter
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli


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
    from hbcomp.experiment.folder import find_run, finished_runs
    from hbcomp.reporting.pages import Table, print_table
    from hbcomp.system.errors import InputError
    from hbcomp.verification.checks import Check, verify_run

    if fold and all_folds:
        raise InputError("--all-folds includes --fold; give one of the two")
    nets = [fold] if fold else [] if all_folds else None
    names = runs or finished_runs()
    if not names:
        raise InputError("there is no finished experiment under experiments/")
    checks: list[Check] = [check for name in names for check in verify_run(find_run(name), nets)]
    rows = [[each.experiment, each.name, each.status, each.detail] for each in checks]
    table = Table("Computed again", ["experiment", "check", "result", "details"], rows)
    print_table(table, cli.console)
    n_of = Counter(each.status for each in checks)
    numbers = {
        "experiments": names,
        "n_checks": len(checks),
        "n_ok": n_of["ok"],
        "n_failed": n_of["FAILED"],
        "n_not_checked": n_of["not checked"],
    }
    if failed := [each for each in checks if each.status == "FAILED"]:
        named = [f"{each.experiment}: {each.name}: {each.detail}" for each in failed]
        message = f"{len(failed)} of {len(checks)} checks failed: {'; '.join(named)}"
        raise cli.CheckError(message, numbers)
    return numbers


if __name__ == "__main__":
    cli.run(verify)
