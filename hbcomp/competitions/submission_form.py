"""What a submission file of a competition must be: header, order of rows, and cells.

A sample submission is the contract where there is one. Otherwise the header follows from the
classes, and the rows are those of the test file.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Float64

from hbcomp.competitions.competition import CLASS, Competition, load_competition
from hbcomp.competitions.load import classes_of
from hbcomp.data.dataset import DataConfig, id_problems
from hbcomp.data.tables import read_rows
from hbcomp.system.config import Section
from hbcomp.system.errors import InputError

Answers = Float64[np.ndarray, "n k"]
# What is read. float() would also take 1_0, infinity and the digits of other scripts.
NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
TOLERANCE: Final = 1e-6  # of the sum of a row, where it must be 1; assumed


class SubmissionForm(Section):
    """The form of a submission: its columns after the id, and what their cells hold.

    `class_of_column` says which class each column is about, in kind `label` none. The rows have the
    order of the file `sample`, or without one that of the test rows.
    """

    kind: Literal["probabilities", "probability", "label"] = "probabilities"
    id_column: str = "id"
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    class_of_column: tuple[int, ...]
    range: tuple[float, float] = (0.0, 1.0)
    sums_to_one: bool = False
    sample: Path | None = None

    @property
    def header(self) -> list[str]:
        """The first line of the file."""
        return [self.id_column, *self.columns]

    def order(self, test_ids: Sequence[str]) -> list[int]:
        """Return which test row each row of the submission is about."""
        if self.sample is None:
            return list(range(len(test_ids)))
        ids = _ids_of(self.sample)
        if problems := list(id_problems(ids, test_ids, "the test file")):
            raise InputError.of(self.sample, problems)
        row_of_id = {row_id: row for row, row_id in enumerate(test_ids)}
        return [row_of_id[row_id] for row_id in ids]

    def of_other_rows(self, ids: Sequence[str]) -> "SubmissionForm":
        """Return the form for the rows of a file that the user names.

        They keep the order of their file, unless they are those of the sample.
        """
        is_sample = self.sample is not None and {*_ids_of(self.sample)} == {*ids}
        return self if is_sample else self.model_copy(update={"sample": None})

    def cells(self, answers: Answers) -> Iterator[list[str]]:
        """Yield the cells after the id of each row of answers.

        A number is written as the shortest decimal that reads back as itself, 0.0 and 1.0 as 0 and
        1, without an exponent, because a leaderboard's own reader may not know one.
        """
        if self.kind == "label":
            yield from ([self.classes[label]] for label in answers.argmax(axis=1).tolist())
        else:
            shown = answers[:, list(self.class_of_column)]
            yield from ([_decimal(value) for value in row] for row in shown.tolist())

    def problems(self, cells: Sequence[str]) -> Iterator[str]:
        """Yield what is wrong with the cells after the id of one row."""
        if self.kind == "label":
            if cells[0] not in self.classes:
                known = ", ".join(self.classes[:20])
                yield f"{self.columns[0]} must be one of {known}, but is {cells[0]!r}"
            return
        (low, high), n_wrong = self.range, 0
        for name, cell in zip(self.columns, cells, strict=True):
            if not NUMBER.fullmatch(cell):
                n_wrong += 1
                yield f"{name} must be a finite number, but is {cell!r}"
            elif not low <= float(cell) <= high:
                n_wrong += 1
                yield f"{name} must be in [{low:g}, {high:g}], but is {cell}"
        if self.sums_to_one and not n_wrong:
            total = sum(map(float, cells))
            if abs(total - 1.0) > TOLERANCE:
                yield f"the row must sum to 1, but is {total:.6g}"

    def answers(self, cells: Sequence[Sequence[str]]) -> Answers:
        """Return the answers that rows of cells without problems stand for."""
        n_classes = len(self.classes)
        if self.kind == "label":
            number_of = {name: number for number, name in enumerate(self.classes)}
            return np.eye(n_classes)[[number_of[row[0]] for row in cells]]
        values = np.array([[float(cell) for cell in row] for row in cells])
        answers = np.empty((len(cells), n_classes))
        if self.kind == "probability":
            answers[:] = 1.0 - values
        answers[:, list(self.class_of_column)] = values
        return answers


def _ids_of(sample: Path) -> list[str]:
    _, rows = read_rows(sample)
    return [row[0] for row in rows]


def plain_form(n_classes: int, id_column: str = "id") -> SubmissionForm:
    """Return the form `id,label_0,...` of the heartbeat competition."""
    return SubmissionForm(
        id_column=id_column,
        columns=tuple(f"label_{label}" for label in range(n_classes)),
        classes=tuple(map(str, range(n_classes))),
        class_of_column=tuple(range(n_classes)),
    )


def form_of(config: DataConfig, classes: Sequence[str]) -> SubmissionForm:
    """Return the form of a competition's submissions; a sample submission decides, if any."""
    return form_in(load_competition(config.competition), classes)


def form_in(competition: Competition, classes: Sequence[str]) -> SubmissionForm:
    """Return the form that a competition.toml and its sample submission describe."""
    form = competition.file.submission
    sample = None if form.sample is None else competition.path(form.sample)
    header = [competition.file.data.id_name, *_columns(competition, classes)]
    if sample is not None:
        header, _ = read_rows(sample)
    if len(header) < 2:
        raise InputError(f"{sample}: needs an id column and one of answers, but has {header}")
    columns = tuple(header[1:])
    return SubmissionForm(
        kind=form.kind,
        id_column=header[0],
        columns=columns,
        classes=tuple(classes),
        class_of_column=_class_of_column(competition, columns, classes),
        range=form.range,
        sums_to_one=form.sum_to_one,
        sample=sample,
    )


def known_form(config: DataConfig) -> SubmissionForm | None:
    """Return the form of a competition's submissions; None where any classes are taken."""
    classes = classes_of(config)
    return form_of(config, classes) if classes else None


def _columns(competition: Competition, classes: Sequence[str]) -> list[str]:
    form = competition.file.submission
    if form.kind != "probabilities":
        return [form.columns or competition.file.data.label_name]
    template = form.columns or f"label_{CLASS}"
    return [template.replace(CLASS, name) for name in classes]


def _class_of_column(
    competition: Competition, columns: Sequence[str], classes: Sequence[str]
) -> tuple[int, ...]:
    """Return which class each column is about; its name must say so."""
    form = competition.file.submission
    if form.kind != "probabilities":
        if len(columns) != 1:
            raise InputError(
                f"a submission of kind {form.kind} has one column of answers, but the sample has "
                f"{', '.join(columns)}"
            )
        if form.kind == "label":
            return ()
        positive = competition.file.metric.positive
        return (classes.index(positive) if positive in classes else len(classes) - 1,)
    for name in classes:  # which the first column may hold, between what all begin and end with
        for place in re.finditer(re.escape(name), columns[0]):
            prefix, suffix = columns[0][: place.start()], columns[0][place.end() :]
            class_of = {f"{prefix}{name}{suffix}": at for at, name in enumerate(classes)}
            if sorted(class_of) == sorted(columns):
                return tuple(class_of[column] for column in columns)
    raise InputError(
        f"the columns of the sample submission, {', '.join(columns)}, must be the classes "
        f"{', '.join(classes)}, or these between a common beginning and a common end"
    )


def _decimal(value: float) -> str:
    text = "0" if value == 0.0 else repr(value).removesuffix(".0")
    return np.format_float_positional(value, trim="-") if "e" in text else text
