"""A first look at a data set: what `hbcomp.eda` measures, prints and writes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from rich.console import Console

from hbcomp.analysis import adversarial_page
from hbcomp.analysis.adversarial import MIN_ROWS, Adversarial, tell_apart
from hbcomp.data.dataset import Dataset, filled, lengths_of
from hbcomp.data.duplicates import Duplicates, find_duplicates
from hbcomp.data.overlap_sample import overlap_line, sample_overlaps
from hbcomp.data.scale import scale_warnings
from hbcomp.nets.signals import SignalsConfig
from hbcomp.reporting import pages
from hbcomp.reporting.figures import data as data_figures
from hbcomp.scoring.paired import N_ERRORS_OF_NOISE
from hbcomp.system.memory import row_blocks

Numbers = Mapping[str, Any]
Statistics = Mapping[str, Float64[np.ndarray, " _"]]  # rows of train or of test


def look_at(train: Dataset, test: Dataset | None, out: Path, console: Console) -> dict[str, Any]:
    """Print the tables, write index.html and its pictures to `out`, and return the numbers."""
    found = find_duplicates(train, test)
    numbers = describe(train, test, found)
    apart = tell_apart(train, test) if test else None
    parts = [each.signals for each in (train, test) if each]
    overlaps = sample_overlaps(parts)
    numbers["overlaps"] = overlaps.numbers if overlaps else None
    numbers["adversarial"] = adversarial_page.numbers(apart) if apart else None
    tables = [_file_table(numbers), _class_table(numbers)]
    if test:
        tables.append(_shift_table(numbers["shift"]))
    if apart and apart.drifts:
        tables.append(adversarial_page.table(apart, train.shape[0]))
    for table in tables:
        pages.print_table(table, console)
    warnings = list(scale_warnings(train, test, SignalsConfig().scale))
    checks = [
        *(f"Warning: {each}." for each in warnings),
        f"{numbers['missing_cells']:,} missing values, padding apart.",
        *(f"{line}." for line in found.lines()),
        f"{overlap_line(overlaps)}.",
        *(f"{line}." for line in _told_apart(apart, train, test)),
    ]
    for line in checks:
        console.print(line, markup=False)
    drawn = draw(train)
    if apart:
        drawn.extend(adversarial_page.pictures(apart, train.shape))
    pages.write_pictures(out, drawn)
    page = out / "index.html"
    sections: list[pages.Section] = [pages.Text("\n\n".join(checks), "Checks"), *tables, *drawn]
    # The path stays out of the page: the same data from another folder gives the same bytes.
    title = f"Data: {Path(train.source).name}"
    pages.write_page(page, title, _subtitle(numbers), sections)
    return {**numbers, "warnings": warnings, "page": str(page)}


def _told_apart(apart: Adversarial | None, train: Dataset, test: Dataset | None) -> list[str]:
    if test is None:
        return []
    if apart is None:
        return [f"Fewer than {MIN_ROWS} rows in a file: too few to tell train from test rows"]
    return adversarial_page.sentences(apart, train.n_rows, test.n_rows)


def describe(train: Dataset, test: Dataset | None, found: Duplicates) -> dict[str, Any]:
    """Return all that is measured as plain JSON values.

    A length is the number of time steps up to a row's last value; means and standard deviations
    are those of values alone.
    """
    of_train = row_statistics(train)
    of_test = row_statistics(test) if test else {}
    return {
        "n_timepoints": train.n_timepoints,
        "n_classes": train.n_classes,
        "train": _file_numbers(train, of_train),
        "test": _file_numbers(test, of_test) if test else None,
        "missing_cells": _n_missing(train) + (_n_missing(test) if test else 0),
        "classes": _class_numbers(train, of_train),
        "shift": _shift(of_train, of_test) if test else None,
        "duplicates": asdict(found),
    }


def row_statistics(dataset: Dataset) -> Statistics:
    """Return length, mean and deviation of each row's values, over all channels."""
    # Block by block, because the rows may be more than fit into memory.
    parts = [_row_statistics(dataset.signals[rows]) for rows in row_blocks(dataset.signals)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _row_statistics(signals: Float32[np.ndarray, "n c t"]) -> Statistics:
    lengths = lengths_of(signals).astype(np.float64)
    flat = filled(signals).reshape(len(signals), -1)
    divisors = np.maximum((~np.isnan(signals)).sum(axis=(1, 2)), 1)  # no value: mean 0
    # In float64, because the variance is a difference of nearly equal sums.
    means = flat.sum(axis=1, dtype=np.float64) / divisors
    squares = np.einsum("nv,nv->n", flat, flat, dtype=np.float64)
    deviations = np.sqrt(np.maximum(squares / divisors - means**2, 0))
    return {"length": lengths, "mean": means, "standard deviation": deviations}


def draw(train: Dataset) -> list[pages.Picture]:
    """Return the pictures of a training set."""
    signals, labels, classes = train.signals, train.known_labels, train.classes
    return [
        pages.Picture(
            "label-counts",
            data_figures.label_counts(labels, train.classes),
            "How many rows each class has.",
        ),
        pages.Picture(
            "signal-lengths",
            data_figures.signal_lengths(signals, labels, classes),
            "Lengths of the signals up to their last value; each class adds up to 100 %.",
        ),
        pages.Picture(
            "example-signals",
            data_figures.example_signals(signals, labels, train.ids, classes=classes),
            "Signals of each class, taken at even distances through the file.",
        ),
        pages.Picture(
            "class-mean-spread",
            data_figures.class_mean_spread(signals, labels, classes),
            "Mean of each class with the band of its middle 80 % of values, of the rows that have "
            "one; the dashed line is the mean of all rows.",
        ),
    ]


def _subtitle(numbers: Numbers) -> str:
    n_test = numbers["test"]["n_rows"] if numbers["test"] else 0
    test = f", {n_test:,} test rows" if n_test else ""
    return (
        f"{numbers['train']['n_rows']:,} training rows{test}, {numbers['n_timepoints']} time "
        f"steps each, {numbers['n_classes']} classes"
    )


def _file_numbers(dataset: Dataset, statistics: Statistics) -> dict[str, Any]:
    lengths = statistics["length"]
    values = dataset.signals[~np.isnan(dataset.signals)]
    return {
        "source": dataset.source,
        "n_rows": dataset.n_rows,
        "n_missing": _n_missing(dataset),
        "length_min": int(lengths.min()),
        "length_median": float(np.median(lengths)),
        "length_max": int(lengths.max()),
        "padding_share": float(1 - lengths.mean() / dataset.n_timepoints),
        "value_min": float(values.min()) if len(values) else 0.0,
        "value_max": float(values.max()) if len(values) else 0.0,
        "mean": float(statistics["mean"].mean()),
    }


def _n_missing(dataset: Dataset) -> int:
    """Return the number of values that are missing between the first and the last of their row."""
    is_value = ~np.isnan(dataset.signals)
    has_any = is_value.any(axis=1, keepdims=True)
    is_inside = np.maximum.accumulate(has_any, axis=2)
    is_inside &= np.maximum.accumulate(has_any[:, :, ::-1], axis=2)[:, :, ::-1]
    return int((is_inside & ~is_value).sum())


def _class_numbers(train: Dataset, statistics: Statistics) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "name": train.classes[label],
            "n_rows": n_rows,
            "share": n_rows / train.n_rows,
            "mean_length": float(statistics["length"][train.known_labels == label].mean()),
            "mean_amplitude": float(statistics["mean"][train.known_labels == label].mean()),
        }
        for label, n_rows in enumerate(train.class_counts.tolist())
    ]


def _shift(of_train: Statistics, of_test: Statistics) -> list[dict[str, Any]]:
    rows = []
    for name, values in of_train.items():
        others = of_test[name]
        difference = float(others.mean() - values.mean())
        spread = float(values.std())
        error = float(np.sqrt(values.var() / len(values) + others.var() / len(others)))
        rows.append(
            {
                "quantity": name,
                "train": float(values.mean()),
                "test": float(others.mean()),
                "shift_in_deviations": difference / spread if spread else 0.0,
                "standard_errors": difference / error if error else 0.0,
            }
        )
    return rows


def _file_table(numbers: Numbers) -> pages.Table:
    files = [numbers[name] for name in ("train", "test") if numbers[name]]
    rows: list[list[str]] = [
        ["rows", *(f"{file['n_rows']:,}" for file in files)],
        ["time steps per row", *[str(numbers["n_timepoints"])] * len(files)],
        ["shortest signal", *(str(file["length_min"]) for file in files)],
        ["median length", *(f"{file['length_median']:g}" for file in files)],
        ["longest signal", *(str(file["length_max"]) for file in files)],
        ["padding", *(f"{100 * file['padding_share']:.1f} %" for file in files)],
        ["lowest value", *(f"{file['value_min']:.4g}" for file in files)],
        ["highest value", *(f"{file['value_max']:.4g}" for file in files)],
        ["missing values", *(f"{file['n_missing']:,}" for file in files)],
    ]
    header = ["", "train", "test"][: 1 + len(files)]
    return pages.Table("Files", header, rows, "Lengths are time steps up to the last value.")


def _class_table(numbers: Numbers) -> pages.Table:
    rows: Sequence[Sequence[str]] = [
        [
            row["name"],
            f"{row['n_rows']:,}",
            f"{100 * row['share']:.2f} %",
            f"{row['mean_length']:.1f}",
            f"{row['mean_amplitude']:.4f}",
        ]
        for row in numbers["classes"]
    ]
    header = ["class", "rows", "share", "mean length", "mean amplitude"]
    return pages.Table("Classes", header, rows, "The amplitude leaves the padding out.")


def _shift_table(shift: Sequence[Numbers]) -> pages.Table:
    rows = [
        [
            row["quantity"],
            f"{row['train']:#.4g}",
            f"{row['test']:#.4g}",
            f"{row['shift_in_deviations']:+.3f}",
            f"{row['standard_errors']:+.1f}",
        ]
        for row in shift
    ]
    header = ["per row", "train", "test", "shift (std)", "shift (errors)"]
    note = (
        "Means over the rows, padding left out. The shift from train to test is given in standard "
        f"deviations of train, and in standard errors: more than {N_ERRORS_OF_NOISE:g} is beyond "
        "noise, though of twenty quantities one is by chance."
    )
    return pages.Table("Train against test", header, rows, note)
