"""How submission files differ: in rows, in predicted classes and at most in score."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Console

from hbcomp.competitions.competition import load_competition, metric_of
from hbcomp.competitions.submission_form import known_form
from hbcomp.data.dataset import DataConfig
from hbcomp.reporting.pages import Table, print_table
from hbcomp.scoring.disagreement import Changes, changes
from hbcomp.scoring.paired import as_text
from hbcomp.scoring.row_metrics import class_name
from hbcomp.submissions.files import align, read_submission
from hbcomp.system.errors import MAX_SHOWN


def compare_files(paths: Sequence[Path], competition: str, console: Console) -> dict[str, Any]:
    """Print how files differ, two in detail and more as a matrix; return the numbers.

    The rows are matched by id; files with other ids than the first are refused.
    """
    form = known_form(DataConfig(competition=competition))
    submissions = [read_submission(path, form) for path in paths]
    answers = align(paths, submissions)
    ids = submissions[0].ids.tolist()
    for path, submission in zip(paths, submissions, strict=True):
        if submission.ids.tolist() != ids:
            console.print(
                f"{path} has the ids of {paths[0]} in another order, so rows are matched by id"
            )
    classes = form.classes if form else tuple(map(str, range(answers[0].shape[1])))
    metric = metric_of(load_competition(competition).metric_spec(classes))
    pairs_of_files = combinations(range(len(paths)), 2)
    found = {(a, b): changes(metric, answers[a], answers[b]) for a, b in pairs_of_files}
    if len(paths) > 2:
        print_table(_matrix(paths, found), console)
        pairs = [
            {"first": str(paths[a]), "second": str(paths[b]), **of_pair.to_json()}
            for (a, b), of_pair in found.items()
        ]
        return {"n_files": len(paths), "pairs": pairs}
    of_pair = found[0, 1]
    changed_ids = [ids[row] for row in of_pair.changed_idx[:MAX_SHOWN]]
    _print_pair(paths, of_pair, changed_ids, classes, console)
    return {
        "first": str(paths[0]),
        "second": str(paths[1]),
        **of_pair.to_json(),
        "class_changes": [
            {"from": each.before, "to": each.after, "n_rows": each.n_rows}
            for each in of_pair.class_changes
        ],
        "first_changed_ids": changed_ids,
    }


def describe(of_pair: Changes) -> str:
    """Return the size of the changes as half a sentence."""
    text = (
        f"{len(of_pair.changed_idx):,} of {of_pair.n_rows:,} rows differ, "
        f"{of_pair.n_class_changes:,} have another predicted class"
    )
    if of_pair.max_difference is None:
        return text
    return f"{text}; the scores differ by at most {as_text(of_pair.max_difference)}"


def _print_pair(
    paths: Sequence[Path],
    of_pair: Changes,
    changed_ids: Sequence[str],
    classes: Sequence[str],
    console: Console,
) -> None:
    rows = [
        [class_name(each.before, classes), class_name(each.after, classes), f"{each.n_rows:,}"]
        for each in of_pair.class_changes
    ]
    if rows:
        title = "Rows whose predicted class changes"
        print_table(Table(title, [str(paths[0]), str(paths[1]), "rows"], rows), console)
    console.print(describe(of_pair))
    n_more = len(of_pair.changed_idx) - len(changed_ids)
    if changed_ids:
        more = f" and {n_more:,} more" if n_more else ""
        console.print(f"changed ids: {', '.join(changed_ids)}{more}")


def _matrix(paths: Sequence[Path], found: Mapping[tuple[int, int], Changes]) -> Table:
    """Return a table: rows that differ above the diagonal, changes of the class below it."""

    def cell(a: int, b: int) -> str:
        if a == b:
            return "-"
        of_pair = found[min(a, b), max(a, b)]
        return f"{len(of_pair.changed_idx):,}" if a < b else f"{of_pair.n_class_changes:,}"

    places = range(len(paths))
    return Table(
        "Rows that differ (above the diagonal), and in their predicted class (below it)",
        ["file", *(str(place + 1) for place in places)],
        [[f"{a + 1}: {paths[a]}", *(cell(a, b) for b in places)] for a in places],
    )
