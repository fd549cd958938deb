"""The ledger as tables: its entries, and the pairs that the leaderboard orders otherwise."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hbcomp.reporting.pages import Table, print_table
from hbcomp.scoring.paired import as_text, with_interval
from hbcomp.submissions.ledger import (
    OPTIMISTIC,
    Entry,
    State,
    inversions,
    read_ledger,
    states,
    unknown_files,
)


def show(folder: Path, console: Console) -> dict[str, Any]:
    """Print a folder's ledger and return its numbers."""
    entries = read_ledger(folder)
    unknown = unknown_files(entries, folder)
    found, state_of = inversions(entries), states(entries, folder)
    print_table(entry_table(entries, state_of), console)
    if found:
        print_table(inversion_table(entries), console)
    console.print(calibration(entries))
    for name in unknown:
        console.print(f"{folder / name} is not in the ledger; was it made or edited by hand?")
    gaps = _gaps(entries)
    return {
        "n_entries": len(entries),
        "n_sent": sum(bool(entry.times_sent) for entry in entries),
        "n_scored": len(gaps),
        "mean_gap": sum(gaps) / len(gaps) if gaps else None,
        "n_inside": sum(bool(entry.is_inside) for entry in entries),
        "n_inversions": len(found),
        "n_inversions_beyond_noise": sum(each.is_beyond_noise for each in found),
        "states": dict(Counter(state_of)),
        "unknown_files": list(unknown),
    }


def entry_table(entries: Sequence[Entry], state_of: Sequence[State]) -> Table:
    """Return a row for every content, oldest first."""
    header = (
        *("file", "source", "rule", "rows", "metric"),
        *("out of fold", "expected", "sent", "leaderboard", "gap", "state"),
    )
    rows = [
        [
            entry.file,
            entry.source,
            entry.rule or "-",
            f"{entry.n_rows:,}" if entry.n_rows else "-",
            f"{entry.metric} ({entry.better})" if entry.metric else "-",
            _with_error(entry.out_of_fold, entry.standard_error)
            + (" (optimistic)" if entry.is_optimistic else ""),
            _with_interval(entry),
            f"{entry.times_sent[-1]:%Y-%m-%d %H:%M}" if entry.times_sent else "-",
            "-" if entry.leaderboard is None else as_text(entry.leaderboard),
            _gap(entry),
            state,
        ]
        for entry, state in zip(entries, state_of, strict=True)
    ]
    title = "Submissions: expected, leaderboard and gap; in brackets which scores are better; UTC"
    note = "Out of fold: ± one standard error. Expected: with its 95 % interval."
    if any(each.is_optimistic for each in entries):
        note += f" Optimistic: {OPTIMISTIC}."
    return Table(title, header, rows, note)


def inversion_table(entries: Sequence[Entry]) -> Table:
    """Return the pairs whose order on the leaderboard is not the expected one."""
    rows = [
        [
            each.expected_better.file,
            each.did_better.file,
            as_text(each.expected_difference),
            as_text(each.leaderboard_difference),
            "beyond" if each.is_beyond_noise else "within",
        ]
        for each in inversions(entries)
    ]
    header = ("expected better", "scored better", "expected by", "scored by", "noise")
    return Table("Pairs that the leaderboard orders otherwise than expected", header, rows)


def calibration(entries: Sequence[Entry]) -> str:
    """Return in a sentence how far the leaderboard is from what was expected, on average."""
    gaps = _gaps(entries)
    if not gaps:
        return "no submission has both an expected and a leaderboard score yet"
    mean = sum(gaps) / len(gaps)
    n_inside = sum(bool(entry.is_inside) for entry in entries)
    return (
        f"leaderboard minus expected: {as_text(mean, '+')} on average over {len(gaps)} "
        f"submissions; {n_inside} of them lie in their 95 % intervals"
    )


def _gaps(entries: Sequence[Entry]) -> list[float]:
    return [entry.gap for entry in entries if entry.gap is not None]


def _with_interval(entry: Entry) -> str:
    if entry.expected is None or entry.low is None or entry.high is None:
        return "-"
    return with_interval(entry.expected, entry.low, entry.high)


def _gap(entry: Entry) -> str:
    if entry.gap is None:
        return "-"
    return f"{as_text(entry.gap, '+')} ({'inside' if entry.is_inside else 'outside'})"


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return as_text(value) + ("" if error is None else f" ± {as_text(error)}")
