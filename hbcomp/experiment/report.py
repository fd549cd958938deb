"""The report of a finished experiment, report.json: its model, its numbers, its reader and writer.

Runs, blends and imported experiments share one model.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, field_validator

from hbcomp.competitions.competition import metric_of
from hbcomp.competitions.submission_form import SubmissionForm, plain_form
from hbcomp.data.dataset import Dataset
from hbcomp.data.duplicates import Duplicates
from hbcomp.data.row_checks import MAX_LABEL
from hbcomp.data.splits import Seed, Seeds
from hbcomp.experiment import check_name
from hbcomp.experiment.predictions import Predictions, sampled_rows
from hbcomp.scoring.by_class import ClassScore, accuracy, confusion, score_by_class
from hbcomp.scoring.calibration import Calibration
from hbcomp.scoring.choice import RuleResult, cross_fitted_answers
from hbcomp.scoring.decision import DecisionRule
from hbcomp.scoring.expected import ExpectedScore, expected_score
from hbcomp.scoring.metrics import BRIER, Metric, MetricSpec, describe_metric
from hbcomp.scoring.own_metric import OwnMetric
from hbcomp.scoring.paired import as_text, paired_difference
from hbcomp.scoring.row_metrics import RowMetric
from hbcomp.scoring.transfer import measure_shift, measure_transfers
from hbcomp.submissions.ledger import OPTIMISTIC, Count
from hbcomp.submissions.ledger import Score as Expected
from hbcomp.system.config import Values, read_json, validate
from hbcomp.system.errors import InputError, listed
from hbcomp.system.files import write_text
from hbcomp.training.device import Precision

EPOCHS: Final = "epochs"  # what was chosen on the scored rows, if early stopping watched these
FORMAT: Final = 1  # of report.json and refit.json
FEW_ROWS: Final = 20  # of a class: below, a standard error is known to a fifth at best
Kind = Literal["run", "blend", "imported"]
# Their defaults, such as `kind`, are written too.
WHOLE: Final = PlainSerializer(lambda part: part.model_dump(mode="json"), return_type=Values)
Rule = Annotated[DecisionRule, Field(discriminator="kind"), WHOLE]


class Part(BaseModel):
    """A part of report.json: the types of its values are strict, other values are ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", strict=True, allow_inf_nan=False, from_attributes=True
    )


class RuleScore(Part):
    """A decision rule, its scores, and how much higher they are than the chosen one's."""

    name: str
    rule: Rule
    in_sample: float
    cross_fitted: float
    against_chosen: float
    against_chosen_standard_error: float


class Chosen(Part):
    """The rule that answers."""

    name: str
    rule: Rule


class Comparison(Part):
    """A mean over the out-of-fold rows beside that over the test rows."""

    oof: float
    test: float
    difference: float
    standard_error: float


class Shift(Part):
    """How the probabilities of the test rows differ from the out-of-fold ones."""

    confidence: Comparison
    share_below_90: Comparison
    share_below_50: Comparison
    ks_distance: float
    is_beyond_noise: bool


class Transferability(Part):
    """The gain of a rule over the better fixed one, and whether it is accepted for the test rows.

    The disagreement is how far the rule's answers lie from those of the fixed one.
    """

    name: str
    is_accepted: bool
    gain: float
    gain_standard_error: float
    disagreement: Comparison


class Expectation(Part):
    """The score that is expected of the submission, with a 95 % interval, and how it comes about.

    `gain` is the difference from the out-of-fold score; the standard errors are those of the
    out-of-fold rows, of the test rows and of the gain, which is 0 where it is not known.
    """

    value: Expected
    low: Expected
    high: Expected
    gain: float
    of_oof_rows: float
    of_test_rows: float
    of_gain: float

    @classmethod
    def of(cls, found: ExpectedScore, metric: Metric) -> "Expectation":
        """Return an expected score and its interval as far as the metric has such scores."""
        value, low, high = np.clip((found.value, *found.interval), *metric.bounds).tolist()
        return cls(
            value=value,
            low=low,
            high=high,
            gain=found.gain,
            of_oof_rows=found.of_oof_rows,
            of_test_rows=found.of_test_rows,
            of_gain=found.of_gain,
        )

    def found(self, out_of_fold: float) -> ExpectedScore:
        """Return it as it was computed from that out-of-fold score."""
        return ExpectedScore(
            out_of_fold, self.gain, self.of_oof_rows, self.of_test_rows, self.of_gain
        )


class Scorecard(Part):
    """The scores of out-of-fold probabilities under every rule, and more under the chosen one."""

    metric: MetricSpec
    rules: tuple[RuleScore, ...]
    chosen: Chosen
    score: Expected
    standard_error: Expected
    accuracy: float
    by_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    shift: Shift | None
    transferability: tuple[Transferability, ...]
    expected: Expectation | None = None

    @property
    def better(self) -> Literal["lower", "higher"]:
        """Which scores are better."""
        return "higher" if _without_code(self.metric).greater_is_better else "lower"

    @property
    def metric_in_words(self) -> str:
        """The metric's name and direction."""
        return describe_metric(_without_code(self.metric))


class Rows(Part):
    """The rows of an experiment: their files, sizes and fingerprints."""

    train: str
    test: str | None = None
    n_train: Count
    n_test: int = 0
    n_channels: Annotated[int, Field(ge=1)] = 1
    n_timepoints: Annotated[int, Field(ge=1)] | None = None
    padding_value: float | None = None  # what pads rows in the files; in memory it is NaN
    n_classes: Annotated[int, Field(ge=2, le=MAX_LABEL + 1)] | None = None
    has_groups: bool = False  # named by the competition
    fingerprint_train: str
    fingerprint_test: str | None = None
    duplicates: Duplicates | None = None


class FoldScore(Part):
    """One net of a run, scored on its own held-out rows."""

    seed: Seed
    fold: Annotated[int, Field(ge=0)]
    n_rows: int
    scores: dict[str, float]  # by rule
    accuracy: float
    last_loss: float
    n_epochs: int | None = None  # trained under early stopping, and the one that was kept
    best_epoch: int | None = None
    train_seconds: float
    n_threads: int | None = None


class PseudoRowNumbers(Part):
    """How many test rows nets were given under pseudo-labels."""

    n_rows: int
    by_class: tuple[int, ...]
    agreement: float | None


class PseudoRowNumbersOfNet(PseudoRowNumbers):
    """The pseudo-labelled rows of one net of a run."""

    seed: int
    fold: int


class Computed(Part):
    """The resources that an experiment was computed with."""

    device: str = ""
    precision: Literal["", Precision] = ""
    n_threads: Annotated[int, Field(ge=1)] | None = None
    reason: str = ""
    engine: str = ""
    models_per_process: int = 1


class Environment(Part):
    """Machine, versions and time; further values are kept."""

    model_config = ConfigDict(extra="allow")

    compute: Computed = Computed()
    gpu: str | None = None
    n_jobs: int = 1
    seconds_of_this_call: float | None = None


class MethodScore(Part):
    """A method of blending and its scores under the metric's fixed rule."""

    name: str
    in_sample: float
    cross_fitted: float
    seconds: float


class FileNames(Part):
    """The names of the files that were imported."""

    oof: str
    test: str | None


class Report(Scorecard):
    """A report.json: what every experiment has, then what only one kind of experiment has."""

    format: Literal[1] = FORMAT
    experiment: str = ""
    kind: Kind = "run"
    # That of a run, the data and folds of an import; blends have none.
    config: Values = {}
    data: Rows
    environment: Environment = Environment()
    # Of a run.
    folds: tuple[FoldScore, ...] = ()
    pseudo: tuple[PseudoRowNumbersOfNet, ...] = ()
    seconds_by_phase: dict[str, float] = {}
    # Of a blend.
    method: str = ""
    base_models: dict[str, float | None] = {}  # with their weights, where the method has any
    has_same_folds: bool = True
    selected: tuple[str, ...] = ("weights", "method", "calibration", "rule")  # or the epochs
    methods: tuple[MethodScore, ...] = ()
    calibration: Annotated[Calibration, Field(discriminator="kind"), WHOLE] | None = None
    # Of an import.
    like: str = ""
    files: FileNames | None = None
    identity: dict[str, str | int | None] = {}
    has_own_folds: bool = False
    own_form: SubmissionForm | None = None

    @field_validator("base_models")
    @classmethod
    def _check_names(cls, base_models: dict[str, float | None]) -> dict[str, float | None]:
        for name in base_models:
            check_name(name)  # they are looked for in folders of these names
        return base_models

    @property
    def net(self) -> str:
        """The name of a run's net; empty for others."""
        return str(self.config.get("net", {}).get("name", ""))

    @property
    def expected_numbers(self) -> dict[str, float] | None:
        """The expected score and its interval as plain values, None where it is not known."""
        if self.expected is None:
            return None
        return {name: round(getattr(self.expected, name), 6) for name in ("value", "low", "high")}

    def of_other_rows(self, n_rows: int) -> "Report":
        """Return the report for answers to other test rows, as many and of the same kind.

        Its expected score has their noise, and the gain that was computed on the report's own.
        """
        if self.expected is None:
            return self
        found = replace(
            self.expected.found(self.score),
            of_test_rows=self.expected.of_test_rows * (self.data.n_test / n_rows) ** 0.5,
        )
        expected = Expectation.of(found, _without_code(self.metric))
        return self.model_copy(update={"expected": expected})

    @property
    def data_config(self) -> Values:
        """How the data were read, as `DataConfig` had it; empty for a blend."""
        data: Values = self.config.get("data", {})
        return data

    @property
    def form(self) -> SubmissionForm:
        """The form of its submissions."""
        return self.own_form or plain_form(len(self.metric.classes))

    @property
    def grouped_by(self) -> str:
        """Whose groups were held out whole: a file's or the competition's; empty without any."""
        groups = self.config.get("folds", {}).get("groups")
        return str(groups or ("data.group" if self.data.has_groups else ""))

    @property
    def selected_by_rows(self) -> tuple[str, ...]:
        """What was fitted to the rows that it is scored on, or chosen on them.

        Of a blend the weights and more; of a run or a blend the epochs, where early stopping
        watched the scored fold.
        """
        is_marked = self.kind == "blend" or "selected" in self.model_fields_set
        return self.selected if is_marked else ()

    @property
    def is_optimistic(self) -> bool:
        """Whether its score is too good, because early stopping watched the rows of it."""
        return EPOCHS in self.selected_by_rows

    def score_of(self, rule: str) -> float | None:
        """Return the cross-fitted score under a rule, or None if the rule was not scored."""
        return next((each.cross_fitted for each in self.rules if each.name == rule), None)


def _without_code(spec: MetricSpec) -> Metric:
    """Return the metric for its name and direction; one's own function is not executed."""
    config = spec.config
    if not config.is_own:
        return metric_of(spec)
    assert config.answers is not None  # it was checked
    return OwnMetric(config.name, lambda *_: np.nan, bool(config.greater_is_better), config.answers)


class Refit(Part):
    """A refit.json: which nets were trained on everything, and the rule that answers."""

    format: Literal[1] = FORMAT
    seeds: Seeds
    chosen: Chosen
    experiment: str = ""
    n_epochs: int | None = None
    n_rows: int | None = None
    pseudo: PseudoRowNumbers | None = None
    expected: Expected | None = None
    expectation: str = ""
    submission: str | None = None


AnyPart = TypeVar("AnyPart", bound=Part)


def read_report(path: Path) -> Report:
    """Return the report of a finished experiment; an unfinished one is an InputError."""
    return read_part(path, Report)


def read_part(
    path: Path, part: type[AnyPart], hint: str = "has the experiment finished?"
) -> AnyPart:
    """Return the report in a file as a model of that type."""
    values = read_json(path, "report", hint)
    found = values.get("format", FORMAT)
    if isinstance(found, int) and found > FORMAT:
        raise InputError(
            f"{path}: format: {found} is of a later hbcomp, and this one reads {FORMAT} at most"
        )
    return validate(part, values, path)


def write_part(path: Path, part: Report | Refit) -> None:
    """Write a report atomically, without the values that were not set."""
    values = {"format": part.format, "experiment": part.experiment, **as_json(part)}
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def as_json(part: Part) -> Values:
    """Return the values of a part that were set, as JSON values."""
    return part.model_dump(mode="json", exclude_unset=True)


def scorecard(
    spec: MetricSpec,
    metric: Metric,
    predictions: Predictions,
    rules: Sequence[RuleResult],
    chosen: RuleResult,
) -> Scorecard:
    """Return every rule's scores, the chosen one, accuracy, classes and confusion.

    With test rows, also how their probabilities differ and which rules are accepted for them.
    `rules` are those of `evaluate_rules` on the predictions; accuracy, classes and confusion are
    those of the chosen rule's cross-fitted answers.
    """
    labels, oof, test = predictions.labels, predictions.oof_probs, predictions.test_probs
    has_test = len(test) > 1
    answers = oof_answers(metric, predictions, chosen.name)
    return Scorecard(
        metric=spec,
        rules=tuple(_rule_score(rule, chosen) for rule in rules),
        chosen=Chosen(name=chosen.name, rule=chosen.rule),
        score=chosen.rows.score,
        standard_error=chosen.rows.standard_error,
        accuracy=accuracy(answers, labels),
        by_class=tuple(score_by_class(chosen.rows.values, answers, labels)),
        confusion=tuple(map(tuple, confusion(answers, labels).tolist())),
        shift=Shift.model_validate(measure_shift(oof, test)) if has_test else None,
        transferability=tuple(
            Transferability.model_validate(each)
            for each in (measure_transfers(metric, rules, oof, test) if has_test else [])
        ),
        expected=_expected(metric, predictions, chosen) if has_test else None,
    )


def _expected(metric: Metric, predictions: Predictions, chosen: RuleResult) -> Expectation | None:
    """Return what the chosen rule's answers to the test rows can be expected to score."""
    labels, oof, test = predictions.labels, predictions.oof_probs, predictions.test_probs
    of_folds = predictions.test_probs_of_fold
    try:
        found = expected_score(
            metric,
            chosen.rows,
            float(BRIER.score(oof, labels)),
            [] if of_folds is None else list(of_folds.astype(np.float64)),
            test[sampled_rows(len(test))],
            chosen.rule.apply,
            len(test),
        )
    except InputError:  # few test rows may hold no row of a class that the metric needs
        return None
    return Expectation.of(found, metric)


def _rule_score(rule: RuleResult, chosen: RuleResult) -> RuleScore:
    against = paired_difference(rule.rows, chosen.rows)
    return RuleScore(
        name=rule.name,
        rule=rule.rule,
        in_sample=rule.in_sample,
        cross_fitted=rule.cross_fitted,
        against_chosen=against.value,
        against_chosen_standard_error=against.standard_error,
    )


def oof_answers(metric: Metric, predictions: Predictions, rule: str) -> Float64[np.ndarray, "n k"]:
    """Return the out-of-fold answers under the candidate rule of that name, cross-fitted."""
    return cross_fitted_answers(
        rule, metric, predictions.oof_probs, predictions.labels, predictions.fold_of_row
    )


def scores_by_rule(rules: Sequence[RuleResult]) -> dict[str, dict[str, float]]:
    """Return each rule's scores, as the last line of a command gives them."""
    return {
        rule.name: {
            "in_sample": round(rule.in_sample, 6),
            "cross_fitted": round(rule.cross_fitted, 6),
        }
        for rule in rules
    }


def data_numbers(train: Dataset, test: Dataset | None) -> Rows:
    """Return which rows were used: their files, sizes and fingerprints."""
    return Rows(
        train=train.source,
        test=test.source if test else None,
        n_train=train.n_rows,
        n_test=test.n_rows if test else 0,
        n_channels=train.shape[0],
        n_timepoints=train.n_timepoints,
        n_classes=train.n_classes,
        has_groups=train.groups is not None,
        fingerprint_train=train.fingerprint,
        fingerprint_test=test.fingerprint if test else None,
    )


def scores_in_words(report: Report) -> str:
    """Return in sentences what was scored, and what the leaderboard is expected to say."""
    n_none = sum(row.n_none for row in report.by_class)
    return (
        f"out of fold: {as_text(report.score)} ± {as_text(report.standard_error)} by "
        f"{report.metric_in_words} (rule {report.chosen.name!r}, cross-fitted, ± one standard "
        f"error of the row sample); accuracy of the answers {report.accuracy:.4f}"
        + (f", with {n_none:,} rows answered none, which is never right" if n_none else "")
        + (f"; too good: {OPTIMISTIC}" if report.is_optimistic else "")
        + _note_on_rare_classes(report)
        + _of_the_submission(report)
    )


def _of_the_submission(report: Report) -> str:
    """Return in a sentence what the submission is expected to score."""
    expected = report.expected
    if expected is None:
        return ""
    why = (
        f"{as_text(expected.gain, '+')} because the nets of all folds answer together"
        if expected.gain
        else "no gain of averaging is known"
    )
    return (
        f"\nexpected on the leaderboard: {as_text(expected.value)}, with 95 % between "
        f"{as_text(expected.low)} and {as_text(expected.high)} ({why}; the interval covers the "
        f"noise of {report.data.n_train:,} labelled and {report.data.n_test:,} test rows)"
    )


def _note_on_rare_classes(report: Report) -> str:
    """Return what few rows of a class do to a standard error that every class decides."""
    if isinstance(_without_code(report.metric), RowMetric):
        return ""  # rows count alike, of whatever class
    names = report.metric.classes
    rare = [
        f"{names[row.label]} ({row.n_rows})" for row in report.by_class if row.n_rows < FEW_ROWS
    ]
    return (
        f"; with fewer than {FEW_ROWS} rows of {listed(rare, 'class')} the standard error, from a "
        "jackknife, is itself rough"
        if rare
        else ""
    )
