"""What adversarial validation found, as a sentence, a table, a picture and numbers."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from hbcomp.analysis.adversarial import ALPHA, N_SPLITS, Adversarial
from hbcomp.data.segments import Part
from hbcomp.reporting.figures import data as data_figures
from hbcomp.reporting.pages import Picture, Table

N_SHOWN: Final = 10  # rows of the table


def numbers(found: Adversarial) -> dict[str, Any]:
    """Return what was found as plain JSON values; time steps and channels are counted from 0."""
    importance = [{**asdict(part), "auc_lost": lost} for part, lost in found.importance]
    drifts = [
        {**asdict(each.part), **{k: v for k, v in asdict(each).items() if k != "part"}}
        for each in found.drifts
    ]
    known = ("auc", "low", "high", "n_train", "n_test", "n_tests")
    return {
        **{name: getattr(found, name) for name in known},
        "drifts": drifts,
        "importance": importance,
    }


def sentences(found: Adversarial, n_train: int, n_test: int) -> list[str]:
    """Return what was found in words, and on how many rows."""
    interval = f"AUC {found.auc:.3f}, 95 % interval {found.low:.3f} to {found.high:.3f}"
    if found.low > 0.5:
        said = (
            f"A classifier tells train from test rows ({interval}, chance is 0.5): a score that is "
            "cross-validated on train need not hold on test"
        )
    elif found.high < 0.5:
        said = (
            f"Train and test rows are more alike than two random draws ({interval}, chance is "
            "0.5): rows of one file have near-copies in the other, or the files were cut by strata"
        )
    else:
        said = f"A classifier cannot tell train from test rows ({interval}, chance is 0.5)"
    of_train, of_test = (
        f"{n_used:,} of {n_all:,}" if n_used < n_all else f"all {n_all:,}"
        for n_used, n_all in ((found.n_train, n_train), (found.n_test, n_test))
    )
    return [
        said,
        f"Adversarial validation used {of_train} training rows and {of_test} test rows, "
        f"{N_SPLITS} times in two halves, each answered by gradient boosting on the other; the "
        "interval is DeLong's, times the square root of 2, because halves are not independent",
        f"{len(found.drifts)} of {found.n_tests} statistics of segments differ between train and "
        f"test (Kolmogorov-Smirnov, corrected p below {ALPHA:g})",
    ]


def table(found: Adversarial, n_channels: int) -> Table:
    """Return the statistics that differ most significantly."""
    lost = {part: f"{value:+.3f}" for part, value in found.importance}
    rows = [
        [
            each.part.words(n_channels),
            each.statistic,
            f"{each.train:.4g}",
            f"{each.test:.4g}",
            f"{each.shift_in_deviations:+.3f}",
            f"{each.p_value:.1e}",
            lost.get(each.part, "-"),
        ]
        for each in found.drifts[:N_SHOWN]
    ]
    header = ["part", "statistic", "train", "test", "shift (std)", "p, corrected", "AUC of part"]
    note = (
        "Means over the rows. The p-values are corrected for the number of statistics (Benjamini "
        "and Hochberg). The AUC of a part is what the classifier loses where the part comes from "
        "another row; parts that say the same share it."
    )
    return Table("Drift from train to test", header, rows, note)


def pictures(found: Adversarial, shape: tuple[int, int]) -> Iterator[Picture]:
    """Yield a map of the drift, if there is any."""
    if not found.drifts and not found.importance:
        return
    parts = found.parts
    n_segments = len(parts) // shape[0]
    shift: dict[Part, float] = dict.fromkeys(parts, 0.0)
    for each in found.drifts:
        shift[each.part] = max(shift[each.part], abs(each.shift_in_deviations))
    maps = {"largest shift of a statistic that differs (standard deviations)": shift}
    if found.importance:
        maps["AUC of the part"] = dict(found.importance)
    grids = {
        name: np.array([values[part] for part in parts]).reshape(shape[0], n_segments)
        for name, values in maps.items()
    }
    edges = [0, *(part.stop for part in parts[:n_segments])]
    yield Picture(
        "drift",
        data_figures.drift_map(grids, edges),
        "Which parts of the signal differ between train and test.",
    )
