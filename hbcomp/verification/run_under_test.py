"""A finished experiment under test: its files as values, read when a check needs them."""

from dataclasses import dataclass, field
from functools import cached_property

from hbcomp.competitions.competition import metric_of
from hbcomp.competitions.load import load_data
from hbcomp.crossval.training_data import TrainingData, load_training_data_again
from hbcomp.data.dataset import Dataset
from hbcomp.experiment import stored_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.predictions import ALL, Fold, FoldResult, Predictions
from hbcomp.experiment.recipe import read_recipe
from hbcomp.experiment.report import Kind, Refit, Report, as_json, read_part, read_report
from hbcomp.experiment.resume import read_run
from hbcomp.scoring.decision import DecisionRule
from hbcomp.scoring.metrics import Metric
from hbcomp.system.config import validate
from hbcomp.system.environment import machine
from hbcomp.system.errors import InputError

# What another processor or another version of numpy or torch may change in a score, relatively:
# sums run in another order, and the search for a temperature ends elsewhere. Assumed.
TOLERANCE = 1e-6


class NotChecked(Exception):  # noqa: N818  # it is no error
    """The reason why something cannot be checked here."""


@dataclass
class RunUnderTest:
    """The files of an experiment as values; reading a damaged or absent one raises NotChecked.

    `damaged` holds the files, relative to the folder, whose hashes differ.
    """

    run: RunFolder
    is_trusted: bool = False  # whether its own metric may be executed
    damaged: set[str] = field(default_factory=set)

    def need(self, *names: str) -> None:
        """Raise NotChecked unless these files of the run are there and undamaged."""
        for name in names:
            if name in self.damaged:
                raise NotChecked(f"{name} is damaged")
            if not (self.run.path / name).exists():
                raise NotChecked(f"{name} is not here")

    @cached_property
    def report(self) -> Report:
        """The run's report.json."""
        self.need("report.json")
        return read_report(self.run.report_file)

    @cached_property
    def kind(self) -> Kind:
        """Whether it is a run, a blend or imported."""
        return self.report.kind

    @cached_property
    def predictions(self) -> Predictions:
        """The run's predictions.npz."""
        self.need("predictions.npz")
        return Predictions.load(self.run.predictions_file)

    @cached_property
    def config(self) -> Config:
        """The configuration in the report, or for a blend that of its first base model."""
        if self.kind == "blend":
            self.need("recipe.json")
            first = RunUnderTest(find_run(read_recipe(self.run.recipe_file).base_models[0]))
            return first.config
        return validate(Config, self.report.config, self.run.report_file)

    @cached_property
    def data(self) -> tuple[Dataset, Dataset | None]:
        """The train and the test rows, if their files are there."""
        config = self.config
        files = (config.data.train, config.data.test, config.folds.file, config.folds.groups)
        if missing := [str(path) for path in files if path and not path.exists()]:
            raise NotChecked(f"data not found: {', '.join(missing)}")
        return load_data(config.data)

    @cached_property
    def metric(self) -> Metric:
        """The metric that it was scored by."""
        return metric_of(self.report.metric, is_trusted=self.is_trusted)

    @cached_property
    def training_data(self) -> TrainingData:
        """The rows and splits that the nets were trained on, if they have not changed since."""
        try:
            return load_training_data_again(self.config, self.run)
        except InputError as error:
            raise NotChecked(str(error)) from error

    @cached_property
    def rule(self) -> DecisionRule:
        """The rule that answers."""
        return self.report.chosen.rule

    @cached_property
    def fold_results(self) -> list[FoldResult]:
        """The predictions of the run's nets, in the order of the report."""
        return [self.load_fold(each.seed, each.fold) for each in self.report.folds]

    @cached_property
    def refit(self) -> Refit:
        """The run's refit.json."""
        self.need("refit.json")
        return read_part(self.run.refit_file, Refit, "is it still there?")

    def load_fold(self, seed: int, fold: Fold) -> FoldResult:
        """Return the predictions of one net; a fold must have been trained as run.toml states."""
        if not self.run.stored_folds():
            raise NotChecked("folds/ is not here")
        name = f"folds/{seed}-{fold}"
        if damaged := [each for each in sorted(self.damaged) if each.startswith(f"{name}/")]:
            raise NotChecked(f"{damaged[0]} is damaged")
        identity = None
        if fold != ALL:
            self.need("run.toml")
            record = read_run(self.run)
            identity = record.fold_identity(seed) if record else None
        return stored_folds.load_fold(self.run, identity, seed, fold)

    @cached_property
    def is_same_machine(self) -> bool:
        """Whether the numbers were made by this kind of processor with these versions."""
        made, here = as_json(self.report.environment), machine()
        return (made["cpu"], made["numpy"], made["torch"]) == (here.cpu, here.numpy, here.torch)

    @property
    def tolerance(self) -> float:
        """The allowed difference between a stored number and the same computed again."""
        return 0.0 if self.is_same_machine else TOLERANCE


def as_words(tolerance: float) -> str:
    """Return how exactly two numbers agree that differ by no more than the tolerance."""
    return f"within {tolerance:g} (another machine)" if tolerance else "to the bit"
