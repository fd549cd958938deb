"""A blend's recipe on new data: every member's nets, combined, calibrated, answered."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped
from rich.console import Console

from hbcomp.blending.import_probs import read_probs, rounding
from hbcomp.blending.members import Members, load_members
from hbcomp.blending.recipe import BlendRecipe, read_recipe
from hbcomp.crossval.predict import probs_of_folds
from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.reader import read_dataset
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.report import read_report
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance, write_submission
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.system.files import stem

Ids = Shaped[np.ndarray, " n"]


def apply_blend(
    folder: RunFolder,
    data: Path | None,
    out: Path | None,
    device: str | None,
    files: Mapping[str, Path],
    console: Console,
) -> dict[str, Any]:
    """Write the submission that a blend's recipe gives for `data`, and return its numbers.

    `files` hold, for rows other than the test rows they came with, the probabilities of members
    that were imported and so have no nets. Without `data` the blend's own test rows are answered.
    """
    recipe = read_recipe(folder.recipe_file)
    report = read_report(folder.report_file)
    members = load_members(recipe.members)
    _check_members(folder, recipe, members)
    _check_files(recipe, data, files)
    ids, stack = _stack(members, data, device, files, console)
    path = out or FOLDER / f"{folder.name}{f'-{stem(data)}' if data else ''}.csv"
    provenance = Provenance(
        source=folder.name,
        recipe=f"predict by {recipe.method} of {', '.join(recipe.members)} on {data or 'its test'}",
        rule=recipe.rule_name,
        expected_per_20k=report.expected_per_20k,
        standard_error=report.expected_standard_error,
        n_scored=report.data.n_train,
    )
    write_submission(path, ids, recipe.answers(stack), provenance, report.id_column)
    return {
        "experiment": folder.name,
        "n_rows": len(ids),
        "members": list(recipe.members),
        "rule": recipe.rule_name,
        "submission": str(path),
    }


def _check_members(folder: RunFolder, recipe: BlendRecipe, members: Members) -> None:
    """Refuse members that are not what the recipe was fitted on."""
    pairs = zip(members.names, members.fingerprints, recipe.member_fingerprints, strict=True)
    if changed := [name for name, now, then in pairs if now != then]:
        problems = [f"{name} was trained or imported anew since; blend again" for name in changed]
        raise InputError.of(folder.recipe_file, problems)


def _check_files(recipe: BlendRecipe, data: Path | None, files: Mapping[str, Path]) -> None:
    """Refuse a file for a member that needs none, and new data without one that is needed."""
    imported = [name for name in recipe.members if _is_imported(name)]
    problems = [f"{name} is no imported member" for name in files if name not in imported]
    if data is None:
        problems += [f"{name} needs no file for the test rows it came with" for name in files]
    else:
        problems += [
            f"{name} was imported and has no nets; give its probabilities with --member {name}=FILE"
            for name in imported
            if name not in files
        ]
    if problems:
        raise InputError.of("members", problems)


def _is_imported(name: str) -> bool:
    return read_report(find_run(name).report_file).kind == "imported"


def _stack(
    members: Members,
    data: Path | None,
    device: str | None,
    files: Mapping[str, Path],
    console: Console,
) -> tuple[Ids, Float64[np.ndarray, "m n k"]]:
    """Return the ids of the rows and every member's probabilities of them, in recipe order."""
    of_nets = {
        name: probs_of_folds(find_run(name), data, device, console)
        for name in members.names
        if not _is_imported(name)
    }
    if data is None:
        _check_test(of_nets, members)
        stored = members.predictions
        stack = [
            of_nets[name][1] if name in of_nets else stored[name].test_probs for name in stored
        ]
        return members.first.test_ids, np.stack(stack)
    beats = next((beats for beats, _ in of_nets.values()), None)
    if beats is None:
        beats = read_dataset(data, _columns(members.names[0]), labelled=False)
    n_classes = members.first.test_probs.shape[1]
    stack = []
    for name in members.names:
        if name in of_nets:
            stack.append(of_nets[name][1])
            continue
        read = read_probs(files[name], beats, n_classes, normalise=False)
        if read.n_rounded:
            console.print(f"{files[name]}: {rounding(read.n_rounded)}")
        stack.append(read.probs)
    return beats.ids, np.stack(stack)


def _check_test(of_nets: Mapping[str, tuple[Dataset, Any]], members: Members) -> None:
    """Refuse a test file that is no longer the one that the blend was made on."""
    wanted = members.first.test_fingerprint
    problems = [
        f"{beats.source} holds other beats than {name} was made on; name it with --data"
        for name, (beats, _) in of_nets.items()
        if beats.fingerprint != wanted
    ]
    if problems or not wanted:
        raise InputError.of("test rows", problems or ["there are none; name a file with --data"])


def _columns(name: str) -> DataConfig:
    """Return how the beats of an experiment's files are read."""
    report = find_run(name).report_file
    return validate(DataConfig, read_report(report).data_config, report)
