"""All checks of several experiments, as a table and as numbers."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from hbcomp.experiment.folder import find_run, finished_runs
from hbcomp.reporting.pages import Table, print_table
from hbcomp.system.command import CheckError
from hbcomp.system.errors import InputError
from hbcomp.verification.checks import Check, verify_run


def verify_runs(
    runs: Sequence[str] | None, nets: Sequence[str] | None, console: Console
) -> dict[str, Any]:
    """Print the checks of the runs, or of all finished ones, and return their counts.

    A failed check is a CheckError. `nets` are as in `verify_run`.
    """
    names = runs or finished_runs()
    if not names:
        raise InputError("there is no finished experiment under experiments/")
    checks: list[Check] = [check for name in names for check in verify_run(find_run(name), nets)]
    rows = [[each.experiment, each.name, each.status, each.detail] for each in checks]
    table = Table("Computed again", ["experiment", "check", "result", "details"], rows)
    print_table(table, console)
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
        raise CheckError(message, numbers)
    return numbers
