"""What finished experiments reported, as far as they are compared: runs, blends, imported ones.

The one reader of report.json: what else a command needs of it is a `Part` beside that command.
"""

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, field_validator

from hbcomp.experiment import check_name
from hbcomp.submissions.ledger import Count
from hbcomp.submissions.ledger import Score as Expected
from hbcomp.system.config import Values, read_json, validate

Kind = Literal["run", "blend", "imported"]


class Part(BaseModel):
    """A part of report.json: strict in what it names, blind to what else is there."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class Score(Part):
    """A score per 20,000 rows."""

    per_20k: float


class RuleScore(Part):
    """A decision rule and what it costs cross-fitted."""

    name: str
    cross_fitted: Score


class Chosen(Part):
    """The rule that answers."""

    name: str


class Beats(Part):
    """Which beats were used."""

    train: str
    n_train: Count
    fingerprint_train: str
    id_column: str | None = None  # of a blend; others have it in their configuration


class Fold(Part):
    """One net."""

    seed: int
    fold: int
    train_seconds: float


class Compute(Part):
    """Where and how precisely it was computed."""

    device: str = ""
    precision: str = ""


class Environment(Part):
    """Machine and time."""

    compute: Compute = Compute()
    gpu: str | None = None
    seconds_of_this_call: float | None = None


class Net(Part):
    """Which net was trained."""

    name: str = ""


class Split(Part):
    """The file of the groups that were kept in one fold, if any."""

    groups: str | None = None


class Asked(Part):
    """The configuration of a run; `data` is that of its DataConfig."""

    net: Net = Net()
    data: dict[str, Any] = {}
    folds: Split = Split()


class Report(Part):
    """A report.json.

    Reports from before there were blends have no `kind`. Folds are those of a run's own nets;
    members and method those of a blend.
    """

    kind: Kind = "run"
    data: Beats
    rules: tuple[RuleScore, ...]
    chosen: Chosen
    expected_per_20k: Expected
    expected_standard_error: Expected
    accuracy: float
    folds: tuple[Fold, ...] = ()
    environment: Environment = Environment()
    config: Asked = Asked()
    members: dict[str, Any] = {}
    method: str = ""
    selected: tuple[str, ...] = ("weights", "method", "calibration", "rule")  # of older blends

    @property
    def id_column(self) -> str:
        """What the competition's files call the column of the ids."""
        return self.data.id_column or str(self.config.data.get("id_column", "id"))

    @property
    def selected_by_rows(self) -> tuple[str, ...]:
        """What of a blend was fitted or chosen by the rows that it is scored on."""
        return self.selected if self.kind == "blend" else ()

    @field_validator("members")
    @classmethod
    def _check_names(cls, members: dict[str, Any]) -> dict[str, Any]:
        for name in members:
            check_name(name)  # they are looked for in folders of these names
        return members

    @property
    def is_grouped(self) -> bool:
        """Whether whole groups of rows were held out, by a file or a column of the data."""
        return bool(self.config.folds.groups or self.config.data.get("group_column"))

    def per_20k(self, rule: str) -> float | None:
        """Return the cross-fitted score under a rule, or None if the rule was not scored."""
        return next((each.cross_fitted.per_20k for each in self.rules if each.name == rule), None)


AnyPart = TypeVar("AnyPart", bound=Part)


def report_values(path: Path) -> Values:
    """Return all values of a report.json; an unfinished or odd one is an InputError."""
    values = read_json(path, "report", "has the experiment finished?")
    validate(Report, values, path)
    return values


def read_report(path: Path) -> Report:
    """Return what a finished experiment reported; an unfinished or odd one is an InputError."""
    return read_part(path, Report)


def read_part(path: Path, part: type[AnyPart]) -> AnyPart:
    """Return those values of a report.json that a command needs beside or instead of `Report`'s."""
    return validate(part, report_values(path), path)
