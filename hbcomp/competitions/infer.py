"""What a competition's files say about themselves: the competition.toml that `hbcomp init` writes.

Nothing is guessed in silence: every key comes with the reason for it.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from hbcomp.competitions.competition import CLASS, load_competition
from hbcomp.data.columns import NUMBERED, STEP
from hbcomp.data.foreign_readers import read_arrays, read_table, read_ts, unpacked_name
from hbcomp.data.recordings import number_classes
from hbcomp.system.errors import InputError, closest, did_you_mean

N_ROWS: Final = 2000  # looked at
N_PADDED: Final = 200  # rows looked at for padding
N_ZEROS: Final = 3  # at the end of a padded row; assumed: fewer may be values
MIN_PADDED: Final = 0.1  # share of the rows; assumed
METRIC_OF_KIND: Final = {
    "label": "accuracy",
    "probabilities": "log-loss",
    "probability": "roc-auc",
}
USUAL_LABELS: Final = ("label", "target", "class", "y")
USUAL_ID: Final = re.compile(r"(?i)index|u?id|.*[a-z_]id|.*Id")
LIST: Final = re.compile(r"\s*[-+.\d][^,;\s]*(\s*[,;\s]\s*[-+.\d][^,;\s]*)+\s*")


@dataclass
class Inferred:
    """The tables of a competition.toml, and why each key has its value."""

    data: dict[str, Any] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    submission: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def say(self, table: dict[str, Any], key: str, value: Any, reason: str) -> None:
        """Set a key and note why."""
        table[key] = value
        name = next(n for n in ("data", "metric", "submission") if getattr(self, n) is table)
        self.reasons.append(f"{name}.{key} = {value!r}: {reason}")


@dataclass(frozen=True)
class Wanted:
    """What the user says of a competition; None where the files are to say it.

    `like` is a competition whose metric and submission are taken.
    """

    metric: str | None = None
    kind: str | None = None
    like: str | None = None
    label: str | None = None
    id: str | None = None
    group: str | None = None


def infer(train: Path, test: Path | None, sample: Path | None, wanted: Wanted) -> Inferred:
    """Return what the files say; what they leave open and nobody said is refused."""
    found = Inferred()
    if wanted.like is not None and (sample or wanted.metric or wanted.kind):
        raise InputError("--like names metric and submission, so --sample, --metric, --kind do not")
    is_array = unpacked_name(train).endswith((".npy", ".npz", ".ts"))
    if is_array:
        _say_columns(found, {"group": wanted.group})
    classes = (
        _of_arrays(found, train) if is_array else _of_tables(found, train, test, sample, wanted)
    )
    if wanted.like is None:
        _of_submission(found, sample, classes, wanted.kind)
        _of_metric(found, sample, wanted.metric, classes)
    else:
        _of_competition(found, wanted.like)
    return found


def _of_competition(found: Inferred, name: str) -> None:
    """Take the metric and the submission of a competition."""
    file = load_competition(name).file
    for table, part in ((found.metric, file.metric), (found.submission, file.submission)):
        values = part.model_dump(mode="json", exclude_unset=True, exclude={"sample", "costs"})
        for key, value in values.items():
            found.say(table, key, value, f"as in {name}")


def _of_arrays(found: Inferred, train: Path) -> list[str]:
    is_ts = unpacked_name(train).endswith(".ts")
    layout = "ts" if is_ts else "array"
    found.say(found.data, "layout", layout, f"{train.name} is such a file")
    recordings = read_ts(train) if is_ts else read_arrays(train, _labels_beside(found, train))
    if recordings.labels is None:
        raise InputError(f"{train}: there are no labels")
    _say_padding(found, recordings.signals)
    lengths = {signal.shape[1] for signal in recordings.signals}
    _say_repairs(
        found, len(lengths) > 1, any(np.isnan(signal).any() for signal in recordings.signals)
    )
    return _say_classes(found, recordings.labels)


def _labels_beside(found: Inferred, train: Path) -> Path | None:
    """Return the file of labels that goes with an .npy: X_train.npy has y_train.npy."""
    if train.suffix != ".npy":
        return None
    name = re.sub(r"^(X|x|signals)(?=[_.])", "y", train.name)
    beside = train.with_name(name if name != train.name else f"y_{train.name}")
    if not beside.exists():
        raise InputError(f"{train}: an .npy has no labels; they must lie in {beside.name}")
    found.say(found.data, "train_labels", str(beside), f"{beside.name} lies beside {train.name}")
    return beside


def _of_tables(
    found: Inferred, train: Path, test: Path | None, sample: Path | None, wanted: Wanted
) -> list[str]:
    head = _head(train)
    columns = list(head.columns)
    if _is_headerless(columns):
        _say_columns(found, {"group": wanted.group})  # which the layout refuses with the reason
        return _of_plain(found, train, test)
    said = {"label": wanted.label, "id": wanted.id, "group": wanted.group}
    if absent := [name for name in said.values() if name is not None and name not in columns]:
        hint = did_you_mean(closest(absent[0], columns))
        raise InputError(f"{train}: no column {absent[0]!r}{hint}")
    _say_columns(found, said)
    tests = list(_head(test).columns) if test else []
    answers = list(_head(sample).columns) if sample else []
    if wanted.label is None:
        _say_label(found, [name for name in columns if name not in said.values()], tests, answers)
    label = found.data["label"]
    if wanted.id is None:
        _say_id(found, head, test, sample)
    _say_signals(found, head)
    if found.data["layout"] == "long":
        n_steps = Counter(_column(train, found.data["id"]))
        _say_repairs(found, len({*n_steps.values()}) > 1, False)
    noun = "lines" if found.data["layout"] == "long" else "rows"
    return _say_classes(found, [str(value) for value in _column(train, label)], noun)


def _say_columns(found: Inferred, said: Mapping[str, str | None]) -> None:
    for key, column in said.items():
        if column is not None:
            found.say(found.data, key, column, "as you said")


def _of_plain(found: Inferred, train: Path, test: Path | None) -> list[str]:
    found.say(found.data, "layout", "plain", "the first line is numbers, so there is no header")
    is_tsv = ".tsv" in train.name
    reason = "as in the UCR archive's .tsv" if is_tsv else "as in most .csv files without a header"
    found.say(found.data, "label", "first" if is_tsv else "last", f"{reason}; is that right?")
    table = read_table(train, sep="\t" if is_tsv else ",", header=None, dtype=str)
    if test is not None and _head(test).shape[1] == table.shape[1]:
        reason = f"{test.name} has as many columns as {train.name}"
        found.say(found.data, "test_has_label", True, reason)
    values = table.drop(columns=0 if is_tsv else table.columns[-1])
    _say_padding(found, _numbers(values))
    _say_repairs(found, bool(values.iloc[:, -1].isna().any()), False)
    return _say_classes(found, table[0 if is_tsv else table.columns[-1]].tolist())


def _head(path: Path) -> Any:
    """Return the first rows of a table, all cells as text in CSV."""
    if path.suffix == ".parquet":
        import pandas as pd
        import pyarrow.parquet as pq

        try:
            batch = next(pq.ParquetFile(path).iter_batches(N_ROWS))
        except (OSError, ValueError, StopIteration) as error:
            raise InputError(f"{path}: cannot be read: {error}") from error
        return pd.DataFrame(batch.to_pandas())
    return read_table(path, sep="\t" if ".tsv" in path.name else ",", dtype=str, nrows=N_ROWS)


def _column(path: Path, name: str) -> Sequence[Any]:
    import pandas as pd

    if path.suffix == ".parquet":
        values = pd.read_parquet(path, columns=[name])[name]
    else:
        values = read_table(path, [name], dtype=str)[name]
    return list(values)


def _is_headerless(columns: Sequence[str]) -> bool:
    # pandas tells equal cells of a header apart by .1, .2, which still are numbers or nearly.
    cells = [re.sub(r"(\.\d+)\.\d+$", r"\1", str(name)) for name in columns]
    numbers = [_is_number(cell) for cell in cells]
    return len(cells) > 2 and sum(numbers) >= len(cells) - 1 and any("." in c for c in cells)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _say_label(
    found: Inferred, columns: Sequence[str], tests: Sequence[str], answers: Sequence[str]
) -> None:
    """Find the label: what train has, test lacks and, best, the sample submission asks for."""
    only_train = [name for name in columns if tests and name not in tests]
    asked = [name for name in answers[1:] if name in columns]
    if len(asked) == 1:
        found.say(found.data, "label", asked[0], "the sample submission asks for this column")
    elif len(only_train) == 1:
        found.say(found.data, "label", only_train[0], "train has this column and test does not")
    elif len(usual := [name for name in columns if name.casefold() in USUAL_LABELS]) == 1:
        found.say(found.data, "label", usual[0], "train has a column of this name")
    else:
        _, others = _series(columns)
        raise InputError(
            "which column is the label? train has "
            f"{', '.join(only_train or others or columns)[:200]}; name it with --label"
        )


def _say_id(found: Inferred, head: Any, test: Path | None, sample: Path | None) -> None:
    taken = (found.data["label"], found.data.get("group"))
    columns = [name for name in head.columns if name not in taken]
    usual = [name for name in columns if USUAL_ID.fullmatch(name)]
    _, rest = _series(columns)
    others = [name for name in rest if not _is_list(head[name].iloc[0])]
    first = [name for name in others if name == columns[0]]
    named, answered = [], []
    if sample is not None:
        id_name = _head(sample).columns[0]
        named = [name for name in columns if name == id_name]
        ids = {*map(str, _column(sample, id_name))}
        answered = [name for name in others if test and {*map(str, _column(test, name))} == ids]
    if named:
        found.say(found.data, "id", named[0], "the sample submission begins with this column")
    elif answered:
        found.say(found.data, "id", answered[0], "the sample submission has its values in test")
    elif usual:
        found.say(found.data, "id", usual[0], "train has a column of this name")
    elif first and len(columns) > 1 and head[first[0]].is_unique:
        found.say(found.data, "id", first[0], "the first column is different in every row")
    else:
        found.reasons.append("no id column: rows are numbered from 0")


def _say_signals(found: Inferred, head: Any) -> None:
    row_id = found.data.get("id")
    taken = (found.data["label"], row_id, found.data.get("group"))
    others = [name for name in head.columns if name not in taken]
    lists = [name for name in others if _is_list(head[name].iloc[0])]
    if lists:
        found.say(found.data, "layout", "list", f"a cell of {lists[0]} holds many numbers")
        found.say(found.data, "signal", lists[0], "this column")
        _say_padding(found, [_values(cell)[None] for cell in head[lists[0]][:N_PADDED]])
        return
    if row_id is not None and head[row_id].duplicated().any():
        _say_long(found, head, others, row_id)
        return
    families, rest = _series(others)
    if not families:
        raise InputError(
            f"no column holds lists and none are a numbered series, among {', '.join(others)[:200]}"
        )
    steps = next(iter(families.values()))
    found.say(found.data, "layout", "wide", f"{steps[0]} ... {steps[-1]} are a numbered series")
    if len(families) > 1:
        reason = f"so many series of the same {len(steps)} time steps"
        found.say(found.data, "channels", list(families), reason)
    if rest:
        found.say(found.data, "ignore", rest, "not of the series; one of groups: --group")
    _say_padding(found, _numbers(head[steps]))


def _is_word_of(text: str, name: str) -> bool:
    return bool(re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", text, re.IGNORECASE))


def _is_list(cell: Any) -> bool:
    return isinstance(cell, (list, np.ndarray)) or bool(LIST.fullmatch(str(cell)))


def _series(names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the columns of each channel, by its name, and those of none.

    A channel is the longest numbered series, or another one of at least two of the same numbers.
    """
    families: dict[str, dict[str, str]] = {}
    for name in names:
        if part := NUMBERED.fullmatch(name):
            families.setdefault(f"{part[1]}{STEP}{part[3]}", {})[part[2]] = name
    longest = max(families.values(), key=len, default={})
    channels = {
        channel: list(steps.values())
        for channel, steps in families.items()
        if steps is longest or (len(steps) > 1 and list(steps) == list(longest))
    }
    found = {name for steps in channels.values() for name in steps}
    return channels, [name for name in names if name not in found]


def _say_long(found: Inferred, head: Any, others: Sequence[str], row_id: str) -> None:
    found.say(found.data, "layout", "long", f"{row_id} repeats: a line is one time step")
    numbers = [name for name in others if all(map(_is_number, head[name].astype(str)))]
    steps = [
        name
        for name in numbers
        if not head.duplicated([row_id, name]).any() and _is_counted(head[name])
    ]
    if not steps:
        raise InputError(
            "which column orders the time steps? Whole numbers, different within each "
            f"{row_id}, are in none of {', '.join(numbers)}"
        )
    found.say(found.data, "order", steps[0], "its numbers are different within each id")
    channels = [name for name in numbers if name != steps[0]]
    found.say(found.data, "channels", channels, "the other number columns")


def _is_counted(column: Any) -> bool:
    values = column.astype(float)
    return bool((values == values.round()).all())


def _numbers(table: Any) -> list[np.ndarray]:
    """Return the first rows of a table as numbers, NaN where a cell is none."""
    import pandas as pd

    numbers = table[:N_PADDED].apply(pd.to_numeric, errors="coerce")
    return list(numbers.to_numpy(dtype=float)[:, None])


def _values(cell: Any) -> np.ndarray:
    """Return the numbers of a list in a cell; one that has anything else is left to the reader."""
    if isinstance(cell, (list, np.ndarray)):
        return np.asarray(cell, dtype=float)
    words = re.split(r"[,;\s]+", str(cell).strip())
    return np.array([float(word) if _is_number(word) else np.nan for word in words])


def _say_padding(found: Inferred, rows: Sequence[np.ndarray]) -> None:
    """Say that rows are padded with zeros if a tenth of them end in three or more."""
    some = rows[:N_PADDED]
    n_padded = sum(bool(row.any() and not row[:, -N_ZEROS:].any()) for row in some)
    if n_padded >= MIN_PADDED * len(some):
        reason = f"{n_padded:,} of {len(some):,} rows end in {N_ZEROS} zeros or more"
        found.say(found.data, "padding_value", 0.0, reason)


def _say_repairs(found: Inferred, is_uneven: bool, is_missing: bool) -> None:
    if is_uneven:
        found.say(found.data, "pad", "end", "rows have unequal lengths")
    if is_missing:
        found.say(found.data, "missing", "hold", "values are missing")


def _say_classes(found: Inferred, labels: Sequence[str], noun: str = "rows") -> list[str]:
    names = [str(row) for row in range(len(labels))]
    _, classes = number_classes(labels, (), names, "train")
    found.say(found.data, "classes", list(classes), f"the labels of {len(labels):,} {noun}")
    return list(classes)


def _of_submission(
    found: Inferred, sample: Path | None, classes: Sequence[str], kind: str | None
) -> None:
    form = found.submission
    if sample is None:
        found.say(form, "kind", kind or "label", "as you said" if kind else "no sample submission")
        if form["kind"] == "probabilities":
            found.say(form, "columns", f"label_{CLASS}", "no sample submission")
        return
    head = _head(sample)
    columns = list(head.columns)[1:]
    if not columns:
        raise InputError(f"{sample}: needs an id column and one of answers")
    if kind:
        found.say(form, "kind", kind, "as you said")
    elif len(columns) > 1:
        found.say(form, "kind", "probabilities", f"the sample has {len(columns)} answer columns")
    else:
        cells = set(head[columns[0]].astype(str))
        is_label = cells <= set(classes)
        if not is_label and (len(classes) != 2 or not all(map(_is_number, cells))):
            raise InputError(
                f"{sample}: {columns[0]} holds neither classes of train "
                f"({', '.join(classes)[:100]}) nor, with {len(classes)} classes, probabilities; "
                "say what it is with --kind"
            )
        shown = "holds classes" if is_label else "holds numbers between two classes"
        found.say(form, "kind", "label" if is_label else "probability", f"{columns[0]} {shown}")
    found.say(form, "sample", str(sample), "header and order of the rows are its")


def _of_metric(
    found: Inferred, sample: Path | None, metric: str | None, classes: Sequence[str]
) -> None:
    if metric:
        found.say(found.metric, "name", metric, "as you said")
    else:
        kind = found.submission["kind"]
        found.say(
            found.metric, "name", METRIC_OF_KIND[kind], f"usual for kind {kind}; is that right?"
        )
    if found.metric["name"] in ("f1", "roc-auc") and len(classes) == 2:
        column = str(_head(sample).columns[1]) if sample else ""
        named = [name for name in classes if _is_word_of(column, name)]
        is_named = len(named) == 1
        reason = f"{column} names it" if is_named else "the second class; is that right?"
        found.say(found.metric, "positive", named[0] if is_named else classes[1], reason)
