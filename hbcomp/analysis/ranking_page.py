"""Every finished experiment on one page, and the submissions beside the leaderboard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
from rich.console import Console

from hbcomp.analysis.scored_rows import ScoredRows
from hbcomp.competitions.competition import metric_of
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import Report, read_report
from hbcomp.reporting import pages
from hbcomp.reporting.figures import comparisons as pictures
from hbcomp.reporting.links import PAGES, comparisons
from hbcomp.reporting.pages import Link, Picture, Section, Table, Text
from hbcomp.scoring.paired import (
    Difference,
    RowScores,
    as_text,
    paired_difference,
    with_interval,
)
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
        subtitle=f"{_metrics(groups)}, out-of-fold, cross-fitted",
        sections=[*sections, *_ledger_sections(entries, submissions)],
    )
    for group in groups:
        pages.print_table(_table(group, list(_columns(group))[:N_ON_A_TERMINAL]), console)
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
    """Return the experiments grouped by the data they were made on and the metric, the best first.

    Only scores of the same rows by the same metric can be ranked. The largest data come first.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for each in sorted(rows, key=_ascending):
        metric = each.report.metric.model_dump_json()
        groups.setdefault((each.report.data.fingerprint_train, metric), []).append(each)
    return sorted(
        groups.values(),
        key=lambda group: (-group[0].report.data.n_train, group[0].report.metric_in_words),
    )


def _ascending(row: Row) -> float:
    """Return a number that is lower for a better score."""
    return -row.report.score if row.report.better == "higher" else row.report.score


def complete(group: Group, root: Path, entries: Sequence[Entry]) -> list[Row]:
    """Return the rows of a group with their differences to the best one and their submissions."""
    differences = against_best(group, root)
    return [
        replace(
            each,
            against_best=differences.get(each.name),
            submitted=_submitted(each, entries),
        )
        for each in group
    ]


def against_best(group: Group, root: Path) -> dict[str, Difference]:
    """Return the paired differences to the best experiment, of the `N_PAIRED` best ones.

    The best is the first whose predictions are there; others without them are left out.
    """
    found = ((each.name, _row_scores(each, root)) for each in group[:N_PAIRED])
    known = {name: rows for name, rows in found if rows is not None}
    return {
        name: paired_difference(rows, next(iter(known.values()))) for name, rows in known.items()
    }


def _row_scores(row: Row, root: Path) -> RowScores | None:
    """Return what each row contributes, cross-fitted; None where that cannot be computed here."""
    try:
        metric = metric_of(row.report.metric)
        predictions = Predictions.load(root / row.name / "predictions.npz")
    except InputError:
        return None  # the reports are committed, the predictions need not be there
    rule, data = row.report.chosen.name, row.report.data
    if rule not in metric.rules or predictions.train_fingerprint != data.fingerprint_train:
        return None
    return ScoredRows(row.name, metric, rule, predictions).rows


def _submitted(row: Row, entries: Sequence[Entry]) -> Entry | None:
    """Return an experiment's own submission if the leaderboard scored it, else its best other one.

    Refits and answers to other files have the same source.
    """
    name, metric = row.name, row.report.metric.config.name
    scored = [
        each
        for each in entries
        if each.source == name and each.metric == metric and each.leaderboard is not None
    ]
    own = [each for each in scored if each.file == f"{name}.csv"]
    return ledger.best(own or scored, metric)


def _group_numbers(group: Group) -> Numbers:
    best = group[0].report
    return {
        "train": best.data.train,
        "n_rows": best.data.n_train,
        "n_experiments": len(group),
        "best": group[0].name,
        "rule": best.chosen.name,
        "metric": best.metric.config.name,
        "better": best.better,
        "score": best.score,
        "standard_error": best.standard_error,
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
    sections: list[Section] = [_table(group, list(_columns(group))) for group in groups]
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
    of_metric: dict[str, list[Entry]] = {}
    for each in entries:
        if each.gap is not None:
            of_metric.setdefault(f"{each.metric} ({each.better} is better)", []).append(each)
    drawn = enumerate(of_metric.items(), start=1)
    sections += [_leaderboard_picture(number, *of_one) for number, of_one in drawn]
    return sections


def _leaderboard_picture(number: int, metric: str, scored: Sequence[Entry]) -> Picture:
    figure = pictures.expected_against_real(
        [each.file for each in scored],
        np.array([each.expected for each in scored]),
        np.array([each.gap_error for each in scored]),
        np.array([each.leaderboard for each in scored]),
        metric,
    )
    caption = (
        f"What was expected of a submission, and what the leaderboard said, {metric}. An interval "
        "is that of the gap: both scores depend on which rows were drawn."
    )
    return Picture(f"expected-against-real-{number}", figure, caption)


def _table(group: Group, columns: Sequence[str]) -> Table:
    cells = _columns(group)
    rows = [[cells[name](row) for name in columns] for row in group]
    n_minor = max(0, len(columns) - N_ON_A_PHONE)
    return Table(_title(group), columns, rows, is_sortable=True, n_minor=n_minor)


def _title(group: Group) -> str:
    data = group[0].report.data
    return (
        f"{data.train}, {data.n_train:,} rows (fingerprint {data.fingerprint_train[:8]}): "
        f"{group[0].report.metric_in_words}"
    )


def _metrics(groups: Sequence[Group]) -> str:
    return ", ".join(dict.fromkeys(group[0].report.metric_in_words for group in groups))


def _picture(number: int, group: Group) -> Picture:
    shown = group[:N_DRAWN]
    figure = pictures.ranking(
        [each.name for each in shown],
        np.array([each.report.score for each in shown]),
        np.array([each.report.standard_error for each in shown]),
        group[0].report.metric_in_words,
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
    return (
        f"{as_text(gap.value, '+')} ± {as_text(gap.standard_error)}" if gap.standard_error else "0"
    )


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else as_text(value, sign)


def _score(report: Report) -> str:
    mark = " (optimistic)" if report.is_optimistic else ""
    return f"{as_text(report.score)} ± {as_text(report.standard_error)}{mark}"


def _under_fixed_rule(row: Row) -> float | None:
    """Return the score under the metric's first rule."""
    return row.report.rules[0].cross_fitted if row.report.rules else None


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
    seconds = of_nets if report.folds else report.environment.seconds_of_this_call
    return "-" if seconds is None else f"{seconds:.0f}"


def _device(report: Report) -> str:
    environment = report.environment
    compute = environment.compute
    place = environment.gpu if compute.device.startswith("cuda") else compute.device
    return f"{place} {compute.precision}" if place else "-"


FIXED: Final = "fixed rule"
# The most important first: a phone shows three columns, a terminal eight.
COLUMNS: Final[Mapping[str, Callable[[Row], object]]] = {
    "experiment": lambda row: Link(row.name, row.page) if row.page else row.name,
    "score": lambda row: _score(row.report),
    "against best": _difference,
    "kind": lambda row: row.report.kind,
    "net or method": lambda row: _method(row.report),
    "rule": lambda row: row.report.chosen.name,
    "expected": lambda row: _expected(row.report),
    "leaderboard": lambda row: _number(row.submitted.leaderboard if row.submitted else None),
    FIXED: lambda row: _number(_under_fixed_rule(row)),
    "seeds x folds": lambda row: _seeds_and_folds(row.report),
    "seconds": lambda row: _seconds(row.report),
    "device": lambda row: _device(row.report),
    "written": lambda row: row.written,
}
N_ON_A_PHONE: Final = 3
N_ON_A_TERMINAL: Final = 8  # first ones: 120 letters
EXPLANATION: Final = (
    "Score: out-of-fold, under the chosen rule, cross-fitted, ± one standard error of the row "
    "sample; only scores of the same rows by the same metric are ranked against each other. "
    "Against best: paired on the same rows, ± one standard error, for those of the first "
    f"{N_PAIRED} whose predictions are here; the best of them has 0. A blend's method, weights, "
    "calibration and rule were chosen on the very rows it is scored on, which makes its score too "
    "good (selection bias); so is a score marked optimistic, whose nets stopped by the rows of "
    "it, or a base model's. Expected: what its submission is expected to score, with the 95 % "
    "interval. Leaderboard: the best of its submissions. Fixed rule: the score under the metric's "
    "first rule, which nothing is fitted for; left out where every score is that. Seconds: "
    "training, summed over the nets, or the command's own where it trained none. Written: the "
    "date of report.json, UTC."
)


def _expected(report: Report) -> str:
    expected = report.expected
    return with_interval(expected.value, expected.low, expected.high) if expected else "-"


def _columns(group: Group) -> Mapping[str, Callable[[Row], object]]:
    """Return the columns of a group; scores under the fixed rule only where they are others."""
    if all(_under_fixed_rule(row) in (None, row.report.score) for row in group):
        return {name: cell for name, cell in COLUMNS.items() if name != FIXED}
    return COLUMNS
