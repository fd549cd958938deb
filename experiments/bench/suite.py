"""All parts of the benchmark in order, what they ran on, and the files that `--save` writes."""

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import deciding, reading, scaling, startup, train
from hbcomp.nets.registry import config_class
from hbcomp.reporting.pages import Table, print_table
from hbcomp.system.command import console
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError, check_name
from hbcomp.system.files import write_text

FOLDER = Path(__file__).parents[1] / "results" / "bench"
Numbers = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of the benchmark: what measures it, given the nets, and what shows its numbers.

    What `measure` yields is shown at once, so that a benchmark that is cut off has shown what it
    measured.
    """

    measure: Callable[[Sequence[str]], Iterable[Numbers]]
    tables: Callable[[Numbers], list[Table]]


PARTS = {
    "train": Part(train.measure, train.tables),
    "read": Part(lambda _: [reading.measure()], reading.tables),
    "thresholds": Part(lambda _: [deciding.measure()], deciding.tables),
    "scaling": Part(lambda _: [scaling.measure()], scaling.tables),
    "startup": Part(lambda _: [startup.measure()], startup.tables),
}


def measure_all(only: Sequence[str], nets: Sequence[str], *, save: bool) -> Numbers:
    """Return the numbers of the parts named in `only`, or of all; with `save`, also write them."""
    _check(only, nets, save=save)
    start = time.perf_counter()
    numbers: Numbers = {"machine": asdict(machine())}
    shown: list[Table] = []
    for name, part in PARTS.items():
        if not only or name in only:
            console.print(f"{name}: begins after {time.perf_counter() - start:.0f} s")
            numbers[name] = {}
            for found in part.measure(nets):
                numbers[name].update(found)
                for table in part.tables(found):
                    print_table(table, console)
                    shown.append(table)
    numbers["seconds"] = round(time.perf_counter() - start, 1)
    if save:
        write_result(FOLDER, numbers, shown)
    return numbers


def _check(only: Sequence[str], nets: Sequence[str], *, save: bool) -> None:
    for name in only:
        check_name("--only", name, PARTS)
    for name in nets:
        config_class(name)
    if only and save:
        raise InputError("--save writes a whole result, so it does not go with --only")


def slug(about: dict[str, Any]) -> str:
    """Return the name of a result's files: the GPU, or the cores and the CPU."""
    text = about["gpu"] or f"{about['n_cores']} cores {about['cpu']}"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def write_result(folder: Path, numbers: Numbers, shown: Sequence[Table]) -> None:
    """Write the numbers as JSON and the tables as Markdown, each file whole or not at all."""
    about = numbers["machine"]
    name = slug(about)
    write_text(folder / f"{name}.json", json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    facts = ", ".join(f"{key} {value}" for key, value in about.items() if value is not None)
    head = f"# Benchmarks of hbcomp\n\n{facts}; {numbers['seconds']:.0f} s in all."
    page = "\n\n".join([head, *map(markdown, shown)])
    write_text(folder / f"{name}.md", page + "\n")
    console.print(f"written: {folder / name}.json and .md")


def markdown(table: Table) -> str:
    """Return a table as Markdown under its title."""
    rules = ["--:" if is_numeric else "---" for is_numeric in table.is_numeric]
    lines = [table.header, rules, *table.rows]
    rows = ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    return "\n".join([f"**{table.title}**", "", *rows])
