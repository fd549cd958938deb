"""Finished experiments ranked among those made on the same beats, beside what was submitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Final

import numpy as np
from jaxtyping import Float64

from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import Report, read_report
from hbcomp.scoring.choice import CANDIDATES, cross_fitted_costs
from hbcomp.scoring.paired import Difference, paired_difference
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
