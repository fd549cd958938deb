"""An experiment's rows under one rule: what it answers, what it predicts and what that scores."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from hbcomp.competitions.load import load_data
from hbcomp.data.dataset import Dataset
from hbcomp.experiment.origin import data_config_of
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import oof_answers
from hbcomp.scoring.choice import RULES
from hbcomp.scoring.metrics import Metric
from hbcomp.scoring.paired import RowScores, measure
from hbcomp.scoring.row_metrics import predicted_class
from hbcomp.system.errors import InputError


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """The predictions of an experiment, answered by the metric's candidate rule of that name.

    Everything about the train rows is out-of-fold and cross-fitted: a row's answer comes from a
    rule that was fitted without the row's fold.
    """

    name: str
    metric: Metric
    rule: str
    predictions: Predictions
    classes: tuple[str, ...] = ()  # their names, as the competition has them

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The labels of the train rows."""
        return self.predictions.labels

    @cached_property
    def answers(self) -> Float64[np.ndarray, "n k"]:
        """The answers to the train rows."""
        return oof_answers(self.metric, self.predictions, self.rule)

    @cached_property
    def rows(self) -> RowScores:
        """What each train row contributes to the score."""
        return measure(self.metric, self.answers, self.labels)

    @property
    def contributions(self) -> Float64[np.ndarray, " n"]:
        """The values of `rows`; their mean is the score."""
        return self.rows.values

    @property
    def score(self) -> float:
        """The score of all train rows."""
        return self.rows.score

    @cached_property
    def predicted(self) -> Int64[np.ndarray, " n"]:
        """The class that each train row is given; -1 is none, an answer of zeros."""
        return predicted_class(self.answers)

    @property
    def is_right(self) -> Bool[np.ndarray, " n"]:
        """Whether each train row's label is predicted."""
        is_right: Bool[np.ndarray, " n"] = self.predicted == self.labels
        return is_right

    @property
    def test_answers(self) -> Float64[np.ndarray, "m k"]:
        """The answers to the test rows, by the rule fitted on all train rows."""
        rule = RULES[self.rule](self.metric, self.predictions.oof_probs, self.labels)
        return rule.apply(self.predictions.test_probs)


def load_train_rows(names: Iterable[str], fingerprint: str) -> Dataset:
    """Return the train rows that the experiments of these names were made on, read again.

    The first one that says how its data were read decides. Other rows than those of the
    fingerprint are refused.
    """
    config = next(filter(None, map(data_config_of, names)), None)
    if config is None:
        raise InputError("no report says how the data were read")
    dataset, _ = load_data(config.model_copy(update={"test": None}))
    if dataset.fingerprint != fingerprint:
        raise InputError(f"{dataset.source} holds other rows than the experiments were made on")
    return dataset
