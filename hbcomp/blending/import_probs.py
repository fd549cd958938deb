"""The import of outside probabilities in order: read, check, write, submit, report."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float64
from pydantic import Field

from hbcomp.data.dataset import Dataset, listed
from hbcomp.data.load import Data, load_data
from hbcomp.data.row_checks import parse_label
from hbcomp.data.splits import Folds, FoldsConfig, make_folds, pick_seed, read_folds
from hbcomp.data.tables import id_problems, read_rows
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import Predictions, write_predictions
from hbcomp.experiment.report import Part, read_part, read_report
from hbcomp.experiment.report_tables import (
    Summary,
    class_table,
    data_numbers,
    expectation,
    probs_pictures,
    rule_table,
    scorecard,
    scores_by_rule,
    transfer_tables,
)
from hbcomp.reporting import pages
from hbcomp.reporting.figures import runs as pictures
from hbcomp.scoring.choice import RuleResult, evaluate_rules
from hbcomp.scoring.transfer import choose_safe_rule
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import NUMBER, Provenance, write_submission
from hbcomp.system.command import console
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError, Problems
from hbcomp.system.files import write_text

# What the sum of a row may miss: four classes written with four digits miss 2e-4 at most.
TOLERANCE: Final = 1e-3


# By what a sum of float32 may leave [0, 1]: such numbers count as 0 or 1, which is said.
ROUNDING: Final = 1e-5  # as in hbcomp.predictions; fastText gives 1.00000536


@dataclass(frozen=True)
class Files:
    """The files to import: out-of-fold probabilities and, unless None, those of the test rows."""

    oof: Path
    test: Path | None


@dataclass(frozen=True, eq=False)
class ProbsFile:
    """The probabilities in a file, in the order of the data's ids, and what else is in it."""

    probs: Float64[np.ndarray, "n k"]
    has_folds: bool
    n_normalised: int
    n_rounded: int


@dataclass(frozen=True, eq=False)
class Imported:
    """Checked predictions, and how far they are what the files say.

    With `has_own_folds` the folds are those in the file; otherwise they are the experiment's, and
    the user vouches for them. So many rows were normalised, so many had a number outside of [0, 1]
    by rounding, which counts as 0 or 1.
    """

    predictions: Predictions
    folds: Folds
    has_own_folds: bool
    n_normalised: int
    n_rounded: int


def read_imported(
    files: Files, data: Data, config: FoldsConfig, seed: int | None, *, normalise: bool
) -> Imported:
    """Return the probabilities in the files as predictions of the data's rows, matched by id.

    Folds are those in the `fold` column of the out-of-fold file; without one, those that the
    configuration draws for `seed` (None: its first). With `normalise`, rows that do not sum to 1
    are divided by their sum; otherwise they are refused.
    """
    train, test = data.train, data.test
    if files.test and test is None:
        raise InputError(f"{files.test}: the experiment has no test file; name it in data.test")
    oof = read_probs(files.oof, train, train.n_classes, normalise=normalise)
    answered, n_normalised, n_rounded = None, oof.n_normalised, oof.n_rounded
    if files.test and test:
        of_test = read_probs(files.test, test, train.n_classes, normalise=normalise)
        answered, n_normalised = test, n_normalised + of_test.n_normalised
        n_rounded += of_test.n_rounded
    if oof.has_folds and seed is not None:
        raise InputError(f"{files.oof}: its fold column decides, so --seed would be ignored")
    split = pick_seed(config, seed)
    folds = (
        read_folds(files.oof, train, split) if oof.has_folds else make_folds(config, train, split)
    )
    predictions = Predictions(
        train_ids=train.ids,
        labels=train.known_labels,
        fold_of_row=folds.fold_of_row,
        oof_probs=oof.probs,
        test_ids=answered.ids if answered else train.ids[:0],
        test_probs=of_test.probs if answered else oof.probs[:0],
        train_fingerprint=train.fingerprint,
        test_fingerprint=answered.fingerprint if answered else "",
    )
    return Imported(predictions, folds, oof.has_folds, n_normalised, n_rounded)


def read_probs(path: Path, beats: Dataset, n_classes: int, *, normalise: bool) -> ProbsFile:
    """Return the probabilities of each of the beats from a CSV file of `id,prob_0,prob_1,...`.

    The columns and rows may be in any order. Labelled beats may come with `label`, which must be
    theirs, and with `fold`. One InputError names everything that is wrong in the rows.
    """
    header, rows = read_rows(path)
    _check_header(path, header, n_classes, ["label", "fold"] if beats.labels is not None else [])
    column = {name: [row[at] for row in rows] for at, name in enumerate(header)}
    found, wanted = column["id"], beats.ids.tolist()
    probs, problems = _numbers([column[f"prob_{label}"] for label in range(n_classes)], found)
    n_rounded = int(((probs < 0.0) | (probs > 1.0)).any(axis=1).sum())
    probs = probs.clip(0.0, 1.0)  # by no more than ROUNDING, or it is among the problems
    sums = probs.sum(axis=1)
    problems += [*id_problems(found, wanted), *_sum_problems(sums, found, normalise=normalise)]
    if "label" in column:
        problems += _label_problems(found, column["label"], beats)
    if problems:
        raise InputError.of(path, problems)
    is_off = _is_off(sums)
    probs[is_off] /= sums[is_off, None]
    row_of_id = {row_id: row for row, row_id in enumerate(found)}
    ordered = probs[[row_of_id[row_id] for row_id in wanted]]
    return ProbsFile(ordered, "fold" in column, int(is_off.sum()), n_rounded)


def rounding(n_rows: int) -> str:
    """Return what is said of rows with numbers that leave [0, 1] by rounding."""
    return (
        f"{n_rows:,} rows leave [0, 1] by at most {ROUNDING}, as float32 may; what is outside "
        "counts as 0 or 1"
    )


def _check_header(path: Path, header: list[str], n_classes: int, others: Sequence[str]) -> None:
    wanted = ["id", *(f"prob_{label}" for label in range(n_classes))]
    is_optional = [name in others for name in header]
    named = sorted(name for name, skip in zip(header, is_optional, strict=True) if not skip)
    if named != sorted(wanted) or len({*header}) < len(header):
        also = f" (and may have {' and '.join(others)})" if others else ""
        raise InputError(
            f"{path}: must have the columns {', '.join(wanted)}{also}, one for each of the "
            f"{n_classes} classes of the data, but has {', '.join(header)}"
        )


def _numbers(
    columns: Sequence[Sequence[str]], ids: Sequence[str]
) -> tuple[Float64[np.ndarray, "n k"], list[str]]:
    """Return the numbers in the columns, and what is wrong with some; rows of those are NaN."""
    probs = np.full((len(ids), len(columns)), np.nan)
    problems = Problems()
    for row, cells in enumerate(zip(*columns, strict=True)):
        wrong = [problem for problem in enumerate(map(_cell_problem, cells)) if problem[1]]
        for label, problem in wrong:
            problems.add(f"row {row + 1} (id {ids[row]})", f"prob_{label} must be {problem}")
        if not wrong:
            probs[row] = [float(cell) for cell in cells]
    return probs, problems.lines()


def _cell_problem(cell: str) -> str:
    if not NUMBER.fullmatch(cell):
        return f"a finite number, but is {cell!r}"
    is_prob = -ROUNDING <= float(cell) <= 1.0 + ROUNDING
    return "" if is_prob else f"in [0, 1] within {ROUNDING}, but is {cell}"


def _is_off(sums: Float64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    return np.abs(sums - 1.0) > TOLERANCE


def _sum_problems(
    sums: Float64[np.ndarray, " n"], ids: Sequence[str], *, normalise: bool
) -> Iterator[str]:
    """Yield the rows whose sum is off, or with `normalise` those that have nothing to divide."""
    wrong = np.flatnonzero(sums == 0.0 if normalise else _is_off(sums)).tolist()
    if not wrong:
        return
    rows = listed([ids[row] for row in wrong], "id")
    if normalise:
        yield f"a row of zeros cannot be normalised: {rows}"
    else:
        yield (
            f"a row must sum to 1 within {TOLERANCE}, but not {rows} (id {ids[wrong[0]]} sums to "
            f"{sums[wrong[0]]:.6g}); --normalise divides such rows by their sum"
        )


def _label_problems(ids: Sequence[str], texts: Sequence[str], beats: Dataset) -> Iterator[str]:
    known = dict(zip(beats.ids.tolist(), beats.known_labels.tolist(), strict=True))
    wrong = [
        row_id
        for row_id, text in zip(ids, texts, strict=True)
        if row_id in known and not _says(text, known[row_id])
    ]
    if wrong:
        yield f"label must be that of {beats.source}, but is not for {listed(wrong, 'id')}"


def _says(text: str, label: int) -> bool:
    try:
        return parse_label(text) == label
    except ValueError:
        return False


class _Identity(Part):
    """What an import was made of."""

    identity: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """What to import, and the experiment whose beats, folds and decision rule hold for it."""

    files: Files
    like: str
    config: Config
    seed: int | None
    normalise: bool


def run(wish: Wish, run: RunFolder, *, force: bool) -> dict[str, Any]:
    """Import probabilities as an experiment and return the numbers of the last line.

    Everything is checked before anything is written; the same call writes the same predictions.
    """
    data = load_data(wish.config.data)
    imported = read_imported(
        wish.files, data, wish.config.folds, wish.seed, normalise=wish.normalise
    )
    predictions = imported.predictions
    rules = evaluate_rules(predictions.oof_probs, predictions.labels, predictions.fold_of_row)
    chosen = choose_safe_rule(
        rules, predictions.oof_probs, predictions.test_probs, wish.config.decision.rule
    )
    identity = _identity(wish.files, imported)
    with locked(run):
        _admit(run, identity, force=force)
        summary = {
            "experiment": run.name,
            "kind": "imported",
            "like": wish.like,
            "files": {"oof": wish.files.oof.name, "test": wish.files.test and wish.files.test.name},
            "identity": identity,
            "has_own_folds": imported.has_own_folds,
            "config": wish.config.model_dump(
                mode="json", exclude_none=True, include={"data", "folds"}
            ),
            "data": data_numbers(data),
            **scorecard(predictions, rules, chosen),
            "folds": [],
            "environment": machine(),
        }
        write_predictions(run.path, predictions)
        submission = _submit(run, imported, chosen, summary)
        _write_report(run, data, imported, rules, chosen, summary)
        run.write_manifest()
    pages.print_table(rule_table(summary), console)
    _say(wish, imported, summary)
    return {
        "experiment": run.name,
        "n_rows": len(predictions.train_ids),
        "n_test": len(predictions.test_ids),
        "n_normalised": imported.n_normalised,
        "n_rounded": imported.n_rounded,
        "has_own_folds": imported.has_own_folds,
        "rule": chosen.name,
        "oof_per_20k": scores_by_rule(rules),
        "accuracy": summary["accuracy"],
        "submission": submission,
        "report": str(run.path / "report.html"),
    }


def _identity(files: Files, imported: Imported) -> dict[str, Any]:
    """Return what the import consists of, by hashes: one of another identity is another import."""
    predictions = imported.predictions
    return {
        "oof file": _sha256(files.oof),
        "test file": _sha256(files.test) if files.test else None,
        "train data": predictions.train_fingerprint,
        "test data": predictions.test_fingerprint,
        "folds": imported.folds.fingerprint,
        "rows normalised": imported.n_normalised,
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _admit(run: RunFolder, identity: Mapping[str, Any], *, force: bool) -> None:
    """Let an import be written where there is nothing, or the same import; another with `force`."""
    others = (run.config_file, run.recipe_file)
    if not any(path.exists() for path in (run.report_file, *others)):
        return
    is_other = any(path.exists() for path in others)
    if is_other or read_report(run.report_file).kind != "imported":
        raise InputError(f"{run.path} is an experiment of another kind; choose another NAME")
    known = read_part(run.report_file, _Identity).identity
    changed = [key for key in identity if known.get(key) != identity[key]]
    if changed and not force:
        raise InputError(
            f"{run.path} holds another import, with other {', '.join(changed)}; "
            "another NAME keeps both, --force replaces it"
        )
    run.discard_outputs()


def _submit(run: RunFolder, imported: Imported, chosen: RuleResult, summary: Summary) -> str | None:
    predictions = imported.predictions
    if not len(predictions.test_ids):
        return None
    path = FOLDER / f"{run.name}.csv"
    provenance = Provenance(
        source=run.name,
        recipe=f"import of {summary['files']['test']}, on {summary['data']['test']}",
        rule=chosen.name,
        expected_per_20k=summary["expected_per_20k"],
        standard_error=summary["expected_standard_error"],
        n_scored=len(predictions.labels),
    )
    answers = chosen.rule.apply(predictions.test_probs)
    id_column = summary["config"]["data"]["id_column"]
    write_submission(path, predictions.test_ids, answers, provenance, id_column)
    return str(path)


def _write_report(
    run: RunFolder,
    data: Data,
    imported: Imported,
    rules: Sequence[RuleResult],
    chosen: RuleResult,
    summary: Summary,
) -> None:
    """Write report.html with its pictures, then report.json."""
    train, oof = data.train, imported.predictions.oof_probs
    costliest = pictures.costliest_beats(
        train.signals, train.known_labels, oof, chosen.costs, train.ids
    )
    drawn = [
        *probs_pictures(imported.predictions, rules, chosen),
        pages.Picture(
            "costliest",
            costliest,
            "The beats that cost most, under the chosen rule, cross-fitted.",
        ),
    ]
    pages.write_pictures(run.path / "pictures", drawn)
    pages.write_page(
        run.path / "report.html",
        title=f"{run.name}: {summary['expected_per_20k']:.1f} per 20k",
        subtitle=(
            f"imported; out-of-fold, cross-fitted, rule {chosen.name}, {train.n_rows:,} rows; "
            f"{_folds(imported, summary['like'])}"
        ),
        sections=[
            rule_table(summary),
            *transfer_tables(summary),
            class_table(summary),
            *drawn,
            _provenance(summary),
        ],
    )
    write_text(run.report_file, json.dumps(summary, indent=2, allow_nan=False) + "\n")


def _provenance(summary: Summary) -> pages.Table:
    rows = [
        [f"{section}.{key}", value if isinstance(value, str) else json.dumps(value)]
        for section in ("files", "identity", "config", "data")
        for key, value in summary[section].items()
    ]
    return pages.Table("Where it comes from", ["what", "value"], rows)


def _folds(imported: Imported, like: str) -> str:
    folds = imported.folds
    if imported.has_own_folds:
        return f"the {folds.n_folds} folds of its file"
    return f"taken on trust as made over the {folds.n_folds} folds of {like}, seed {folds.seed}"


def _say(wish: Wish, imported: Imported, summary: Summary) -> None:
    name = wish.files.oof.name
    console.print(f"{name}: {_folds(imported, wish.like)}")
    if not imported.has_own_folds:
        console.print(
            "warning: rows predicted by a model that trained on them make every score too good; "
            f"`hbcomp folds {wish.like}` writes these folds, a fold column in {name} names others"
        )
    if imported.n_normalised:
        console.print(f"{imported.n_normalised:,} rows did not sum to 1 and were normalised")
    if imported.n_rounded:
        console.print(rounding(imported.n_rounded))
    if summary["data"]["n_test"] and not len(imported.predictions.test_ids):
        console.print(
            "without --test there is no submission, and no blend with members that have one"
        )
    console.print(expectation(summary))
