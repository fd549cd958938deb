"""The command `python -m hbcomp.folds`: the folds of an experiment as a file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hbcomp.system import command as cli
from hbcomp.system import options


@cli.command("Train", then="hbcomp import-oof NAME --oof OOF.csv --like {experiment}")
def folds(
    experiment: options.Experiment,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("folds.csv"),
    seed: options.Seed = None,
    assignments: options.Assignments = None,
    train: options.Train = None,
    competition: options.OfCompetition = None,
) -> dict[str, Any]:
    """Write id,fold of every labelled row, the fold in which an experiment holds it out.

    `folds.file` reads such a file. An existing file is never overwritten.

    Example: hbcomp folds resnet --train train.csv --out folds.csv
    """
    from hbcomp.competitions.load import load_data
    from hbcomp.data.splits import make_folds, pick_seed
    from hbcomp.data.tables import write_values
    from hbcomp.experiment.setup import prepare

    config = prepare(
        experiment, options.assigned(assignments, train, competition=competition), None
    ).config
    split = pick_seed(config.folds, seed)
    # Without the test file: the folds do not depend on it, and it may be elsewhere.
    rows, _ = load_data(config.data.model_copy(update={"test": None}))
    made = make_folds(config.folds, rows, split)
    write_values(out, "fold", made.fold_of_row, rows.ids)
    cli.console.print(f"{out}: {rows.n_rows:,} rows in {made.n_folds} folds, seed {split}")
    return {
        "file": str(out),
        "n_rows": rows.n_rows,
        "n_folds": made.n_folds,
        "seed": split,
        "fingerprint": made.fingerprint,
    }


if __name__ == "__main__":
    cli.run(folds)
