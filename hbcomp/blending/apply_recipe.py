"""A blend's recipe on new data: every base model predicts, and the recipe makes the answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped
from rich.console import Console

from hbcomp.blending.base_models import BaseModels, load_base_models
from hbcomp.blending.probs_files import read_probs, rounding
from hbcomp.competitions.load import read_rows
from hbcomp.crossval.predict import probs_of_folds
from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.experiment.finish import provenance_of
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.recipe import BlendRecipe, read_recipe
from hbcomp.experiment.report import read_report
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import write_submission
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.system.files import stem

Ids = Shaped[np.ndarray, " n"]
Stack = Float64[np.ndarray, "m n k"]
Predicted = Mapping[str, tuple[Dataset, Float64[np.ndarray, "n k"]]]


def apply_blend(
    folder: RunFolder,
    data: Path | None,
    out: Path | None,
    device: str | None,
    files: Mapping[str, Path],
    console: Console,
) -> dict[str, Any]:
    """Write the submission that a blend's recipe gives for `data`, and return its numbers.

    Imported base models have no nets: `files` hold their probabilities of the rows of `data`.
    Without `data` the blend's own test rows are answered.
    """
    recipe = read_recipe(folder.recipe_file)
    report = read_report(folder.report_file)
    base_models = load_base_models(recipe.base_models)
    _check_fingerprints(folder, recipe, base_models)
    imported = [name for name in base_models.names if _is_imported(name)]
    _check_files(imported, data, files)
    predicted = {
        name: probs_of_folds(find_run(name), data, device, console)
        for name in base_models.names
        if name not in imported
    }
    if data is None:
        ids, stack = _own_test_rows(base_models, predicted)
    else:
        ids, stack = _new_rows(base_models, predicted, data, files, console)
    path = out or FOLDER / f"{folder.name}{f'-{stem(data)}' if data else ''}.csv"
    names = ", ".join(recipe.base_models)
    origin = f"predict by {recipe.method} of {names} on {data or 'its test'}"
    provenance = provenance_of(
        report.of_other_rows(len(ids)) if data else report,
        folder.name,
        origin,
        report.data.n_train,
        is_optimistic=report.is_optimistic,
    )
    form = report.form.of_other_rows(ids.tolist()) if data else report.form
    write_submission(path, ids, recipe.answers(stack), provenance, form)
    return {
        "experiment": folder.name,
        "n_rows": len(ids),
        "base_models": list(recipe.base_models),
        "rule": recipe.rule_name,
        "submission": str(path),
    }


def _check_fingerprints(folder: RunFolder, recipe: BlendRecipe, base_models: BaseModels) -> None:
    """Refuse base models that are not what the recipe was fitted on."""
    pairs = zip(base_models.names, base_models.fingerprints, recipe.fingerprints, strict=True)
    if changed := [name for name, now, then in pairs if now != then]:
        problems = [f"{name} was trained or imported again since; blend again" for name in changed]
        raise InputError.of(folder.recipe_file, problems)


def _check_files(imported: list[str], data: Path | None, files: Mapping[str, Path]) -> None:
    """Refuse a file for a base model that needs none, and new data without one that is needed."""
    problems = [f"{name} is no imported base model" for name in files if name not in imported]
    if data is None:
        problems += [f"{name} needs no file for the test rows it came with" for name in files]
    else:
        problems += [
            f"{name} was imported and has no nets; "
            f"give its probabilities with --base-model {name}=FILE"
            for name in imported
            if name not in files
        ]
    if problems:
        raise InputError.of("base models", problems)


def _is_imported(name: str) -> bool:
    return read_report(find_run(name).report_file).kind == "imported"


def _own_test_rows(base_models: BaseModels, predicted: Predicted) -> tuple[Ids, Stack]:
    """Return the ids and the stack of the test rows that the blend was made on.

    A test file that holds other rows now is refused.
    """
    first = base_models.first
    problems = [
        f"{dataset.source} holds other rows than {name} was made on; name it with --data"
        for name, (dataset, _) in predicted.items()
        if dataset.fingerprint != first.test_fingerprint
    ]
    if problems or not first.test_fingerprint:
        raise InputError.of("test rows", problems or ["there are none; name a file with --data"])
    stack = [
        predicted[name][1] if name in predicted else stored.test_probs
        for name, stored in base_models.predictions.items()
    ]
    return first.test_ids, np.stack(stack)


def _new_rows(
    base_models: BaseModels,
    predicted: Predicted,
    data: Path,
    files: Mapping[str, Path],
    console: Console,
) -> tuple[Ids, Stack]:
    """Return the ids of the rows of `data` and every base model's probabilities of them."""
    datasets = [dataset for dataset, _ in predicted.values()]
    dataset = (
        datasets[0]
        if datasets
        else read_rows(data, _data_config(base_models.names[0]), labelled=False)
    )
    probs = {name: each for name, (_, each) in predicted.items()}
    for name in base_models.names:
        if name not in probs:
            classes = base_models.metric_spec.classes
            read = read_probs(files[name], dataset, classes, normalise=False)
            if read.n_rounded:
                console.print(f"{files[name]}: {rounding(read.n_rounded)}")
            probs[name] = read.probs
    return dataset.ids, np.stack([probs[name] for name in base_models.names])


def _data_config(name: str) -> DataConfig:
    """Return how the files of an experiment are read."""
    report = find_run(name).report_file
    return validate(DataConfig, read_report(report).data_config, report)
