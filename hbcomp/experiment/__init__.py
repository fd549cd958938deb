"""Experiments: their names, and where their folders are."""

import re
from pathlib import Path

from hbcomp.system.errors import InputError

ROOT = Path("experiments")  # of the working directory; here, because `folder` imports torch
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A file system's limit is 255, and files of a submission's have endings.
MAX_NAME = 200
# What other commands write where an experiment's folder or its submission would be.
RESERVED = {
    "ledger": "submissions/ledger.csv is the ledger of all submissions",
    "report.html": "`hbcomp report` writes the page experiments/report.html",
    "comparisons": "`hbcomp compare` writes its pages to experiments/comparisons/",
    "eda": "`hbcomp eda` writes its pages to experiments/eda/",
}


def check_name(name: str) -> None:
    """Raise an InputError unless an experiment of that name can be kept and submitted."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise InputError(
            "an experiment's name must be letters, digits, '.', '_' and '-', at most "
            f"{MAX_NAME}, but got {name[: MAX_NAME + 1]!r}"
        )
    # Some file systems take `Ledger` for `ledger`.
    if why := RESERVED.get(name.casefold()):
        raise InputError(f"an experiment cannot be named {name}: {why}; choose another name")
