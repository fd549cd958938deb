"""How long every command takes to show its help."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from bench.children import run_python
from bench.timing import Spread, interleaved, spread_cells
from hbcomp.reporting.pages import Table

N_ROUNDS = 3
# In a process of its own: a command may not import the program that lists all commands.
LIST = "import json, hbcomp.__main__ as m; print(json.dumps([c.name for c in m.commands()]))"


def measure() -> dict[str, Any]:
    """Return the seconds of `python -m hbcomp.COMMAND --help` by command."""
    names: list[str] = json.loads(run_python(["-c", LIST], Path.cwd()).stdout)
    contenders = {name: partial(_seconds, f"hbcomp.{name}") for name in names}
    seconds = interleaved(contenders, N_ROUNDS)
    return {"seconds": {name: Spread.of(seconds[name]).to_json() for name in names}}


def _seconds(module: str) -> float:
    return run_python(["-m", module, "--help"], Path.cwd()).seconds


def tables(numbers: dict[str, Any]) -> list[Table]:
    """Return the numbers for people."""
    rows = [[name, *spread_cells(spread)] for name, spread in numbers["seconds"].items()]
    return [Table("start-up: --help", ["command", "seconds", "low", "high"], rows)]
