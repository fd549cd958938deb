"""Two experiments on the same rows: how much they differ, beyond chance or not, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64
from rich.console import Console

from hbcomp.analysis import compare_page as pair_page
from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.load import load_data
from hbcomp.experiment import ROOT
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.predictions import Predictions, check_aligned, have_same_folds
from hbcomp.experiment.report import Report, oof_answers, read_report, standard_error
from hbcomp.reporting import pages
from hbcomp.reporting.links import BETWEEN, COMPARISONS
from hbcomp.reporting.pages import Link, Picture, Text
from hbcomp.scoring.choice import CANDIDATES, check_rule_name
from hbcomp.scoring.disagreement import changes
from hbcomp.scoring.metrics import called_class, row_costs, score_of
from hbcomp.scoring.paired import (
    LEVEL_OF_NOISE,
    bootstrap_interval,
    mcnemar,
    paired_difference,
)
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.system.files import csv_bytes, write_bytes

Numbers = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Side:
    """An experiment under one rule: what its rows cost, what it calls them, what it submits.

    Costs and called classes are out-of-fold and cross-fitted; a called class of -1 is none.
    """

    name: str
    rule: str
    costs: Float64[np.ndarray, " n"]
    called: Int64[np.ndarray, " n"]
    test_answers: Float64[np.ndarray, "m k"]
    selected: tuple[str, ...] = ()  # what of it was chosen by these rows


def judge(name: str, rule: str, predictions: Predictions, selected: tuple[str, ...] = ()) -> Side:
    """Return an experiment under the candidate rule of that name."""
    fit = CANDIDATES[rule]
    oof, labels = predictions.oof_probs, predictions.labels
    answers = oof_answers(predictions, rule)
    return Side(
        name=name,
        rule=rule,
        costs=row_costs(answers, labels),
        called=called_class(answers),
        test_answers=fit(oof, labels).apply(predictions.test_probs),
        selected=selected,
    )


def contrast(first: Side, second: Side, labels: Int64[np.ndarray, " n"]) -> Numbers:
    """Return every number of a comparison as JSON values; differences are first minus second."""
    is_right, is_other_right = first.called == labels, second.called == labels
    gap = paired_difference(first.costs, second.costs)
    low, high = bootstrap_interval(first.costs, second.costs)
    has_test = len(first.test_answers) > 0
    return {
        "first": _side_numbers(first, is_right),
        "second": _side_numbers(second, is_other_right),
        "n_rows": len(labels),
        "difference": {
            **asdict(gap),
            "low": low,
            "high": high,
            "level": LEVEL_OF_NOISE,
            "is_beyond_noise": gap.is_beyond_noise,
        },
        "by_class": _class_numbers(first, second, labels),
        "n_both_right": int((is_right & is_other_right).sum()),
        "n_both_wrong": int((~is_right & ~is_other_right).sum()),
        "mcnemar": asdict(mcnemar(is_right, is_other_right)),
        "test": changes(first.test_answers, second.test_answers).to_json() if has_test else None,
    }


def _side_numbers(side: Side, is_right: Bool[np.ndarray, " n"]) -> Numbers:
    return {
        "experiment": side.name,
        "rule": side.rule,
        "per_20k": score_of(side.costs).per_20k,
        "standard_error": standard_error(side.costs),
        "accuracy": float(is_right.mean()),
        "selected": list(side.selected),
    }


def _class_numbers(first: Side, second: Side, labels: Int64[np.ndarray, " n"]) -> list[Numbers]:
    """Return what each true class adds to both scores and to their difference."""
    rows = []
    for label in np.unique(labels).tolist():
        of_class = labels == label
        # The other classes' rows count as zeros: so the classes' differences add up to the whole.
        costs, other_costs = first.costs * of_class, second.costs * of_class
        rows.append(
            {
                "label": label,
                "n_rows": int(of_class.sum()),
                "first_per_20k": score_of(costs).per_20k,
                "second_per_20k": score_of(other_costs).per_20k,
                "difference": asdict(paired_difference(costs, other_costs)),
            }
        )
    return rows


def changed_rows(first: Side, second: Side, predictions: Predictions) -> pd.DataFrame:
    """Return the rows that the two call differently, those whose cost changes most first.

    `right` says who calls the label: first, second or neither. `row` is the position in the data.
    """
    labels = predictions.labels
    (rows,) = np.nonzero(first.called != second.called)
    is_right, is_other_right = (side.called[rows] == labels[rows] for side in (first, second))
    table = pd.DataFrame(
        {
            "row": rows,
            "id": predictions.train_ids[rows],
            "label": labels[rows],
            "right": np.select([is_right, is_other_right], ["first", "second"], "neither"),
            "first_called": first.called[rows],
            "second_called": second.called[rows],
            "first_cost": first.costs[rows],
            "second_cost": second.costs[rows],
        }
    )
    change = (table["first_cost"] - table["second_cost"]).abs()
    return table.loc[change.sort_values(ascending=False, kind="stable").index]


def compare_experiments(
    first: RunFolder, second: RunFolder, rule: str, console: Console
) -> Numbers:
    """Write the page and the changed rows of a comparison, print it, and return its numbers.

    Both must be finished and speak of the same rows; `rule` is one for both, or `auto`.
    """
    check_rule_name(rule)
    if first == second:
        raise InputError(f"two experiments are compared, but got {first.name!r} twice")
    pair = (first, second)
    reports = [read_report(run.report_file) for run in pair]
    members = {run.name: Predictions.load(run.predictions_file) for run in pair}
    check_aligned(members)
    one, other = (
        judge(name, _rule_of(name, rule, report), predictions, _selected(run, report))
        for run, (name, predictions), report in zip(pair, members.items(), reports, strict=True)
    )
    common = members[first.name]
    numbers = {
        **contrast(one, other, common.labels),
        "has_same_folds": have_same_folds(members),
        "is_grouped": [_is_grouped(report) for report in reports],
    }
    changed = changed_rows(one, other, common)
    page, listed = _places(first.name, second.name)
    cells = changed.drop(columns="row")
    write_bytes(listed, csv_bytes(cells.columns, cells.itertuples(index=False, name=None)))
    drawn = _drawn(changed, members, reports)
    pair_page.write_page(page, numbers, drawn, _links(listed))
    for table in pair_page.tables(numbers):
        pages.print_table(table, console)
    console.print(pair_page.verdict(numbers))
    for note in pair_page.notes(numbers):
        console.print(note)
    return {**numbers, "page": str(page), "changed_rows": str(listed)}


def _rule_of(name: str, wanted: str, report: Report) -> str:
    chosen = report.chosen.name if wanted == "auto" else wanted
    if chosen not in CANDIDATES:
        raise InputError(
            f"{name}: its rule {chosen!r} cannot be cross-fitted here; give both one with --rule"
        )
    return chosen


def _selected(run: RunFolder, report: Report) -> tuple[str, ...]:
    return ("hyperparameters",) if run.is_tuned else report.selected_by_rows


def _is_grouped(report: Report) -> bool:
    """Whether an experiment, or a member of a blend whose report is here, held out groups."""
    members = [find_run(name).report_file for name in report.base_models]
    reports = [report, *(read_report(path) for path in members if path.exists())]
    return any(each.grouped_by for each in reports)


def _places(first: str, second: str) -> tuple[Path, Path]:
    stem = ROOT / COMPARISONS / f"{first}{BETWEEN}{second}"
    return Path(f"{stem}.html"), Path(f"{stem}.csv")


def _links(listed: Path) -> dict[Link, str]:
    return {Link(listed.name, PurePath(listed.name)): "rows called differently"}


def _drawn(
    changed: pd.DataFrame, members: Mapping[str, Predictions], reports: Sequence[Report]
) -> list[Picture] | list[Text]:
    """Return pictures of the changed beats, or why there are none."""
    fingerprint = next(iter(members.values())).train_fingerprint
    try:
        beats = find_beats(reports, fingerprint)
    except (InputError, OSError) as error:
        return [Text(f"The waveforms are not drawn: {error}", "The rows that changed")]
    return pair_page.pictures_of(changed, members, beats)


def find_beats(reports: Sequence[Report], fingerprint: str) -> Dataset:
    """Return the training beats of that fingerprint, read as one of the reports says.

    A blend's report does not say it, but those of its members do.
    """
    names = [name for each in reports for name in each.base_models]
    known = [each.data_config for each in reports if each.data_config] or [
        report.data_config
        for report in (read_report(find_run(name).report_file) for name in names)
        if report.data_config
    ]
    if not known:
        raise InputError("no report says how the beats were read")
    values = {key: value for key, value in known[0].items() if key != "test"}
    beats, _ = load_data(validate(DataConfig, values, "config.data"))
    if beats.fingerprint != fingerprint:
        raise InputError(f"{beats.source} holds other beats than the experiments were made on")
    return beats
