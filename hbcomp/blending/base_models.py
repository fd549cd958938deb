"""The base models of a blend: finished experiments whose probabilities are combined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from hbcomp.competitions.competition import metric_of
from hbcomp.experiment.folder import find_run
from hbcomp.experiment.predictions import (
    Predictions,
    check_aligned,
    have_same_folds,
    sampled_rows,
)
from hbcomp.experiment.report import Report, read_report
from hbcomp.scoring.metrics import Metric, MetricSpec
from hbcomp.system.errors import InputError


@dataclass(frozen=True, eq=False)
class BaseModels:
    """Predictions of the same rows, by the name of the experiment, in the order given."""

    predictions: Mapping[str, Predictions]
    metric_spec: MetricSpec
    is_trusted: bool = False  # whether a metric.py from elsewhere may be executed

    @cached_property
    def metric(self) -> Metric:
        """What all of them were scored by, and their blend will be."""
        return metric_of(self.metric_spec, is_trusted=self.is_trusted)

    @property
    def names(self) -> tuple[str, ...]:
        """The base models' names."""
        return tuple(self.predictions)

    @property
    def first(self) -> Predictions:
        """The base model whose ids, labels and folds stand for all."""
        return next(iter(self.predictions.values()))

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The true classes of the train rows."""
        return self.first.labels

    @property
    def fold_of_row(self) -> Int64[np.ndarray, " n"]:
        """The first base model's folds, over which the blend is cross-fitted."""
        return self.first.fold_of_row

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """A hash of each base model's probabilities."""
        return tuple(each.fingerprint for each in self.predictions.values())

    @property
    def has_same_folds(self) -> bool:
        """Whether the first seeds of all base models have these folds; others are not compared."""
        return have_same_folds(self.predictions)

    @property
    def oof(self) -> Float64[np.ndarray, "m n k"]:
        """The out-of-fold probabilities of all base models."""
        return np.stack([each.oof_probs for each in self.predictions.values()])

    @property
    def test(self) -> Float64[np.ndarray, "m n k"]:
        """The test probabilities of all base models; no rows where there is no test file."""
        return np.stack([each.test_probs for each in self.predictions.values()])

    @property
    def test_of_folds(self) -> list[Float64[np.ndarray, "m s k"]]:
        """The sampled test probabilities of all base models without each fold; none of imports.

        A base model over fewer folds begins again with its first; an import answers always alike.
        """
        of_folds = [each.test_probs_of_fold for each in self.predictions.values()]
        n_folds = max(0 if each is None else len(each) for each in of_folds)
        sample = self.test[:, sampled_rows(self.test.shape[1])]
        return [
            np.stack(
                [
                    mean if each is None else each[fold % len(each)].astype(np.float64)
                    for each, mean in zip(of_folds, sample, strict=True)
                ]
            )
            for fold in range(n_folds)
        ]


def load_base_models(names: Sequence[str], *, is_trusted: bool = False) -> BaseModels:
    """Return the experiments of these names; an InputError says why they cannot be blended.

    All must be finished, made on the same train and test rows and scored by the same metric, and
    none may be a blend.
    """
    runs = [find_run(name) for name in names]
    names = [run.name for run in runs]
    if len(names) < 2:
        raise InputError(
            f"a blend combines two experiments or more, but got {', '.join(names)} alone"
        )
    problems = [
        f"{name} is named {names.count(name)} times"
        for name in sorted({*names})
        if names.count(name) > 1
    ]
    problems += [
        f"{run.name} is a blend; name its base models instead"
        for run in runs
        if run.recipe_file.exists()
    ]
    if problems:
        raise InputError.of("base models", problems)
    predictions = {run.name: Predictions.load(run.predictions_file) for run in runs}
    check_aligned(predictions)
    metric = common_metric([read_report(run.report_file) for run in runs])
    return BaseModels(predictions, metric, is_trusted)


def common_metric(reports: Sequence[Report]) -> MetricSpec:
    """Return the metric of all experiments; an InputError names those that have another one."""
    first, *others = reports
    problems = [
        f"{each.experiment} was scored by {_in_words(each.metric)}"
        for each in others
        if each.metric != first.metric
    ]
    if problems:
        rule = f"all must be scored as {first.experiment} was, by {_in_words(first.metric)}"
        raise InputError.of(rule, problems)
    return first.metric


def _in_words(spec: MetricSpec) -> str:
    """Return what a metric is made from, in the keys of competition.toml."""
    values = spec.config.model_dump(mode="json", exclude_unset=True)
    options = [f"{key} = {value}" for key, value in values.items() if key != "name"]
    if spec.sha256:
        options.append(f"sha256 {spec.sha256[:8]}")
    described = f" ({', '.join(options)})" if options else ""
    return f"{spec.config.name}{described} of the classes {', '.join(spec.classes)}"
