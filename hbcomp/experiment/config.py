"""The configuration of an experiment: the sections of every layer in one frozen model."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from hbcomp.data.dataset import DataConfig
from hbcomp.data.splits import FoldsConfig, Seeds
from hbcomp.features import registry as features
from hbcomp.features.base import FeatureConfig
from hbcomp.features.samples import SamplesConfig
from hbcomp.nets import registry as nets
from hbcomp.nets.base import NetConfig
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.signals import SignalsConfig
from hbcomp.scoring.choice import check_rule_name
from hbcomp.system.config import Section, validate
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import ComputeConfig
from hbcomp.training.optim import TrainConfig
from hbcomp.training.pseudo import PseudoConfig
from hbcomp.training.state import Recipe

ONE_EPOCH = TrainConfig(n_epochs=1)  # and nothing else that a fitted net could heed


class DecisionConfig(Section):
    """How probabilities become answers; `auto` chooses the simplest rule that no other beats."""

    rule: str = "auto"

    @field_validator("rule")
    @classmethod
    def _known(cls, rule: str) -> str:
        return check_rule_name(rule)


class ReportConfig(Section):
    """What is measured during training; it does not influence the result."""

    # Epochs after which the validation rows are scored, evenly spread, the last one included.
    # Scoring 20,000 rows costs about a tenth of training on 80,000.
    n_scored_epochs: int = Field(default=5, ge=1)


class RefitConfig(Section):
    """How `cv NAME --fold all` trains on everything: a net for each seed.

    `n_epochs` left open is `train.n_epochs`: the passes over each row that the cross-validation
    measured. The steps grow with the rows, as no fold is held out.
    """

    seeds: Seeds = (0, 1, 2)
    n_epochs: int | None = Field(default=None, ge=1)


class Config(Section):
    """The whole configuration of an experiment."""

    data: DataConfig = DataConfig()
    folds: FoldsConfig = FoldsConfig()
    signals: SignalsConfig = SignalsConfig()
    features: SerializeAsAny[FeatureConfig] = SamplesConfig()
    net: SerializeAsAny[NetConfig] = ResNetConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    pseudo: PseudoConfig = PseudoConfig()
    refit: RefitConfig = RefitConfig()
    compute: ComputeConfig = ComputeConfig()
    decision: DecisionConfig = DecisionConfig()
    report: ReportConfig = ReportConfig()

    @field_validator("net", mode="before")
    @classmethod
    def _net_of_its_name(cls, values: Any) -> Any:
        return _section_of_its_name(values, nets.config_class, "resnet")

    @field_validator("features", mode="before")
    @classmethod
    def _features_of_their_name(cls, values: Any) -> Any:
        return _section_of_its_name(values, features.config_class, "samples")

    @model_validator(mode="after")
    def _features_of_a_fold_stand_alone(self) -> "Config":
        if not self.features.is_of_fold:
            return self
        problems = []
        if self.augment != AugmentConfig():
            problems.append("augment.scale, .noise and .shift must be 0: they change signals")
        if self.compute.models_per_process not in (None, 1):
            problems.append(
                "compute.models_per_process must be 1: every net has features of its own"
            )
        if problems:
            raise ValueError(f"with features.name {self.features.name!r} {'; '.join(problems)}")
        return self

    @model_validator(mode="after")
    def _fitted_nets_are_not_trained(self) -> "Config":
        if not self.net.is_fitted:
            return self
        problems = [
            f"{section}.{key} must be {value}"
            for section, wanted in (("train", ONE_EPOCH), ("augment", AugmentConfig()))
            for key, value in wanted
            if getattr(getattr(self, section), key) != value
        ]
        if self.refit.n_epochs not in (None, 1):
            problems.append("refit.n_epochs must be 1")
        if problems:
            raise ValueError(
                f"net {self.net.name!r} is fitted, not trained in steps, so {'; '.join(problems)}"
            )
        return self

    @property
    def steps_take_the_time(self) -> bool:
        """Whether training steps take it, not features of a fold or the fit of a net."""
        return not (self.features.is_of_fold or self.net.is_fitted)

    @property
    def recipe(self) -> Recipe:
        """The sections that training needs."""
        signals = None if self.features.is_of_fold else self.signals
        return Recipe(self.net, self.train, self.augment, signals)

    def identity(self) -> dict[str, Any]:
        """Return the options that the fold predictions depend on, with dotted keys.

        These are not the paths of the data and the folds, which have fingerprints of their own, nor
        the decision rule, the device and the precision.
        """
        sections = {"signals", "net", "train", "augment"}
        if self.pseudo.runs:
            sections.add("pseudo")
        if self.features != SamplesConfig():
            sections.add("features")
        values = self.model_dump(mode="json", include=sections)
        return {
            f"{section}.{key}": value
            for section, table in values.items()
            for key, value in table.items()
        }


def _section_of_its_name(
    values: Any, class_of: Callable[[Any], type[Section]], default: str
) -> Any:
    """Return a table as the section of its name; pydantic refuses what is no table."""
    if isinstance(values, Mapping) and isinstance(name := values.get("name", default), str):
        kind = class_of(name)
        return validate(kind, {"name": default, **values}, source="", whole=Config)
    return values
