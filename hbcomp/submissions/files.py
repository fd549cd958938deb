"""Submission files are written atomically, read back, checked, and recorded in the ledger."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Shaped

from hbcomp.competitions.submission_form import SubmissionForm, plain_form
from hbcomp.data.dataset import id_problems
from hbcomp.submissions import FOLDER, ledger
from hbcomp.submissions.ledger import BY_HAND, Entries, Entry
from hbcomp.system.command import console
from hbcomp.system.errors import InputError, Problems, unreadable
from hbcomp.system.files import atomic_path, csv_bytes


@dataclass(frozen=True, eq=False)
class Submission:
    """The rows of a submission file, in its order."""

    ids: Shaped[np.ndarray, " n"]
    answers: Float64[np.ndarray, "n k"]
    id_column: str = "id"


def submission_bytes(
    ids: Shaped[np.ndarray, " n"], answers: Float64[np.ndarray, "n k"], form: SubmissionForm
) -> bytes:
    """Return the file's content: the header and one line per id, LF line ends."""
    order = form.order(ids.tolist())
    cells = form.cells(answers[order])
    rows = ([row_id, *row] for row_id, row in zip(ids[order].tolist(), cells, strict=True))
    return csv_bytes(form.header, rows)


@dataclass(frozen=True)
class Provenance:
    """The origin of answers: an experiment, how they were made from it, and their expected score.

    The out-of-fold score by `metric` and its standard error are cross-fitted on `n_scored` rows;
    all three are None where nothing was scored. `expected` is what the answers are expected to
    score, in the 95 % interval from `low` to `high`, or None where that is not known.
    `is_optimistic` is a score of rows that early stopping watched, which the recipe in the ledger
    then says.
    """

    source: str
    recipe: str
    rule: str
    metric: str
    better: Literal["lower", "higher"]
    out_of_fold: float | None = None
    standard_error: float | None = None
    n_scored: int | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    is_optimistic: bool = False

    def columns(self) -> dict[str, Any]:
        """Return the columns of its entry in the ledger."""
        columns = asdict(self)
        if columns.pop("is_optimistic"):
            columns["recipe"] = f"{self.recipe}; {ledger.OPTIMISTIC}"
        return columns


def write_submission(
    path: Path,
    ids: Shaped[np.ndarray, " n"],
    answers: Float64[np.ndarray, "n k"],
    provenance: Provenance,
    form: SubmissionForm | None = None,
) -> Path | None:
    """Write a submission, read it back, and let it take its name only if every check passes.

    A file of that name with other content is not lost: it is renamed to
    `<name>.<first digits of its sha256>.csv`, and that path is returned. In `FOLDER` both are
    recorded in the ledger; elsewhere nothing is. Without `form` it is that of the heartbeats.
    """
    form = form or plain_form(answers.shape[1])
    if path.name in (ledger.NAME, ledger.LOCK):
        raise InputError(f"{path}: this is the ledger's name; a submission needs another")
    if not len(ids):
        raise InputError(f"{path}: there are no test rows, so nothing can be submitted")
    # The former file is recorded before it is renamed, and the new one after it has its name: a
    # process killed in between leaves at worst a file without an entry, which the same call,
    # repeated, records.
    folder = path.parent
    is_recorded = folder.resolve() == FOLDER.resolve()
    with ledger.locked(folder) if is_recorded else nullcontext():
        entries = ledger.read_ledger(folder) if is_recorded else None
        with atomic_path(path) as partial:
            partial.write_bytes(submission_bytes(ids, answers, form))
            written = check_submission(partial, ids, form)
            if [*form.cells(written.answers)] != [*form.cells(answers[form.order(ids.tolist())])]:
                raise InputError(f"{path}: the file does not read back as the answers written")
            sha256 = ledger.sha256_of(partial)
            aside = _aside(path, sha256)
            if aside and entries is not None:
                entries = _record_aside(path, aside, entries)
            if aside:
                path.replace(aside)
                console.print(f"the former {path} differed and is kept as {aside}")
        if entries is not None:
            entry = Entry(
                sha256=sha256,
                file=path.name,
                written=ledger.now(),
                n_rows=len(ids),
                **provenance.columns(),
            )
            known = ledger.find(entries, sha256)
            if known and known.source not in (BY_HAND, entry.source):
                console.print(
                    f"{path} has the same content as {known.file} ({known.source}), whose entry "
                    "is kept"
                )
            ledger.write_ledger(folder, ledger.added(entries, entry))
    return aside


def _aside(path: Path, sha256: str) -> Path | None:
    """Return the free name under which a file of other content than `sha256` is kept."""
    there = ledger.sha256_of(path) if path.exists() else sha256
    if there == sha256:
        return None
    names = (path.with_name(f"{path.stem}.{there[:n]}{path.suffix}") for n in range(8, 65))
    return next(name for name in names if not name.exists() or ledger.sha256_of(name) == there)


def _record_aside(path: Path, aside: Path, entries: Entries) -> Entries:
    """Record that the file at `path` is renamed to `aside`; a file without an entry gets one."""
    sha256 = ledger.sha256_of(path)
    known = ledger.find(entries, sha256)
    if known is None:
        entry = ledger.changed(by_hand(path, entries), file=aside.name)
        entries = ledger.added(entries, entry)
        console.print(
            f"{path} was not in the ledger: edited by hand? It is recorded as {aside.name}"
        )
    elif known.file == path.name:
        entries = ledger.replaced(entries, ledger.changed(known, file=aside.name))
    ledger.write_ledger(path.parent, entries)
    return entries


def by_hand(path: Path, entries: Entries) -> Entry:
    """Return an entry for a file whose content was not written by hbcomp."""
    origin = next((each for each in reversed(entries) if each.file == path.name), None)
    try:
        n_rows = max(sum(1 for _ in ledger.csv_rows(path, _read_text(path))) - 1, 0) or None
    except InputError:
        n_rows = None  # a file that cannot be read is recorded, too
    return Entry(
        sha256=ledger.sha256_of(path),
        file=path.name,
        written=datetime.fromtimestamp(int(path.stat().st_mtime), UTC),
        source=BY_HAND,
        recipe=f"edited from {origin.sha256[:8]} ({origin.source})" if origin else "",
        n_rows=n_rows,
    )


def check_submission(
    path: Path,
    test_ids: Shaped[np.ndarray, " n"],
    form: SubmissionForm | None = None,
    id_column: str | None = "id",
) -> Submission:
    """Return the submission in a file, or raise one InputError naming every problem.

    The header and every cell are checked, and that the ids are exactly the test file's, each once,
    in its order or in that of the sample submission. Without `form` the header must be that of the
    heartbeats, with any number of classes.
    """
    submission, problems = _read(path, form, id_column)
    ids = test_ids.tolist()
    wanted = ids if form is None else [ids[row] for row in form.order(ids)]
    problems += _id_problems(submission.ids.tolist(), wanted)
    if problems:
        raise InputError.of(path, problems)
    return submission


def read_submission(path: Path, form: SubmissionForm | None = None) -> Submission:
    """Return the rows of a well-formed submission file, whatever its ids are.

    Without `form` the header must be that of the heartbeats, with any number of classes.
    """
    submission, problems = _read(path, form, None)
    if problems:
        raise InputError.of(path, problems)
    return submission


def align(
    paths: Sequence[Path], submissions: Sequence[Submission]
) -> list[Float64[np.ndarray, "n k"]]:
    """Return the answers of several files with their rows in the order of the first file.

    Every file must have the ids of the first, each once, and as many classes; one InputError
    names what is wrong with any of them.
    """
    first = submissions[0]
    wanted, n_classes = first.ids.tolist(), first.answers.shape[1]
    problems, aligned = [], []
    for path, submission in zip(paths, submissions, strict=True):
        ids = submission.ids.tolist()
        found = list(id_problems(ids, wanted, str(paths[0])))
        if submission.answers.shape[1] != n_classes:
            found.append(f"{submission.answers.shape[1]} classes, but {paths[0]} has {n_classes}")
        problems += [f"{path}: {problem}" for problem in found]
        if not found:
            row_of_id = {row_id: row for row, row_id in enumerate(ids)}
            aligned.append(submission.answers[[row_of_id[row_id] for row_id in wanted]])
    if problems:
        raise InputError.of("", problems)
    return aligned


def _read(
    path: Path, form: SubmissionForm | None, id_column: str | None
) -> tuple[Submission, list[str]]:
    header, *lines = [row for _, row in ledger.csv_rows(path, _read_text(path))] or [[]]
    is_known = form is not None
    form = form or _form_like(header, id_column)
    if header != form.header:
        wanted, found = ",".join(form.header), ",".join(header) or "missing"
        hint = "" if is_known else "; a file of another competition needs --competition"
        raise InputError(f"{path}: the header must be {wanted}, but is {found}{hint}")
    wrong_cells, answers = Problems(), np.full((len(lines), len(form.classes)), np.nan)
    for number, row in enumerate(lines, start=1):
        found_problems = list(_row_problems(row, form))
        for problem in found_problems:
            wrong_cells.add(f"row {number} (id {row[0]})", problem)
        if not found_problems:
            answers[number - 1] = form.answers([row[1:]])[0]
    problems = wrong_cells.lines() if lines else ["there are no rows"]
    ids = np.array([row[0] for row in lines], dtype=np.str_)
    return Submission(ids, answers, form.id_column), problems


def _form_like(header: Sequence[str], id_column: str | None) -> SubmissionForm:
    """Return the form of the heartbeats that is most like a header."""
    first = header[0] if header else ""
    is_name = first.isprintable() and first.strip() and not first.startswith("label_")
    return plain_form(max(len(header) - 1, 2), id_column or (first if is_name else "id"))


def _row_problems(row: Sequence[str], form: SubmissionForm) -> Iterator[str]:
    if len(row) != len(form.header):
        yield f"{len(row)} cells, but the header has {len(form.header)}"
        return
    yield from form.problems(row[1:])


def _read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode()  # line ends as they are: an id may have one
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text, but {error.reason}") from error
    if "\0" in text:
        raise InputError(f"{path}: must be text, but there is a NUL byte")
    if text.startswith("\ufeff"):
        raise InputError(
            f"{path}: begins with a byte order mark, which a leaderboard may read as a part of the "
            "first column's name; save the file as UTF-8 without one"
        )
    return text


def _id_problems(ids: Sequence[str], test_ids: Sequence[str]) -> Iterator[str]:
    if ids == test_ids:
        return
    if len(ids) != len(test_ids):
        yield f"{len(ids)} rows, but the test file has {len(test_ids)}"
    problems = list(id_problems(ids, test_ids, "the test file"))
    yield from problems
    if not problems and len(ids) == len(test_ids):
        first = next(
            i for i, pair in enumerate(zip(ids, test_ids, strict=True)) if len({*pair}) > 1
        )
        yield (
            f"the ids must be in the test file's order, but row {first + 1} is id {ids[first]} "
            f"instead of {test_ids[first]}"
        )
