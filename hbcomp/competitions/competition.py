"""A competition as data: its competition.toml, from a folder or from those that ship with hbcomp.

It says how the files are laid out, what the score is and what a submission looks like. Everything
else is told what it needs of these, so a further competition is a folder and no code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import Field, model_validator

from hbcomp.competitions.own_function import hash_of, load_own_metric
from hbcomp.data.layout import DataLayout
from hbcomp.data.tables import read_rows
from hbcomp.scoring.metrics import Metric, MetricConfig, MetricSpec, make_metric
from hbcomp.system.config import Section, read_toml, validate
from hbcomp.system.errors import InputError, closest, did_you_mean, there_are

DEFAULT: Final = "heartbeat"
FILE: Final = "competition.toml"
SHIPPED: Final = Path(__file__).parent
CLASS: Final = "{class}"  # in the name of the answers' columns


class SubmissionFormat(Section):
    """What the leaderboard takes: the [submission] of a competition.toml."""

    kind: Literal["probabilities", "probability", "label"] = "probabilities"
    columns: str | None = None  # `label_{class}`, or the one column of the other kinds
    sample: Path | None = None  # sample_submission.csv: its header and its order of rows
    range: tuple[float, float] = (0.0, 1.0)  # of probabilities
    sum_to_one: bool = False
    per_day: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "SubmissionFormat":
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range must be (low, high) with low < high, but got {self.range}")
        has_class = self.columns is not None and CLASS in self.columns
        if self.columns is not None and has_class != (self.kind == "probabilities"):
            wanted = "contain {class}" if self.kind == "probabilities" else "be one column's name"
            raise ValueError(f"columns must {wanted} for kind {self.kind}, but is {self.columns}")
        return self


class CompetitionFile(Section):
    """A competition.toml."""

    format: Literal[1] = 1
    title: str
    data: DataLayout = DataLayout()
    metric: MetricConfig = MetricConfig()
    submission: SubmissionFormat = SubmissionFormat()

    @model_validator(mode="after")
    def _check(self) -> "CompetitionFile":
        metric, kind = self.metric, self.submission.kind
        if kind == "probability" and self.data.classes and len(self.data.classes) != 2:
            raise ValueError(
                "a submission of kind probability is for two classes, but data.classes has "
                f"{len(self.data.classes)}"
            )
        needs_probs = metric.name in ("log-loss", "brier", "roc-auc", "macro-roc-auc", "top-k")
        if kind == "label" and (needs_probs or metric.answers == "probabilities"):
            raise ValueError(f"metric {metric.name} scores probabilities, not kind label")
        return self


@dataclass(frozen=True)
class Competition:
    """A competition.toml and the folder that its paths are relative to."""

    name: str
    folder: Path
    file: CompetitionFile

    def path(self, relative: Path) -> Path:
        """Return the place of a file that competition.toml names."""
        return self.folder / relative

    def metric_spec(self, classes: Sequence[str]) -> MetricSpec:
        """Return what the metric for these classes is made from."""
        config = self.file.metric
        file = self.folder.resolve() / config.name.partition(":")[0] if config.is_own else None
        return MetricSpec(
            config=config,
            classes=tuple(classes),
            costs=self._costs(classes),
            file=file,
            sha256=hash_of(file) if file else None,
        )

    def _costs(self, classes: Sequence[str]) -> tuple[tuple[float, ...], ...] | None:
        """Return the matrix in `metric.costs`: predicted classes in columns, true ones in rows."""
        if self.file.metric.costs is None:
            return None
        path = self.path(self.file.metric.costs)
        header, rows = read_rows(path)
        if header[1:] != list(classes) or [row[0] for row in rows] != list(classes):
            raise InputError(
                f"{path}: the classes {', '.join(classes)} must be the columns after the first "
                "and, in the same order, the first cells of the rows"
            )
        try:
            return tuple(tuple(map(float, row[1:])) for row in rows)
        except ValueError as error:
            raise InputError(f"{path}: costs must be numbers: {error}") from error


def metric_of(spec: MetricSpec, *, is_trusted: bool = False) -> Metric:
    """Return the metric that a competition or a report describes.

    One's own function is code: it is executed from a file in the working directory, as it was when
    it scored, or if `is_trusted`.
    """
    if spec.file is None:
        costs = None if spec.costs is None else np.array(spec.costs)
        return make_metric(spec.config, spec.classes, costs)
    return load_own_metric(spec, is_trusted=is_trusted)


def shipped() -> list[str]:
    """Return the names of the competitions that come with hbcomp."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{FILE}"))


def load_competition(name: str = DEFAULT) -> Competition:
    """Return the competition of a folder with a competition.toml, or a shipped one by its name."""
    folder = SHIPPED / name if name in shipped() else Path(name)
    path = folder / FILE
    if not path.is_file():
        hint = did_you_mean(closest(name, shipped())) or there_are(shipped())
        raise InputError(
            f"{name}: neither a folder with a {FILE} nor a competition that ships with hbcomp"
            f"{hint}; `hbcomp init` writes one"
        )
    file = validate(CompetitionFile, read_toml(path), path)
    return Competition(folder.resolve().name, folder, file)
