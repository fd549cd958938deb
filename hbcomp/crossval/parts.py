"""Some of a run's folds: trained here, while other processes or machines train others."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from hbcomp.crossval.loop import begin, train_begun
from hbcomp.crossval.training_data import load_training_data
from hbcomp.experiment.folder import locked, locked_folds
from hbcomp.experiment.predictions import Fold
from hbcomp.experiment.setup import Request, write_config
from hbcomp.system.command import console
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch

SECONDS_TO_BEGIN = 300.0  # assumed: of as many processes as begin at the same time, in turn
KEY = re.compile(r"(\d{1,10})-(\d{1,9})")
PART = re.compile(r"(\d{1,9})/(\d{1,9})")

Key = tuple[int, int]


def chosen_folds(only: str | None, part: str | None, keys: Sequence[Key]) -> list[Key]:
    """Return the (seed, fold) of `keys` that `SEED-FOLD,...` or `PART/PARTS` names.

    Parts take the folds in turn, so their sizes differ by one fold at most.
    """
    if part is not None:
        found = PART.fullmatch(part)
        number, n_parts = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= n_parts:
            raise InputError(f"--part must be like 2/5, from 1/5 to 5/5, but got {part}")
        return list(keys[number - 1 :: n_parts])
    words = [word.strip() for word in (only or "").split(",")]
    wrong = [word for word in words if not KEY.fullmatch(word)]
    named = [tuple(map(int, word.split("-"))) for word in words if word not in wrong]
    wrong += [f"{seed}-{fold}" for seed, fold in named if (seed, fold) not in keys]
    if wrong:
        raise InputError(
            f"--only must name folds as SEED-FOLD, with commas between them, from "
            f"{_name(keys[0])} to {_name(keys[-1])}, but got {', '.join(wrong)}"
        )
    return [key for key in keys if key in named]


def run(
    request: Request,
    watch: Stopwatch,
    *,
    only: str | None,
    part: str | None,
    n_jobs: int | None,
) -> dict[str, Any]:
    """Train and store some folds of an experiment, and return the numbers of the last line.

    Nothing is assembled. Several processes may do so in one folder, or in folders of their own,
    whose `folds/` are then copied together: a fold that another process trains is left to it.
    """
    config, run = request.config, request.run
    with watch.phase("read"):
        training_data = load_training_data(config)
    keys = training_data.fold_keys
    chosen = chosen_folds(only, part, keys)
    with ExitStack() as stack:
        with locked(run, seconds=SECONDS_TO_BEGIN, is_shared=True):
            write_config(request, force=False)
            begun = begin(config, training_data, run, chosen, watch, n_jobs=n_jobs)
            held = stack.enter_context(locked_folds(run, begun.pending))
        if others := [_name(key) for key in begun.pending if key not in held]:
            console.print(f"left to the processes that train them: {', '.join(others)}")
        train_begun(config, training_data, run, begun.only(held), watch)
    missing = [key for key in keys if not run.is_done(*key)]
    console.print(
        f"{run.name}: {len(held)} folds trained, {len(keys) - len(missing)} of {len(keys)} are "
        f"stored in {run.folds_folder}"
    )
    return {
        "experiment": run.name,
        "folds_trained": list(map(_name, held)),
        "folds_missing": list(map(_name, missing)),
        "seconds": round(watch.total(), 1),
        "next": f"hbcomp cv {run.name}",
    }


def _name(key: tuple[int, Fold]) -> str:
    return f"{key[0]}-{key[1]}"
