"""The table of measured sets, and what it says beside the published accuracies."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from hbcomp.reporting.pages import Table

# The shapes of 78 sets, and the published accuracies of twelve methods on their default split.
PUBLISHED = Path(__file__).with_name("published.csv")
METHODS = (
    "HC2", "MR-Hydra", "H-InceptionTime", "InceptionTime", "MR", "LITETime", "MiniROCKET", "Hydra",
    "QUANT", "ROCKET", "ResNet", "1NN-DTW",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A model on a set: scores of the test split beside what was promised out of fold.

    `low` and `high` are the interval in which the report expects 95 % of scores; they and the score
    out of fold are NaN where no row could be held out. The seconds are of CPU time, start of the
    program included; of a blend, those of its base models too.
    """

    data_set: str
    accuracy: float
    log_loss: float
    oof_accuracy: float
    low: float
    high: float
    seconds: float
    model: str


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to the table, with its header if it is new."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, [each.name for each in fields(Row)], lineterminator="\n")
        if is_new:
            table.writeheader()
        for row in rows:
            values = asdict(row).items()
            table.writerow({key: round(x, 6) if isinstance(x, float) else x for key, x in values})


def read(path: Path) -> list[Row]:
    """Return the rows of a table; none if there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Row(**{key: value if key in TEXTS else float(value) for key, value in line.items()})
            for line in csv.DictReader(file)
        ]


TEXTS = ("data_set", "model")


def published() -> dict[str, dict[str, float]]:
    """Return the published accuracies by set and method."""
    with PUBLISHED.open(newline="") as file:
        return {
            line["data_set"]: {method: float(line[method]) for method in METHODS}
            for line in csv.DictReader(file)
        }


def summary(rows: Sequence[Row]) -> Table:
    """Return the means of each model over its sets, and how many promises held."""
    header = ["model", "sets", "accuracy", "log loss", "out of fold", "in the interval", "CPU min"]
    lines = []
    for model, own in by_model(rows).items():
        promised = [row for row in own if not np.isnan(row.oof_accuracy)]
        n_kept = sum(row.low <= row.accuracy <= row.high for row in promised)
        lines.append(
            [
                model,
                str(len(own)),
                f"{np.mean([row.accuracy for row in own]):.4f}",
                f"{np.mean([row.log_loss for row in own]):.3f}",
                f"{np.mean([row.oof_accuracy for row in promised]):.4f}" if promised else "",
                f"{n_kept} of {len(promised)}",
                f"{sum(row.seconds for row in own) / 60:.1f}",
            ]
        )
    return Table("Test splits of the UCR archive", header, lines)


def against_published(rows: Sequence[Row], known: Mapping[str, Mapping[str, float]]) -> Table:
    """Return for each model and method the wins, ties and losses, and the mean difference."""
    header = ["model", "against", "sets", "published", "difference", "wins / ties / losses"]
    lines = []
    for model, own in by_model(rows).items():
        own = [row for row in own if row.data_set in known]
        for method in METHODS if own else ():
            theirs = np.array([known[row.data_set][method] for row in own])
            gaps = np.array([row.accuracy for row in own]) - theirs
            error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else np.nan
            is_tie = abs(gaps) < TIE
            lines.append(
                [
                    model,
                    method,
                    str(len(own)),
                    f"{theirs.mean():.4f}",
                    f"{gaps.mean():+.4f} ± {error:.4f}",
                    f"{(gaps >= TIE).sum()} / {is_tie.sum()} / {(gaps <= -TIE).sum()}",
                ]
            )
    return Table("Beside published accuracies, ± one standard error over the sets", header, lines)


TIE = 5e-5  # published values have four digits or more


def by_model(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each model, models in the order of their first row."""
    return {
        model: [row for row in rows if row.model == model]
        for model in dict.fromkeys(row.model for row in rows)
    }
