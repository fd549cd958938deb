"""The page of a comparison, its tables and its pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hbcomp.data.dataset import Dataset
from hbcomp.experiment import ROOT
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report_tables import selection_bias
from hbcomp.reporting import pages
from hbcomp.reporting.figures import comparisons as pictures
from hbcomp.reporting.links import links_from
from hbcomp.reporting.pages import Link, Picture, Section, Table, Text
from hbcomp.scoring.paired import NOISE

N_DRAWN: Final = 12  # beats in one picture: what a screen holds

Numbers = Mapping[str, Any]


def verdict(numbers: Numbers) -> str:
    """Return the difference in a sentence."""
    gap = numbers["difference"]
    first, second = (numbers[side]["experiment"] for side in ("first", "second"))
    better = numbers["first" if gap["per_20k"] < 0 else "second"]
    noise = f"The difference is beyond noise: more than {NOISE}."
    if not gap["is_beyond_noise"]:
        noise = f"It is within noise: at most {NOISE}."
    elif better["selected"]:
        noise = (
            f"That is more than {NOISE}, but no proof that {better['experiment']} is better: it "
            "was chosen on these rows."
        )
    return (
        f"{first} minus {second}: {gap['per_20k']:+.1f} ± {gap['standard_error']:.1f} per 20k rows "
        f"({100 * gap['level']:.0f} % bootstrap interval {gap['low']:+.1f} to {gap['high']:+.1f}; "
        f"{numbers['n_rows']:,} rows, paired, cross-fitted). " + noise
    )


def notes(numbers: Numbers) -> Iterator[str]:
    """Yield how to read the difference where the two were not made alike."""
    sides = (numbers["first"], numbers["second"])
    yield from filter(
        None, (selection_bias(side["experiment"], side["selected"]) for side in sides)
    )
    yield from _grouping_notes(numbers)


def _grouping_notes(numbers: Numbers) -> Iterator[str]:
    is_grouped, is_other_grouped = numbers["is_grouped"]
    if is_grouped == is_other_grouped:
        return
    names = _names(numbers)
    grouped, plain = names if is_grouped else names[::-1]
    yield (
        f"{grouped} is group-aware: it held out whole groups of related rows; the configuration of "
        f"{plain} names none. If they differ in nothing else, the difference is, up to its noise, "
        f"what {plain} gains from relatives among its training rows. For new rows without any "
        f"there, the score of {grouped} is the nearer one."
    )


def write_page(
    path: Path, numbers: Numbers, drawn: Sequence[Picture | Text], links: Mapping[Link, str]
) -> None:
    """Write the page; the links lead to what they are described as."""
    first, second = (numbers[side]["experiment"] for side in ("first", "second"))
    sections: list[Section] = [
        Text("\n\n".join(_paragraphs(numbers)), "The difference"),
        _score_table(numbers),
        *drawn,
        *tables(numbers)[1:],
        Table("Files", ["what", "file"], [[what, link] for link, what in links.items()]),
    ]
    title = f"{first} against {second}: {numbers['difference']['per_20k']:+.1f} per 20k"
    subtitle = f"out-of-fold, cross-fitted, {numbers['n_rows']:,} rows, paired; lower is better"
    pages.write_page(path, title, subtitle, sections, links_from(path, [first, second], ROOT))


def tables(numbers: Numbers) -> list[Table]:
    """Return the scores, the classes, who is right and, with test rows, what is at stake."""
    return [
        _score_table(numbers),
        _class_table(numbers),
        _transition_table(numbers),
        *_test_tables(numbers),
    ]


def _paragraphs(numbers: Numbers) -> Iterator[str]:
    yield verdict(numbers)
    counts = numbers["mcnemar"]
    first, second = (numbers[side]["experiment"] for side in ("first", "second"))
    yield (
        f"Only {first} calls {counts['n_only_first']:,} rows right, only {second} "
        f"{counts['n_only_second']:,}: McNemar's exact test gives p = {counts['p_value']:.3g}. It "
        "counts rows called right or wrong, where the score also counts answers in between and "
        "none."
    )
    yield from notes(numbers)
    if not numbers["has_same_folds"]:
        yield (
            "The two were cross-validated over different folds. The rows are the same, but part of "
            "the difference is that each row was held out with other rows."
        )


def _score_table(numbers: Numbers) -> Table:
    sides = [numbers["first"], numbers["second"]]
    rows = [
        [
            side["experiment"],
            side["rule"],
            "kept whole" if is_grouped else "-",
            f"{side['per_20k']:.1f} ± {side['standard_error']:.1f}",
            f"{side['accuracy']:.4f}",
        ]
        for side, is_grouped in zip(sides, numbers["is_grouped"], strict=True)
    ]
    title = f"Out-of-fold, cross-fitted, {numbers['n_rows']:,} rows"
    header = ["experiment", "rule", "groups", "abs-sum per 20k", "accuracy"]
    return Table(title, header, rows)


def _class_table(numbers: Numbers) -> Table:
    header = ["class", "rows", *_names(numbers), "difference"]
    rows = [
        [
            str(row["label"]),
            f"{row['n_rows']:,}",
            f"{row['first_per_20k']:.1f}",
            f"{row['second_per_20k']:.1f}",
            f"{row['difference']['per_20k']:+.1f} ± {row['difference']['standard_error']:.1f}",
        ]
        for row in numbers["by_class"]
    ]
    note = "What the rows of a class add to the score per 20k of all rows; the classes add up."
    return Table("By true class", header, rows, note)


def _transition_table(numbers: Numbers) -> Table:
    counts, (first, second) = numbers["mcnemar"], _names(numbers)
    rows = [
        [f"{first} right", f"{numbers['n_both_right']:,}", f"{counts['n_only_first']:,}"],
        [f"{first} wrong", f"{counts['n_only_second']:,}", f"{numbers['n_both_wrong']:,}"],
    ]
    return Table("Rows by who is right", ["", f"{second} right", f"{second} wrong"], rows)


def _test_tables(numbers: Numbers) -> list[Table]:
    test = numbers["test"]
    if not test:
        return []
    rows = [
        ["rows", f"{test['n_rows']:,}"],
        ["rows answered otherwise", f"{test['n_changed']:,}"],
        ["of these called another class", f"{test['n_called_otherwise']:,}"],
        ["abs-sum at stake", f"{test['at_stake']:.1f}"],
        ["the same per 20k", f"{test['at_stake_per_20k']:.1f}"],
    ]
    note = "The scores of the two submissions differ by at most the abs-sum at stake."
    return [Table("The test answers", ["", "test rows"], rows, note)]


def _names(numbers: Numbers) -> list[str]:
    return [numbers[side]["experiment"] for side in ("first", "second")]


def pictures_of(
    changed: pd.DataFrame, members: Mapping[str, Predictions], beats: Dataset
) -> list[Picture]:
    """Return the beats that only the second experiment calls right, and those only the first."""
    first, second = members
    drawn = []
    for right, name, other in (("second", second, first), ("first", first, second)):
        rows = changed[changed["right"] == right]
        if len(rows):
            caption = (
                f"{min(len(rows), N_DRAWN)} of the {len(rows):,} rows that only {name} calls right "
                f"and {other} does not, the largest change in cost first. A is {first}, B is "
                f"{second}; p is the out-of-fold probability of the true class."
            )
            figure = _draw(rows.head(N_DRAWN), beats, list(members.values()))
            drawn.append(Picture(f"only-{right}-right", figure, caption))
    return drawn


def _draw(rows: pd.DataFrame, beats: Dataset, members: Sequence[Predictions]) -> Figure:
    at = rows["row"].to_numpy()
    labels = beats.known_labels[at]
    return pictures.changed_beats(
        beats.signals[at],
        labels,
        beats.ids[at],
        called=rows[["first_called", "second_called"]].to_numpy(),
        truth_probs=np.stack([each.oof_probs[at, labels] for each in members], axis=1),
    )
