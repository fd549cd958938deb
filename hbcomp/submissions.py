"""Submission files: written whole or not at all, read back, and checked against the test ids."""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from hbcomp.errors import MAX_SHOWN, InputError
from hbcomp.files import atomic_path

FOLDER = Path("submissions")
# Plain decimal notation: what every leaderboard parses. float() would also take 1_0 or infinity.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, eq=False)
class Submission:
    """The rows of a submission file, in its order."""

    ids: Shaped[np.ndarray, " n"]
    answers: Float64[np.ndarray, "n k"]


def submission_bytes(ids: Shaped[np.ndarray, " n"], answers: Float64[np.ndarray, "n k"]) -> bytes:
    """Return the file's content: `id,label_0,...`, one line per id, LF line ends.

    A float is written as the shortest text that reads back as itself, 0.0 and 1.0 as 0 and 1.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", *(f"label_{label}" for label in range(answers.shape[1]))])
    for beat_id, row in zip(ids.tolist(), answers.tolist(), strict=True):
        rows.writerow([beat_id, *(int(value) if value in (0.0, 1.0) else value for value in row)])
    return text.getvalue().encode()


def write_submission(
    path: Path, ids: Shaped[np.ndarray, " n"], answers: Float64[np.ndarray, "n k"]
) -> Path | None:
    """Write a submission, read it back, and let it take its name only if every check passes.

    A file of that name with other content is not lost: it is renamed to
    `<name>.<first 8 digits of its sha256>.csv`, and that path is returned.
    """
    content = submission_bytes(ids, answers)
    with atomic_path(path) as partial:
        partial.write_bytes(content)
        written = check_submission(partial, ids, answers.shape[1])
        if not np.array_equal(written.answers, answers):
            raise InputError(f"{path}: the file does not read back as the answers written to it")
        return _set_aside(path, content)


def _set_aside(path: Path, content: bytes) -> Path | None:
    if not path.exists() or path.read_bytes() == content:
        return None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    aside = path.with_name(f"{path.stem}.{digest[:8]}{path.suffix}")
    path.replace(aside)
    return aside


def check_submission(
    path: Path, test_ids: Shaped[np.ndarray, " n"], n_classes: int | None = None
) -> Submission:
    """Return the submission in a file, or raise one InputError naming every problem.

    Checked: header, number of columns, numbers finite and in [0, 1], and ids exactly the test
    file's, each once, in its order.
    """
    submission, problems = _read(path, n_classes)
    problems += _id_problems(submission.ids.tolist(), test_ids.tolist())
    if problems:
        raise InputError.of(path, problems)
    return submission


def read_submission(path: Path) -> Submission:
    """Return the rows of a well-formed submission file, whatever its ids."""
    submission, problems = _read(path, None)
    if problems:
        raise InputError.of(path, problems)
    return submission


def _read(path: Path, n_classes: int | None) -> tuple[Submission, list[str]]:
    rows = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        header, *lines = [row for row in rows if row] or [[]]
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: not valid CSV: {error}") from error
    n_labels = n_classes or max(len(header) - 1, 2)
    wanted = ["id", *(f"label_{label}" for label in range(n_labels))]
    if header != wanted:
        raise InputError(
            f"{path}: the header must be {','.join(wanted)}, but is {','.join(header) or 'missing'}"
        )
    ids = [row[0] for row in lines]
    answers = np.full((len(lines), n_labels), np.nan)
    problems = []
    for number, row in enumerate(lines, start=1):
        found = list(_cell_problems(row, wanted))
        problems += [f"row {number} (id {row[0]}): {problem}" for problem in found]
        if not found:
            answers[number - 1] = [float(cell) for cell in row[1:]]
    return Submission(np.array(ids, dtype=np.str_), answers), problems


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text, but {error.reason}") from error


def _cell_problems(row: Sequence[str], header: Sequence[str]) -> Iterator[str]:
    if len(row) != len(header):
        yield f"{len(row)} cells, but the header has {len(header)}"
        return
    for name, cell in zip(header[1:], row[1:], strict=True):
        if not NUMBER.fullmatch(cell):
            yield f"{name} must be a finite number, but is {cell!r}"
        elif not 0.0 <= float(cell) <= 1.0:
            yield f"{name} must be in [0, 1], but is {cell}"


def _id_problems(ids: Sequence[str], test_ids: Sequence[str]) -> Iterator[str]:
    if ids == test_ids:
        return
    if len(ids) != len(test_ids):
        yield f"{len(ids)} rows, but the test file has {len(test_ids)}"
    doubled = [beat_id for beat_id, count in Counter(ids).items() if count > 1]
    there, wanted = set(ids), set(test_ids)
    kinds = {
        "doubled": doubled,
        "missing": [beat_id for beat_id in test_ids if beat_id not in there],
        "not in the test file": [beat_id for beat_id in ids if beat_id not in wanted],
    }
    for kind, found in kinds.items():
        if found:
            more = f" and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
            yield f"ids {kind}: {', '.join(found[:MAX_SHOWN])}{more}"
    if not any(kinds.values()) and len(ids) == len(test_ids):
        first = next(
            i for i, pair in enumerate(zip(ids, test_ids, strict=True)) if len({*pair}) > 1
        )
        yield (
            f"the ids must be in the test file's order, but row {first + 1} is id {ids[first]} "
            f"instead of {test_ids[first]}"
        )
