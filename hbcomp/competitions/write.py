"""Writing the competition.toml that a competition's files imply."""

import os
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console

from hbcomp.competitions.competition import FILE, Competition, CompetitionFile
from hbcomp.competitions.infer import Wanted, infer
from hbcomp.competitions.submission_form import form_in
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.system.files import write_text

PATHS = {"train", "test", "train_labels", "sample"}


def write_competition(
    folder: Path,
    train: Path,
    test: Path | None,
    sample: Path | None,
    wanted: Wanted,
    console: Console,
    *,
    is_forced: bool,
) -> dict[str, Any]:
    """Write what the files imply, print the reasons, and return both; paths are made relative."""
    path = folder / FILE
    if path.exists() and not is_forced:
        raise InputError(f"{path}: exists; --force replaces it")
    found = infer(train, test, sample, wanted)
    found.data |= {"train": str(train)} | ({"test": str(test)} if test else {})
    for table in (found.data, found.submission):
        for key in PATHS & {*table}:
            table[key] = Path(os.path.relpath(table[key], folder)).as_posix()
    values = {
        "format": 1,
        "title": folder.resolve().name,
        "data": found.data,
        "metric": found.metric,
        "submission": found.submission,
    }
    file = validate(CompetitionFile, values, path)
    form_in(Competition(file.title, folder, file), file.data.classes)  # the sample must fit it
    write_text(path, tomli_w.dumps(values))
    for reason in found.reasons:
        console.print(reason)
    console.print(f"competition: {path}")
    return {"folder": str(folder), "competition": str(path), "settings": values}
