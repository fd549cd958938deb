"""Every finished experiment on one page, and the submissions beside the leaderboard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
from jaxtyping import Float64
from rich.console import Console

from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import Report, read_report
from hbcomp.reporting import pages
from hbcomp.reporting.figures import comparisons as pictures
from hbcomp.reporting.links import PAGES, comparisons
from hbcomp.reporting.pages import Link, Picture, Section, Table, Text
from hbcomp.scoring.choice import CANDIDATES, cross_fitted_costs
from hbcomp.scoring.paired import Difference, paired_difference
from hbcomp.submissions import ledger
from hbcomp.submissions import ledger_tables as tables
from hbcomp.submissions.ledger import Entry
from hbcomp.system.errors import InputError

N_PAIRED: Final = 10  # best ones of a group; measured: 0.5 s each with a fitted rule, 100,000 rows


@dataclass(frozen=True)
class Standing:
    """An experiment, what it reported and when; `page` is its own report if there is one."""

    name: str
    report: Report
    written: str
    page: PurePath | None


@dataclass(frozen=True)
class Line:
    """A line of the ranking: an experiment beside the best one, and on the leaderboard."""

    standing: Standing
    against_best: Difference | None
    submitted: Entry | None


def read_standings(root: Path) -> tuple[list[Standing], dict[str, str]]:
    """Return the finished experiments below `root`, and why others cannot be read."""
    standings, unreadable = [], {}
    for path in sorted(root.glob("*/report.json")):
        try:
            report = read_report(path)
        except InputError as error:
            unreadable[path.parent.name] = str(error)
            continue
        name = path.parent.name
        page = PurePath(name, "report.html") if path.with_suffix(".html").exists() else None
        standings.append(Standing(name, report, _written(path), page))
    return standings, unreadable


def _written(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M")


def rank(standings: Sequence[Standing]) -> list[list[Standing]]:
    """Return the experiments by the beats they were made on, the best first.

    Only scores of the same rows can be ranked. The largest data come first.
    """
    groups: dict[str, list[Standing]] = {}
    for each in sorted(standings, key=lambda each: each.report.expected_per_20k):
        groups.setdefault(each.report.data.fingerprint_train, []).append(each)
    return sorted(groups.values(), key=lambda group: -group[0].report.data.n_train)


def against_best(group: Sequence[Standing], root: Path) -> dict[str, Difference]:
    """Return the paired differences to the best experiment, of the `N_PAIRED` best ones.

    The best is the first whose predictions are there; others without them are left out.
    """
    found = ((each.name, _costs(each, root)) for each in group[:N_PAIRED])
    known = {name: costs for name, costs in found if costs is not None}
    return {
        name: paired_difference(costs, next(iter(known.values()))) for name, costs in known.items()
    }


def _costs(standing: Standing, root: Path) -> Float64[np.ndarray, " n"] | None:
    """Return the cross-fitted cost of each row, or None where the predictions do not tell."""
    report = standing.report
    fit = CANDIDATES.get(report.chosen.name)
    try:
        predictions = Predictions.load(root / standing.name / "predictions.npz")
    except InputError:
        return None  # the reports are committed, the predictions need not be there
    if fit is None or predictions.train_fingerprint != report.data.fingerprint_train:
        return None
    oof, labels = predictions.oof_probs, predictions.labels
    return cross_fitted_costs(fit, oof, labels, predictions.fold_of_row)


def lines_of(group: Sequence[Standing], root: Path, entries: Sequence[Entry]) -> list[Line]:
    """Return the lines of a group of experiments made on the same beats."""
    differences = against_best(group, root)
    return [
        Line(each, differences.get(each.name), _submitted(each.name, entries)) for each in group
    ]


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


N_DRAWN: Final = 30  # best ones in a picture: a screen

Numbers = dict[str, Any]


def write_leaderboard(root: Path, submissions: Path, console: Console) -> Numbers:
    """Write `report.html` below `root`, print the ranking and return its numbers."""
    standings, unreadable = read_standings(root)
    if not standings and not unreadable:
        raise InputError(f"{root}: no finished experiment; `hbcomp cv` makes one")
    entries = ledger.read_ledger(submissions)
    groups = [lines_of(group, root, entries) for group in rank(standings)]
    page = root / "report.html"
    sections = _sections(groups, unreadable, _more_pages(root))
    pages.write_page(
        page,
        title=f"Experiments: {len(standings)}",
        subtitle="abs-sum per 20k rows, out-of-fold, cross-fitted; lower is better",
        sections=[*sections, *_ledger_sections(entries, submissions)],
    )
    for lines in groups:
        pages.print_table(_table(lines, list(COLUMNS)[:N_ON_A_TERMINAL]), console)
    for name, reason in unreadable.items():
        console.print(f"{name} is left out: {reason}")
    return {
        "n_experiments": len(standings),
        "n_unreadable": len(unreadable),
        "groups": [_group_numbers(lines) for lines in groups],
        "page": str(page),
    }


def _more_pages(root: Path) -> list[tuple[str, Link]]:
    """Return the pages beside the reports, with what each shows."""
    found = [
        (kind, Link(path.relative_to(root).parts[0], path.relative_to(root)))
        for kind, page in PAGES.items()
        if kind != "report"
        for path in sorted(root.glob(f"*/{page}"))
    ]
    return found + [("comparison", link) for link in comparisons(root)]


def _group_numbers(lines: Sequence[Line]) -> Numbers:
    best = lines[0].standing
    return {
        "train": best.report.data.train,
        "n_rows": best.report.data.n_train,
        "n_experiments": len(lines),
        "best": best.name,
        "rule": best.report.chosen.name,
        "per_20k": best.report.expected_per_20k,
        "standard_error": best.report.expected_standard_error,
    }


# --- tables and pictures ----------------------------------------------------------------------


def _sections(
    groups: Sequence[Sequence[Line]],
    unreadable: Mapping[str, str],
    more_pages: Sequence[tuple[str, Link]],
) -> list[Section]:
    sections: list[Section] = [_table(lines, list(COLUMNS)) for lines in groups]
    sections.append(Text(EXPLANATION, "The columns"))
    sections += [_picture(number, lines) for number, lines in enumerate(groups, start=1)]
    if more_pages:
        sections.append(Table("More pages", ["what", "of"], more_pages, is_sortable=True))
    if unreadable:
        rows = [[name, reason] for name, reason in unreadable.items()]
        sections.append(Table("Left out: the report cannot be read", ["experiment", "why"], rows))
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


def _table(lines: Sequence[Line], columns: Sequence[str]) -> Table:
    rows = [[COLUMNS[name](line) for name in columns] for line in lines]
    n_minor = max(0, len(columns) - N_ON_A_PHONE)
    return Table(_title(lines), columns, rows, is_sortable=True, n_minor=n_minor)


def _title(lines: Sequence[Line]) -> str:
    data = lines[0].standing.report.data
    return f"{data.train}: {data.n_train:,} rows (fingerprint {data.fingerprint_train[:8]})"


def _picture(number: int, lines: Sequence[Line]) -> Picture:
    shown = [line.standing for line in lines[:N_DRAWN]]
    figure = pictures.ranking(
        [each.name for each in shown],
        np.array([each.report.expected_per_20k for each in shown]),
        np.array([each.report.expected_standard_error for each in shown]),
    )
    caption = (
        f"The best {len(shown)} of {len(lines)} on {_title(lines)}. Each interval is that of one "
        "score; on the same rows two experiments differ by less than their intervals suggest."
    )
    return Picture(f"ranking-{number}", figure, caption)


def _name(line: Line) -> object:
    standing = line.standing
    return Link(standing.name, standing.page) if standing.page else standing.name


def _method(line: Line) -> str:
    report = line.standing.report
    if report.kind == "blend":
        return f"{report.method} of {len(report.base_models)}"
    return report.net or "-"


def _score(line: Line) -> str:
    report = line.standing.report
    return f"{report.expected_per_20k:.1f} ± {report.expected_standard_error:.1f}"


def _difference(line: Line) -> str:
    gap = line.against_best
    if gap is None:
        return "-"
    # Without any row that differs it is the best one itself, or has its answers.
    return f"{gap.per_20k:+.1f} ± {gap.standard_error:.1f}" if gap.standard_error else "0"


def _under(rule: str) -> Callable[[Line], str]:
    def cell(line: Line) -> str:
        per_20k = line.standing.report.per_20k(rule)
        return "-" if per_20k is None else f"{per_20k:.1f}"

    return cell


def _seeds_and_folds(line: Line) -> str:
    report = line.standing.report
    folds = report.folds
    n_seeds, n_folds = len({each.seed for each in folds}), len({each.fold for each in folds})
    grouped = " grouped" if report.grouped_by else ""
    return f"{n_seeds} x {n_folds}{grouped}" if folds else "-"


def _seconds(line: Line) -> str:
    """Return the training time of all nets, or that of the command where it trained none."""
    report = line.standing.report
    if report.folds:
        return f"{sum(each.train_seconds for each in report.folds):.0f}"
    seconds = report.environment.seconds_of_this_call
    return "-" if seconds is None else f"{seconds:.0f}"


def _device(line: Line) -> str:
    environment = line.standing.report.environment
    compute = environment.compute
    place = environment.gpu if compute.device.startswith("cuda") else compute.device
    return f"{place} {compute.precision}" if place else "-"


def _on_the_leaderboard(line: Line) -> str:
    per_20k = line.submitted.leaderboard_per_20k if line.submitted else None
    return "-" if per_20k is None else f"{per_20k:.1f}"


def _gap(line: Line) -> str:
    gap = line.submitted.gap if line.submitted else None
    return "-" if gap is None else f"{gap:+.1f}"


# The most important first: a phone shows three columns, a terminal eight.
COLUMNS: Final[Mapping[str, Callable[[Line], object]]] = {
    "experiment": _name,
    "score": _score,
    "against best": _difference,
    "kind": lambda line: line.standing.report.kind,
    "net or method": _method,
    "rule": lambda line: line.standing.report.chosen.name,
    "leaderboard": _on_the_leaderboard,
    "gap": _gap,
    "half": _under("half"),
    "raw": _under("raw"),
    "seeds x folds": _seeds_and_folds,
    "seconds": _seconds,
    "device": _device,
    "written": lambda line: line.standing.written,
}
N_ON_A_PHONE: Final = 3
N_ON_A_TERMINAL: Final = 8  # first ones: 120 letters
EXPLANATION: Final = (
    "Score: abs-sum per 20k rows, out-of-fold, under the chosen rule, cross-fitted, ± one standard "
    "error of the row sample; only scores of the same beats are ranked against each other. Against "
    f"best: paired on the same rows, ± one standard error, for those of the first {N_PAIRED} whose "
    "predictions are here; the best of them has 0. A blend's method, weights, calibration and rule "
    "were chosen on the very rows it is scored on, which makes its score too good (selection "
    "bias). Leaderboard: the best of its submissions, per "
    "20k rows; gap: that minus the score expected of it. Half, raw: the score under these "
    "rules. Seconds: training, summed over the nets, or the command's own where it trained none. "
    "Written: the date of report.json, UTC."
)
