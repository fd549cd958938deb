"""Every finished experiment on one page, and the submissions beside the leaderboard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
from jaxtyping import Float64
from rich.console import Console

from hbcomp.analysis.scored_rows import ScoredRows
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import Report, read_report
from hbcomp.reporting import pages
from hbcomp.reporting.figures import comparisons as pictures
from hbcomp.reporting.links import PAGES, comparisons
from hbcomp.reporting.pages import Link, Picture, Section, Table, Text
from hbcomp.scoring.choice import CANDIDATES
from hbcomp.scoring.paired import Difference, paired_difference
from hbcomp.submissions import ledger
from hbcomp.submissions import ledger_tables as tables
from hbcomp.submissions.ledger import Entry
from hbcomp.system.errors import InputError

N_PAIRED: Final = 10  # best ones of a group; measured: 0.5 s each with a fitted rule, 100,000 rows
N_DRAWN: Final = 30  # best ones in a picture: a screen

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of the ranking: an experiment, its difference to the best one, and its submission.

    `page` is its own report, if there is one.
    """

    name: str
    report: Report
    written: str
    page: PurePath | None
    against_best: Difference | None = None
    submitted: Entry | None = None  # to the leaderboard, and scored there


Group = Sequence[Row]


def write_leaderboard(root: Path, submissions: Path, console: Console) -> Numbers:
    """Write `report.html` below `root`, print the ranking and return its numbers."""
    found, unreadable = read_rows(root)
    if not found and not unreadable:
        raise InputError(f"{root}: no finished experiment; `hbcomp cv` makes one")
    entries = ledger.read_ledger(submissions)
    groups = [complete(group, root, entries) for group in rank(found)]
    page = root / "report.html"
    sections = _sections(groups, unreadable, _more_pages(root))
    pages.write_page(
        page,
        title=f"Experiments: {len(found)}",
        subtitle="abs-sum per 20k rows, out-of-fold, cross-fitted; lower is better",
        sections=[*sections, *_ledger_sections(entries, submissions)],
    )
    for group in groups:
        pages.print_table(_table(group, list(COLUMNS)[:N_ON_A_TERMINAL]), console)
    for name, reason in unreadable.items():
        console.print(f"{name} is left out: {reason}")
    return {
        "n_experiments": len(found),
        "n_unreadable": len(unreadable),
        "groups": [_group_numbers(group) for group in groups],
        "page": str(page),
    }


def read_rows(root: Path) -> tuple[list[Row], dict[str, str]]:
    """Return the finished experiments below `root`, and why others cannot be read."""
    rows, unreadable = [], {}
    for path in sorted(root.glob("*/report.json")):
        name = path.parent.name
        try:
            report = read_report(path)
        except InputError as error:
            unreadable[name] = str(error)
            continue
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M")
        page = PurePath(name, "report.html") if path.with_suffix(".html").exists() else None
        rows.append(Row(name, report, written, page))
    return rows, unreadable


def rank(rows: Sequence[Row]) -> list[Group]:
    """Return the experiments grouped by the data they were made on, the best first.

    Only scores of the same rows can be ranked. The largest data come first.
    """
    groups: dict[str, list[Row]] = {}
    for each in sorted(rows, key=lambda each: each.report.expected_per_20k):
        groups.setdefault(each.report.data.fingerprint_train, []).append(each)
    return sorted(groups.values(), key=lambda group: -group[0].report.data.n_train)


def complete(group: Group, root: Path, entries: Sequence[Entry]) -> list[Row]:
    """Return the rows of a group with their differences to the best one and their submissions."""
    differences = against_best(group, root)
    return [
        replace(
            each,
            against_best=differences.get(each.name),
            submitted=_submitted(each.name, entries),
        )
        for each in group
    ]


def against_best(group: Group, root: Path) -> dict[str, Difference]:
    """Return the paired differences to the best experiment, of the `N_PAIRED` best ones.

    The best is the first whose predictions are there; others without them are left out.
    """
    found = ((each.name, _costs(each, root)) for each in group[:N_PAIRED])
    known = {name: costs for name, costs in found if costs is not None}
    return {
        name: paired_difference(costs, next(iter(known.values()))) for name, costs in known.items()
    }


def _costs(row: Row, root: Path) -> Float64[np.ndarray, " n"] | None:
    """Return the cross-fitted cost of each row, or None where they cannot be computed here."""
    try:
        predictions = Predictions.load(root / row.name / "predictions.npz")
    except InputError:
        return None  # the reports are committed, the predictions need not be there
    rule, data = row.report.chosen.name, row.report.data
    if rule not in CANDIDATES or predictions.train_fingerprint != data.fingerprint_train:
        return None
    return ScoredRows(row.name, rule, predictions).costs


def _submitted(name: str, entries: Sequence[Entry]) -> Entry | None:
    """Return an experiment's own submission if the leaderboard scored it, else its best other one.

    Refits and answers to other files have the same source.
    """
    scored = [
        (each.file != f"{name}.csv", each.leaderboard_per_20k, each.written, each)
        for each in entries
        if each.source == name and each.leaderboard_per_20k is not None
    ]
    return min(scored, key=lambda each: each[:3])[-1] if scored else None


def _group_numbers(group: Group) -> Numbers:
    best = group[0].report
    return {
        "train": best.data.train,
        "n_rows": best.data.n_train,
        "n_experiments": len(group),
        "best": group[0].name,
        "rule": best.chosen.name,
        "per_20k": best.expected_per_20k,
        "standard_error": best.expected_standard_error,
    }


# --- sections ---------------------------------------------------------------------------------


def _more_pages(root: Path) -> list[tuple[str, Link]]:
    """Return the pages beside the reports, with what each shows."""
    found = [
        (kind, Link(path.relative_to(root).parts[0], path.relative_to(root)))
        for kind, page in PAGES.items()
        if kind != "report"
        for path in sorted(root.glob(f"*/{page}"))
    ]
    return found + [("comparison", link) for link in comparisons(root)]


def _sections(
    groups: Sequence[Group],
    unreadable: Mapping[str, str],
    more_pages: Sequence[tuple[str, Link]],
) -> list[Section]:
    sections: list[Section] = [_table(group, list(COLUMNS)) for group in groups]
    sections.append(Text(EXPLANATION, "The columns"))
    sections += [_picture(number, group) for number, group in enumerate(groups, start=1)]
    if more_pages:
        sections.append(Table("More pages", ["what", "of"], more_pages, is_sortable=True))
    if unreadable:
        header = ["experiment", "why"]
        title = "Left out: the report cannot be read"
        sections.append(Table(title, header, list(unreadable.items())))
    return sections


def _ledger_sections(entries: Sequence[Entry], folder: Path) -> list[Section]:
    """Return what was submitted beside what the leaderboard said; nothing of an empty folder."""
    unknown = ledger.unknown_files(entries, folder)
    paragraphs = [f"{tables.calibration(entries).capitalize()}."]
    paragraphs += [f"{name} is not in the ledger: made or edited by hand?" for name in unknown]
    if not entries and not unknown:
        return []
    sections: list[Section] = [Text("\n\n".join(paragraphs), "Submissions")]
    sections.append(tables.entry_table(entries, ledger.states(entries, folder)))
    if ledger.inversions(entries):
        sections.append(tables.inversion_table(entries))
    scored = [each for each in entries if each.gap is not None]
    if scored:
        figure = pictures.expected_against_real(
            [each.file for each in scored],
            np.array([each.expected_per_20k for each in scored]),
            np.array([each.gap_error for each in scored]),
            np.array([each.leaderboard_per_20k for each in scored]),
        )
        caption = (
            "What was expected of a submission, and what the leaderboard said, per 20k rows. An "
            "interval is that of the gap: both scores depend on which rows were drawn."
        )
        sections.append(Picture("expected-against-real", figure, caption))
    return sections


def _table(group: Group, columns: Sequence[str]) -> Table:
    rows = [[COLUMNS[name](row) for name in columns] for row in group]
    n_minor = max(0, len(columns) - N_ON_A_PHONE)
    return Table(_title(group), columns, rows, is_sortable=True, n_minor=n_minor)


def _title(group: Group) -> str:
    data = group[0].report.data
    return f"{data.train}: {data.n_train:,} rows (fingerprint {data.fingerprint_train[:8]})"


def _picture(number: int, group: Group) -> Picture:
    shown = group[:N_DRAWN]
    figure = pictures.ranking(
        [each.name for each in shown],
        np.array([each.report.expected_per_20k for each in shown]),
        np.array([each.report.expected_standard_error for each in shown]),
    )
    caption = (
        f"The best {len(shown)} of {len(group)} on {_title(group)}. Each interval is that of one "
        "score; on the same rows two experiments differ by less than their intervals suggest."
    )
    return Picture(f"ranking-{number}", figure, caption)


# --- cells ------------------------------------------------------------------------------------


def _difference(row: Row) -> str:
    gap = row.against_best
    if gap is None:
        return "-"
    # Without any row that differs it is the best one itself, or has its answers.
    return f"{gap.per_20k:+.1f} ± {gap.standard_error:.1f}" if gap.standard_error else "0"


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)


def _method(report: Report) -> str:
    if report.kind == "blend":
        return f"{report.method} of {len(report.base_models)}"
    return report.net or "-"


def _seeds_and_folds(report: Report) -> str:
    folds = report.folds
    n_seeds, n_folds = len({each.seed for each in folds}), len({each.fold for each in folds})
    grouped = " grouped" if report.grouped_by else ""
    return f"{n_seeds} x {n_folds}{grouped}" if folds else "-"


def _seconds(report: Report) -> str:
    """Return the training time of all nets, or that of the command where it trained none."""
    of_nets = sum(each.train_seconds for each in report.folds)
    return _number(of_nets if report.folds else report.environment.seconds_of_this_call, ".0f")


def _device(report: Report) -> str:
    environment = report.environment
    compute = environment.compute
    place = environment.gpu if compute.device.startswith("cuda") else compute.device
    return f"{place} {compute.precision}" if place else "-"


# The most important first: a phone shows three columns, a terminal eight.
COLUMNS: Final[Mapping[str, Callable[[Row], object]]] = {
    "experiment": lambda row: Link(row.name, row.page) if row.page else row.name,
    "score": lambda row: (
        f"{row.report.expected_per_20k:.1f} ± {row.report.expected_standard_error:.1f}"
    ),
    "against best": _difference,
    "kind": lambda row: row.report.kind,
    "net or method": lambda row: _method(row.report),
    "rule": lambda row: row.report.chosen.name,
    "leaderboard": lambda row: _number(
        row.submitted.leaderboard_per_20k if row.submitted else None
    ),
    "gap": lambda row: _number(row.submitted.gap if row.submitted else None, "+.1f"),
    "half": lambda row: _number(row.report.per_20k("half")),
    "raw": lambda row: _number(row.report.per_20k("raw")),
    "seeds x folds": lambda row: _seeds_and_folds(row.report),
    "seconds": lambda row: _seconds(row.report),
    "device": lambda row: _device(row.report),
    "written": lambda row: row.written,
}
N_ON_A_PHONE: Final = 3
N_ON_A_TERMINAL: Final = 8  # first ones: 120 letters
EXPLANATION: Final = (
    "Score: abs-sum per 20k rows, out-of-fold, under the chosen rule, cross-fitted, ± one standard "
    "error of the row sample; only scores of the same rows are ranked against each other. Against "
    f"best: paired on the same rows, ± one standard error, for those of the first {N_PAIRED} whose "
    "predictions are here; the best of them has 0. A blend's method, weights, calibration and rule "
    "were chosen on the very rows it is scored on, which makes its score too good (selection "
    "bias). Leaderboard: the best of its submissions, per "
    "20k rows; gap: that minus the score expected of it. Half, raw: the score under these "
    "rules. Seconds: training, summed over the nets, or the command's own where it trained none. "
    "Written: the date of report.json, UTC."
)
