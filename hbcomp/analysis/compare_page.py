"""The page of a comparison, its tables and its pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from hbcomp.data.dataset import Dataset
from hbcomp.experiment import ROOT
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report_tables import selection_bias
from hbcomp.reporting import pages
from hbcomp.reporting.figures import comparisons as pictures
from hbcomp.reporting.links import links_from
from hbcomp.reporting.pages import Link, Picture, Section, Table, Text
from hbcomp.scoring.paired import NOISE, as_text, is_better

N_DRAWN: Final = 12  # signals in one picture: what a screen holds

Numbers = Mapping[str, Any]


def verdict(numbers: Numbers) -> str:
    """Return the difference in a sentence."""
    gap = numbers["difference"]
    name_a, name_b = names = _names(numbers)
    better = 0 if is_better(gap["value"], 0.0, gap["greater_is_better"]) else 1
    noise = f"The difference is beyond noise: more than {NOISE}."
    if not gap["is_beyond_noise"]:
        noise = f"It is within noise: at most {NOISE}."
    elif numbers["selected"][better]:
        noise = (
            f"That is more than {NOISE}, but no proof that {names[better]} is better: it was "
            "chosen on these rows."
        )
    return (
        f"{name_a} minus {name_b}: {_with_error(gap)}, {numbers['metric_in_words']}; "
        f"{100 * gap['level']:.0f} % bootstrap interval {as_text(gap['low'], '+')} to "
        f"{as_text(gap['high'], '+')} ({numbers['n_rows']:,} rows, paired, cross-fitted). " + noise
    )


def notes(numbers: Numbers) -> Iterator[str]:
    """Yield how to read the difference where the two were not made alike."""
    names = _names(numbers)
    for name, selected in zip(names, numbers["selected"], strict=True):
        if selected:
            yield selection_bias(name, selected)
    is_grouped_a, is_grouped_b = numbers["is_grouped"]
    if is_grouped_a != is_grouped_b:
        grouped, plain = names if is_grouped_a else names[::-1]
        yield (
            f"{grouped} held out whole groups of related rows; the configuration of {plain} names "
            "no groups. If they differ in nothing else, the difference is, up to its noise, what "
            f"{plain} gains from near-duplicates among its training rows. For new rows that have "
            f"none there, the score of {grouped} is the better estimate."
        )


def write_page(
    path: Path, numbers: Numbers, drawn: Sequence[Picture | Text], changed_rows: Link
) -> None:
    """Write the page, with a link to the list of changed rows."""
    name_a, name_b = _names(numbers)
    scores, *others = tables(numbers)
    sections: list[Section] = [
        Text("\n\n".join(_paragraphs(numbers)), "The difference"),
        scores,
        *drawn,
        *others,
        Table("Files", ["what", "file"], [["rows predicted differently", changed_rows]]),
    ]
    difference = as_text(numbers["difference"]["value"], "+")
    title = f"{name_a} against {name_b}: {difference} {numbers['metric']}"
    subtitle = (
        f"{numbers['metric_in_words']}, out-of-fold, cross-fitted, {numbers['n_rows']:,} rows, "
        "paired"
    )
    pages.write_page(path, title, subtitle, sections, links_from(path, _names(numbers), ROOT))


def tables(numbers: Numbers) -> list[Table]:
    """Return the scores, the classes, who is right and, with test rows, how the answers differ."""
    return [
        _score_table(numbers),
        *([_class_table(numbers)] if numbers["by_class"] else []),
        _transition_table(numbers),
        *_test_tables(numbers),
    ]


def _paragraphs(numbers: Numbers) -> Iterator[str]:
    yield verdict(numbers)
    name_a, name_b = _names(numbers)
    yield (
        f"Only {name_a} predicts {numbers['n_only_a_right']:,} rows right, only {name_b} "
        f"{numbers['n_only_b_right']:,}: McNemar's exact test gives p = "
        f"{numbers['mcnemar_p_value']:.3g}. It counts rows as right or wrong, whatever they "
        f"contribute to {numbers['metric']}."
    )
    yield from notes(numbers)
    if not numbers["has_same_folds"]:
        yield (
            "The two were cross-validated over different folds. The rows are the same, but part of "
            "the difference is that each row was held out with other rows."
        )


def _score_table(numbers: Numbers) -> Table:
    rows = [
        [
            run["experiment"],
            run["rule"],
            "kept whole" if is_grouped else "-",
            f"{as_text(run['score'])} ± {as_text(run['standard_error'])}",
            f"{run['accuracy']:.4f}",
        ]
        for run, is_grouped in zip((numbers["a"], numbers["b"]), numbers["is_grouped"], strict=True)
    ]
    title = f"{numbers['metric_in_words']}, out-of-fold, cross-fitted, {numbers['n_rows']:,} rows"
    header = ["experiment", "rule", "groups", "score", "accuracy"]
    return Table(title, header, rows)


def _class_table(numbers: Numbers) -> Table:
    header = ["class", "rows", *_names(numbers), "difference"]
    rows = [
        [
            row["name"],
            f"{row['n_rows']:,}",
            as_text(row["share_a"]),
            as_text(row["share_b"]),
            _with_error(row["difference"]),
        ]
        for row in numbers["by_class"]
    ]
    note = "What the rows of a class add to the score of all rows; the classes add up to it."
    return Table("By true class", header, rows, note)


def _transition_table(numbers: Numbers) -> Table:
    name_a, name_b = _names(numbers)
    rows = [
        [f"{name_a} right", f"{numbers['n_both_right']:,}", f"{numbers['n_only_a_right']:,}"],
        [f"{name_a} wrong", f"{numbers['n_only_b_right']:,}", f"{numbers['n_both_wrong']:,}"],
    ]
    return Table("Rows by who is right", ["", f"{name_b} right", f"{name_b} wrong"], rows)


def _test_tables(numbers: Numbers) -> list[Table]:
    test = numbers["test"]
    if not test:
        return []
    rows = [
        ["rows", f"{test['n_rows']:,}"],
        ["rows with another answer", f"{test['n_changed']:,}"],
        ["of these with another predicted class", f"{test['n_class_changes']:,}"],
    ]
    note = ""
    if test["max_difference"] is not None:
        rows.append(["maximum score difference", as_text(test["max_difference"])])
        note = "Whatever the true classes are, the scores of the two submissions differ by no more."
    return [Table("The test answers", ["", "test rows"], rows, note)]


def _with_error(difference: Numbers) -> str:
    return f"{as_text(difference['value'], '+')} ± {as_text(difference['standard_error'])}"


def _names(numbers: Numbers) -> list[str]:
    return [numbers[run]["experiment"] for run in ("a", "b")]


def pictures_of(
    changed: pd.DataFrame, predictions: Mapping[str, Predictions], train: Dataset
) -> list[Picture]:
    """Return the signals that only run B predicts right, and those that only run A does."""
    name_a, name_b = predictions
    drawn = []
    for right, name, other in (("b", name_b, name_a), ("a", name_a, name_b)):
        rows = changed[changed["right"] == right]
        if not len(rows):
            continue
        caption = (
            f"{min(len(rows), N_DRAWN)} of the {len(rows):,} rows that {name} predicts right and "
            f"{other} does not, the largest change in what they contribute to the score first. A "
            f"is {name_a}, B is {name_b}; p "
            "is the out-of-fold probability of the true class."
        )
        first = rows.head(N_DRAWN)
        at = first["row"].to_numpy()
        labels = train.known_labels[at]
        figure = pictures.changed_signals(
            train.signals[at],
            labels,
            train.ids[at],
            predicted=first[["predicted_a", "predicted_b"]].to_numpy(),
            truth_probs=np.stack(
                [each.oof_probs[at, labels] for each in predictions.values()], axis=1
            ),
            classes=train.classes,
        )
        drawn.append(Picture(f"only-{right}-right", figure, caption))
    return drawn
