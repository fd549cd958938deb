"""What a model is, beside its weights: the part of a report.json that prediction needs."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from hbcomp.experiment import ROOT
from hbcomp.experiment.recipe import BlendRecipe, read_recipe
from hbcomp.scoring.decision import DecisionRule
from hbcomp.system.config import Values, read_json, validate
from hbcomp.system.errors import InputError

CARD: Final = "model.json"  # of an exported model
REPORT: Final = "report.json"  # of a run
REFIT: Final = "refit.json"  # of a run whose nets were trained on everything
RECIPE: Final = "recipe.json"  # of a blend
PREDICTIONS: Final = "predictions.npz"  # of both
BASE_MODELS: Final = "base_models"  # a folder in that of an exported blend
Fold = Literal["all"]


class _Part(BaseModel):
    """A part of a report.json or a model.json; what else is in there is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class Chosen(_Part):
    """The rule that answers."""

    name: str
    rule: Annotated[DecisionRule, Field(discriminator="kind")]


class Net(_Part):
    """One of the nets whose mean answers."""

    seed: int = Field(ge=0)
    fold: int | Fold


class Rows(_Part):
    """The shape of a row, what pads it in the files, and how many rows the run had."""

    n_channels: int = Field(default=1, ge=1)
    n_timepoints: int = Field(ge=1)
    padding_value: float | None = None
    n_train: int


class Metric(_Part):
    """The classes, in the order of the columns of probabilities, and how answers are scored."""

    model_config = ConfigDict(extra="allow")

    classes: tuple[str, ...] = Field(min_length=2)


class Card(_Part):
    """The nets, the rule and the competition of a model; `own_form` is that of submissions.

    A blend has a recipe instead of nets, and its base models have cards of their own.
    """

    format: Literal[1] = 1
    experiment: str
    kind: Literal["run", "blend", "imported"] = "run"
    config: Values = {}
    data: Rows
    metric: Metric
    own_form: Values | None = None
    chosen: Chosen
    folds: tuple[Net, ...] = ()
    recipe: BlendRecipe | None = None
    score: float | None = None  # out of fold; None of nets that were trained on everything
    standard_error: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The channels and time steps of a row."""
        return self.data.n_channels, self.data.n_timepoints

    @property
    def nets(self) -> list[Net]:
        """The nets in the order in which the run itself sums."""
        return sorted(self.folds, key=lambda net: (net.seed, str(net.fold).zfill(9)))


class _Refit(_Part):
    seeds: tuple[int, ...]
    chosen: Chosen


def find_model(place: str | Path) -> Path:
    """Return the folder of an exported model, or of a finished run by its name or its path."""
    for folder in (Path(place), ROOT / place):
        if any((folder / name).is_file() for name in (CARD, REPORT)):
            return folder
    raise InputError(f"{place}: neither an exported model nor a finished run in {ROOT}/")


def read_card(folder: Path, fold: Fold | None = None) -> Card:
    """Return the card of an exported model, of a run or of a blend.

    With `fold` "all" the nets are those that a run trained on everything.
    """
    if fold not in (None, "all"):
        raise InputError(f"fold must be 'all', for the nets trained on everything, not {fold!r}")
    path = next(folder / name for name in (CARD, REPORT) if (folder / name).exists())
    values = read_json(path, "model", "has the run finished?")
    kind = values.get("kind", "run")
    if kind == "imported":
        raise InputError(
            f"{folder}: only nets make a model, but this experiment is imported and has none; "
            "`hbcomp predict` applies a blend to its probabilities of new rows"
        )
    if kind == "blend":
        return _card_of_blend(folder, path, values, fold)
    card = validate(Card, values, path)
    if not card.folds or not card.config:
        raise InputError(f"{path}: it must name nets (folds) and their configuration (config)")
    if fold is None or path.name == CARD:
        return card
    refit_file = folder / REFIT
    hint = f"is `hbcomp cv {folder.name} --fold all` done?"
    refit = validate(_Refit, read_json(refit_file, "report", hint), refit_file)
    nets = tuple(Net(seed=seed, fold="all") for seed in refit.seeds)
    changes = {"folds": nets, "chosen": refit.chosen, "score": None, "standard_error": None}
    return card.model_copy(update=changes)


def _card_of_blend(folder: Path, path: Path, values: Values, fold: Fold | None) -> Card:
    if fold is not None:
        raise InputError(
            f"{folder}: a blend combines nets of folds; those on all rows have no fold"
        )
    if path.name == CARD:
        card = validate(Card, values, path)
        if card.recipe is None:
            raise InputError(f"{path}: a blend must have a recipe")
        return card
    recipe = read_recipe(folder / RECIPE)
    if recipe.combination.kind == "ranks":
        raise InputError(
            f"{folder}: it blends ranks, which are those among the rows that are given, so no row "
            "has an answer by itself; `hbcomp predict` answers whole files"
        )
    first = read_card(folders_of_base(folder, recipe)[0])
    values = {**values, "data": {**values.get("data", {}), **first.data.model_dump()}}
    return validate(Card, values, path).model_copy(update={"recipe": recipe})


def folders_of_base(blend: Path, recipe: BlendRecipe) -> list[Path]:
    """Return the folders of base models: within an exported blend, or beside the blend's own.

    One that is not there, or not what the recipe was fitted on, is an InputError.
    """
    if (blend / CARD).exists():
        return [blend / BASE_MODELS / name for name in recipe.base_models]
    from hbcomp.experiment.predictions import Predictions  # which an exported blend can do without

    folders = [find_model(blend.parent / name) for name in recipe.base_models]
    problems = [
        f"{folder.name} was trained or imported again since; blend again"
        for folder, fingerprint in zip(folders, recipe.fingerprints, strict=True)
        if Predictions.load(folder / PREDICTIONS).fingerprint != fingerprint
    ]
    if problems:
        raise InputError.of(blend / RECIPE, problems)
    return folders
