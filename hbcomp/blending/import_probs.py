"""The import of outside probabilities in order: read, check, write, submit, report."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float64

from hbcomp.data.dataset import Dataset, id_problems
from hbcomp.data.load import load_data
from hbcomp.data.row_checks import parse_label
from hbcomp.data.splits import Folds, FoldsConfig, make_folds, pick_seed, read_folds
from hbcomp.data.tables import read_rows
from hbcomp.experiment.config import Config
from hbcomp.experiment.finish import write_answers, write_report
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import (
    Environment,
    FileNames,
    Report,
    data_numbers,
    expectation,
    read_report,
    scorecard,
    scores_by_rule,
)
from hbcomp.experiment.report_tables import (
    class_table,
    costliest_picture,
    probs_pictures,
    provenance_table,
    rule_table,
    transferability_tables,
)
from hbcomp.reporting import pages
from hbcomp.scoring.choice import evaluate_rules
from hbcomp.scoring.transfer import choose_safe_rule
from hbcomp.submissions.files import NUMBER
from hbcomp.system.command import console
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError, Problems, listed

# What the sum of a row may miss: four classes written with four digits miss 2e-4 at most.
TOLERANCE: Final = 1e-3


# By what a sum of float32 may leave [0, 1]: such numbers count as 0 or 1, which is said.
ROUNDING: Final = 1e-5  # as in hbcomp.predictions; fastText gives 1.00000536

Identity = dict[str, str | int | None]


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
    files: Files,
    train: Dataset,
    test: Dataset | None,
    config: FoldsConfig,
    seed: int | None,
    *,
    normalise: bool,
) -> Imported:
    """Return the probabilities in the files as predictions of the data's rows, matched by id.

    Folds are those in the `fold` column of the out-of-fold file; without one, those that the
    configuration draws for `seed` (None: its first). With `normalise`, rows that do not sum to 1
    are divided by their sum; otherwise they are refused.
    """
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
    train, test = load_data(wish.config.data)
    imported = read_imported(
        wish.files, train, test, wish.config.folds, wish.seed, normalise=wish.normalise
    )
    predictions = imported.predictions
    rules = evaluate_rules(predictions.oof_probs, predictions.labels, predictions.fold_of_row)
    chosen = choose_safe_rule(
        rules, predictions.oof_probs, predictions.test_probs, wish.config.decision.rule
    )
    identity = _identity(wish.files, imported)
    with locked(run):
        _admit(run, identity, force=force)
        report = Report(
            **dict(scorecard(predictions, rules, chosen)),
            experiment=run.name,
            kind="imported",
            config=wish.config.model_dump(
                mode="json", exclude_none=True, include={"data", "folds"}
            ),
            data=data_numbers(train, test),
            environment=Environment(**asdict(machine())),
            folds=(),
            like=wish.like,
            files=FileNames(
                oof=wish.files.oof.name, test=wish.files.test.name if wish.files.test else None
            ),
            identity=identity,
            has_own_folds=imported.has_own_folds,
        )
        recipe = f"import of {report.files and report.files.test}, on {report.data.test}"
        submission = write_answers(run, predictions, chosen, recipe, report.id_column)
        drawn = [
            *probs_pictures(predictions, rules, chosen),
            costliest_picture(predictions, chosen, train),
        ]
        pages.write_pictures(run.pictures_folder, drawn)
        page = write_report(run, report, _subtitle(imported, report), _sections(report, drawn))
    pages.print_table(rule_table(report), console)
    _say(wish, imported, report)
    return {
        "experiment": run.name,
        "n_rows": len(predictions.train_ids),
        "n_test": len(predictions.test_ids),
        "n_normalised": imported.n_normalised,
        "n_rounded": imported.n_rounded,
        "has_own_folds": imported.has_own_folds,
        "rule": chosen.name,
        "oof_per_20k": scores_by_rule(rules),
        "accuracy": report.accuracy,
        "submission": submission,
        "report": page,
    }


def _identity(files: Files, imported: Imported) -> Identity:
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


def _admit(run: RunFolder, identity: Identity, *, force: bool) -> None:
    """Let an import be written where there is nothing, or the same import; another with `force`."""
    others = (run.config_file, run.recipe_file)
    if not any(path.exists() for path in (run.report_file, *others)):
        return
    is_other = any(path.exists() for path in others)
    known = None if is_other else read_report(run.report_file)
    if known is None or known.kind != "imported":
        raise InputError(f"{run.path} is an experiment of another kind; choose another NAME")
    changed = [key for key in identity if known.identity.get(key) != identity[key]]
    if changed and not force:
        raise InputError(
            f"{run.path} holds another import, with other {', '.join(changed)}; "
            "another NAME keeps both, --force replaces it"
        )


def _subtitle(imported: Imported, report: Report) -> str:
    return (
        f"imported; out-of-fold, cross-fitted, rule {report.chosen.name}, "
        f"{report.data.n_train:,} rows; {_folds(imported, report.like)}"
    )


def _sections(report: Report, drawn: Sequence[pages.Picture]) -> list[pages.Section]:
    return [
        rule_table(report),
        *drawn,
        *transferability_tables(report),
        class_table(report),
        provenance_table(report, "files", "identity", "config", "data"),
    ]


def _folds(imported: Imported, like: str) -> str:
    folds = imported.folds
    if imported.has_own_folds:
        return f"the {folds.n_folds} folds of its file"
    return f"taken on trust as made over the {folds.n_folds} folds of {like}, seed {folds.seed}"


def _say(wish: Wish, imported: Imported, report: Report) -> None:
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
    if report.data.n_test and not len(imported.predictions.test_ids):
        console.print(
            "without --test there is no submission, and no blend with members that have one"
        )
    console.print(expectation(report))
