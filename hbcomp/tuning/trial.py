"""One trial of a search: fold by fold, pruned when it is worse than the best trial so far.

A trial is scored by what each row contributes to the metric, taken within the row's fold, because
folds are compared before the trial has all of them. So its value is the mean of its folds' scores,
weighted by their rows. For a mean over rows, such as abs-sum, that is the score of all rows.
"""

import base64
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from hbcomp.competitions.competition import metric_of
from hbcomp.competitions.load import load_data
from hbcomp.crossval.cluster import LostWorkersError
from hbcomp.crossval.fold import FoldTask, train_group
from hbcomp.crossval.training_data import replica_of, rows_of_net
from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.splits import Folds, FoldsConfig, make_folds
from hbcomp.experiment.config import Config
from hbcomp.features.base import FeatureConfig
from hbcomp.nets.signals import SignalsConfig
from hbcomp.scoring.choice import fixed_rule
from hbcomp.scoring.decision import ArgMax, DecisionRule, Half
from hbcomp.scoring.metrics import Metric, MetricSpec
from hbcomp.scoring.paired import RowScores, measure
from hbcomp.scoring.pruning import PruningRule, largest_gap
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError, is_out_of_memory
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute, ComputeConfig, streams_rows
from hbcomp.training.early_stopping import EarlyStopping
from hbcomp.training.features import FittedFeatures, fit_features
from hbcomp.training.loader import DeviceData, put_on_device
from hbcomp.training.step import DivergedError
from hbcomp.tuning.search_space import Params, Space

HOST = "host"  # user attribute of a trial: the machine or the cluster that trained it
WORKER = "worker"  # user attribute of a trial: its worker, so that an exit of it is noticed
STOPPED = "stopped"  # user attribute of a pruned trial: the verdict on it
CONFIG = "config"  # user attribute of a trial: the sections that its nets were trained with
UNSCORED = "unscored"  # user attribute of a pruned trial: why it has no score

TRAINED_WITH = {"signals", "features", "net", "train", "augment"}


@dataclass(frozen=True)
class StudyContext:
    """The settings that all trials of a study share, equal in all workers."""

    base: Config
    fingerprint: str  # of the train rows
    space: Space
    metric_spec: MetricSpec
    rule: str  # one of `fixed_rules`
    seed: int  # of the folds and of the nets
    n_epoch_checks: int = 0  # interim checks within a fold
    alpha: float = 0.05  # the chance that a trial as good as the best one is pruned
    n_folds: int | None = None  # the first folds that a trial trains; None: all

    @property
    def metric(self) -> Metric:
        """The competition's metric."""
        return metric_of(self.metric_spec)


def fixed_rules(metric: Metric) -> Mapping[str, DecisionRule]:
    """Return the rules that trials can be scored under, by their names, the metric's own first.

    Nothing is fitted for them, so folds are comparable, and threshold 0.5 and argmax do not reward
    soft probabilities. A metric that names neither has its first rule only.
    """
    hard: Mapping[str, DecisionRule] = {"half": Half(), "argmax": ArgMax()}
    return {
        metric.rules[0]: fixed_rule(metric),
        **{name: rule for name, rule in hard.items() if name in metric.rules},
    }


@lru_cache(maxsize=1)
def study_folds(config: FoldsConfig, train: Dataset, seed: int) -> Folds:
    """Return the folds of a study's trials, the same object for all trials of a worker."""
    return make_folds(config, train, seed)


@lru_cache(maxsize=1)
def study_data(
    data: DataConfig, compute: ComputeConfig, fingerprint: str, device: str
) -> tuple[Dataset, DeviceData]:
    """Return the train rows of a study, on the host and on the device; changed files are refused.

    Each worker reads them once, from the cache, instead of receiving a copy with every trial.
    """
    train, _ = load_data(data)
    if train.fingerprint != fingerprint:
        raise InputError(f"{train.source}: the file changed while the study was running")
    is_streamed = streams_rows(compute, device, train.signals)
    return train, put_on_device(train.signals, train.known_labels, device, is_streamed=is_streamed)


def fold_scores(
    context: StudyContext,
    config: Config,
    data: DeviceData,
    folds: Folds,
    fold: int,
    compute: Compute,
    n_checks: int = 1,
) -> Iterator[RowScores]:
    """Train one fold, yielding its held-out rows' scores at `n_checks` even shares of the epochs.

    The last ones are those of the trained net.
    """
    metric = context.metric
    rule = fixed_rules(metric)[context.rule]
    early_stopping, labels = config.train.early_stopping, data.labels.cpu().numpy()
    net_rows = rows_of_net(early_stopping, folds, labels, folds.seed, fold)
    if config.features.is_of_fold:
        compute.enter()
        features = features_of_folds(
            config.features, config.signals, early_stopping, folds, data, compute.n_threads
        )
        data = replace(data, signals=features.of_rows[fold])
    task = FoldTask(
        seed=folds.seed,
        fold=fold,
        train_idx=net_rows.train_idx,
        watched_idx=net_rows.watched_idx,
        valid_idx=folds.valid_idx(fold),
        recipe=config.recipe,
        metric=context.metric_spec,
        compute=compute,
        n_scored=n_checks,
    )
    n_left = n_checks
    for (after,) in train_group([task], data, Stopwatch()):
        probs = after.trained.valid_probs if after.trained else after.valid_probs
        if probs is not None:
            rows = measure(metric, rule.apply(probs), after.valid_labels)
            # As they are stored: else equal trials would differ by rounding.
            stored = unpack(pack(rows), metric.greater_is_better)
            # One epoch of a short schedule ends several shares, and the last one all that are left.
            n_ended = n_left if after.trained else task.scored_epochs.count(after.epoch.epoch)
            yield from [stored] * n_ended
            n_left -= n_ended


@lru_cache(maxsize=1)  # trials of the same features share them
def features_of_folds(
    features: FeatureConfig,
    signals: SignalsConfig,
    early_stopping: EarlyStopping,
    folds: Folds,
    data: DeviceData,
    n_threads: int,
) -> FittedFeatures:
    """Return the features of the nets of all folds."""
    labels, device = data.labels.cpu().numpy(), data.device
    replicas = []
    for fold in range(folds.n_folds):
        rows = rows_of_net(early_stopping, folds, labels, folds.seed, fold)
        replicas.append(replica_of(folds.seed, fold, rows.train_idx, rows.train_labels, device))
    return fit_features(features, signals, data, replicas, n_threads)


def run_trial(
    trial: optuna.Trial,
    context: StudyContext,
    folds: Folds,
    score_fold: Callable[[Config, int], Iterable[RowScores]],
    worker: str,
) -> float:
    """Return a trial's score, or raise TrialPruned where it falls behind.

    `score_fold` trains a fold and gives its held-out rows' scores, once for each check. What every
    row contributes is stored with the trial, because later trials are compared with the rows of the
    best one.
    """
    trial.set_user_attr(WORKER, worker)
    trial.set_user_attr(HOST, context.base.compute.cluster or socket.gethostname())
    config = context.space.apply(context.base, context.space.suggest(trial))
    trial.set_user_attr(CONFIG, config.model_dump(mode="json", include=TRAINED_WITH))
    n_folds = context.n_folds or folds.n_folds
    pruning = _pruning_rule(context, folds, n_folds)
    incumbent = _incumbent(trial.study, context.metric.greater_is_better)
    n_checks = 1 + context.n_epoch_checks
    finished: list[RowScores] = []
    for fold in range(n_folds):
        checks = _pruned_if_broken(score_fold, config, fold, trial)
        for check, rows in enumerate(checks, start=1):
            trial.set_user_attr(rows_key(fold, check, n_checks), pack(rows))
            if check == n_checks:
                trial.report(joined([*finished, rows]).score, step=fold)
            is_last = (fold, check) == (n_folds - 1, n_checks)
            if pruning and not is_last:
                _prune_if_behind(trial, pruning, incumbent, [*finished, rows], check)
        finished.append(rows)
    return joined(finished).score


def params_in(context: StudyContext, trial: FrozenTrial) -> Params | None:
    """Return a trial's parameters in the study's space, which may have other paths than its own.

    A path that was added had the base's value; one that was removed must have had it.
    """
    tables = context.base.model_dump(mode="json") | trial.user_attrs[CONFIG]
    return context.space.params_of(context.base, validate(Config, tables, ""))


def _pruning_rule(context: StudyContext, folds: Folds, n_folds: int) -> PruningRule | None:
    """Return the rule that prunes trials, or None for one fold without interim checks."""
    if n_folds - 1 + context.n_epoch_checks < 1:
        return None
    n_rows = int((folds.fold_of_row < n_folds).sum())
    gap = largest_gap(context.metric)
    return PruningRule(n_rows, n_folds, gap, context.n_epoch_checks, context.alpha)


def _pruned_if_broken(
    score_fold: Callable[[Config, int], Iterable[RowScores]],
    config: Config,
    fold: int,
    trial: optuna.Trial,
) -> Iterator[RowScores]:
    try:
        yield from score_fold(config, fold)
    except DivergedError as error:
        trial.set_user_attr(UNSCORED, str(error))
        raise optuna.TrialPruned from error
    except LostWorkersError as error:
        trial.set_user_attr(UNSCORED, "its workers were lost, probably for lack of memory")
        raise optuna.TrialPruned from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        # Not an error: other trials may have a smaller width or batch, which fits.
        trial.set_user_attr(UNSCORED, "out of memory")
        raise optuna.TrialPruned from error


@dataclass(frozen=True)
class Incumbent:
    """The best trial when another began, and the number of trials it was chosen from.

    It stays the same during that trial: each change would be a further check that the pruning rule
    does not count.
    """

    trial: FrozenTrial
    n_candidates: int


def _incumbent(study: optuna.Study, greater_is_better: bool) -> Incumbent | None:
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    best = next(iter(best_first(ended, greater_is_better)), None)
    return Incumbent(best, len(ended)) if best else None


def _prune_if_behind(
    trial: optuna.Trial,
    pruning: PruningRule,
    incumbent: Incumbent | None,
    rows: Sequence[RowScores],
    check: int,
) -> None:
    if incumbent is None:
        return
    n_checks = 1 + pruning.n_epoch_checks
    ours, last = joined(rows), len(rows) - 1
    keys = [*map(rows_key, range(last)), rows_key(last, check, n_checks)]
    theirs = joined(
        [unpack(incumbent.trial.user_attrs[key], ours.greater_is_better) for key in keys]
    )
    n_unfinished = 0 if check == n_checks else len(rows[-1].values)
    verdict = pruning.compare(ours, theirs, incumbent.n_candidates, n_unfinished)
    if verdict.is_behind:
        number, n_rows = incumbent.trial.number, len(ours.values)
        trial.set_user_attr(STOPPED, {**asdict(verdict), "incumbent": number, "n_rows": n_rows})
        raise optuna.TrialPruned


def best_first(trials: Sequence[FrozenTrial], greater_is_better: bool) -> list[FrozenTrial]:
    """Return the complete trials, the best first and the earlier one of equals before the other."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sign = -1.0 if greater_is_better else 1.0
    return sorted(complete, key=lambda trial: (sign * value_of(trial), trial.number))


def value_of(trial: FrozenTrial) -> float:
    """Return the score of a complete trial."""
    assert trial.value is not None  # a complete trial has one
    return trial.value


def rows_key(fold: int, check: int = 1, n_checks: int = 1) -> str:
    """Return the user attribute that holds a fold's row scores, whole or at an epoch."""
    return f"rows {fold}" if check == n_checks else f"rows {fold} at {check}/{n_checks}"


def joined(folds: Sequence[RowScores]) -> RowScores:
    """Return the rows of several folds as one column."""
    return RowScores(np.concatenate([rows.values for rows in folds]), folds[0].greater_is_better)


def pack(rows: RowScores) -> str:
    """Return row scores in single precision as text that a database can hold.

    Whole numbers as large as those of abs-sum are exact. A fold of 20,000 rows of a hard rule takes
    a few hundred bytes, one of probabilities or areas about 100 KiB.
    """
    raw = rows.values.astype(np.float32).tobytes()
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


def unpack(text: str, greater_is_better: bool) -> RowScores:
    """Return the row scores that were packed."""
    raw = zlib.decompress(base64.b64decode(text))
    values = np.frombuffer(raw, dtype=np.float32).astype(np.float64)
    return RowScores(values, greater_is_better)
