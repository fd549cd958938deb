"""One trial of a search: fold by fold, pruned when it is worse than the best trial so far."""

import base64
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import optuna
from jaxtyping import Float64
from optuna.trial import FrozenTrial, TrialState

from hbcomp.competitions.load import load_data
from hbcomp.crossval.fold import FoldTask, evenly_spaced, train_group
from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.splits import Folds, make_folds
from hbcomp.experiment.config import Config
from hbcomp.scoring.decision import ArgMax, DecisionRule, Half
from hbcomp.scoring.metrics import row_costs, score_of
from hbcomp.scoring.pruning import PruningRule
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError, is_out_of_memory
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute
from hbcomp.training.loader import DeviceData, put_on_device
from hbcomp.training.step import DivergedError
from hbcomp.tuning.search_space import Params, Space

# Fixed rules only, so that soft probabilities are not rewarded; and rules with answers of 0 and 1,
# so that a row's cost is a small whole number and a fold's costs take a few hundred bytes.
RULES: Mapping[str, DecisionRule] = {"half": Half(), "argmax": ArgMax()}

WORKER = "worker"  # user attribute of a trial: its worker, so that an exit of it is noticed
STOPPED = "stopped"  # user attribute of a pruned trial: the verdict on it
CONFIG = "config"  # user attribute of a trial: the sections that its nets were trained with
UNSCORED = "unscored"  # user attribute of a pruned trial: why it has no score

TRAINED_WITH = {"features", "net", "train", "augment"}

Costs = Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class StudyContext:
    """The settings that all trials of a study share, equal in all workers."""

    base: Config
    fingerprint: str  # of the train rows
    space: Space
    rule: str
    seed: int  # of the folds and of the nets
    n_epoch_checks: int = 0  # interim checks within a fold
    alpha: float = 0.05  # the chance that a trial as good as the best one is pruned
    n_folds: int | None = None  # the first folds that a trial trains; None: all


@lru_cache(maxsize=1)
def study_data(data: DataConfig, fingerprint: str, device: str) -> tuple[Dataset, DeviceData]:
    """Return the train rows of a study, on the host and on the device; changed files are refused.

    Each worker reads them once, from the cache, instead of receiving a copy with every trial.
    """
    train, _ = load_data(data)
    if train.fingerprint != fingerprint:
        raise InputError(f"{train.source}: the file changed while the study was running")
    return train, put_on_device(train.signals, train.known_labels, device)


def fold_costs(
    config: Config,
    data: DeviceData,
    folds: Folds,
    fold: int,
    rule: DecisionRule,
    compute: Compute,
    n_checks: int = 1,
) -> Iterator[Costs]:
    """Train one fold, yielding its held-out rows' costs at `n_checks` even shares of the epochs.

    The last ones are those of the finished net.
    """
    checked = evenly_spaced(config.train.n_epochs, n_checks)
    task = FoldTask(
        seed=folds.seed,
        fold=fold,
        train_idx=folds.train_idx(fold),
        valid_idx=folds.valid_idx(fold),
        recipe=config.recipe,
        features=config.features,
        compute=compute,
        scored_epochs=frozenset(checked),
    )
    for (after,) in train_group([task], data, Stopwatch()):
        if after.valid_probs is not None:
            costs = row_costs(rule.apply(after.valid_probs), after.valid_labels)
            # One epoch of a short schedule ends several shares.
            yield from [costs] * checked.count(after.epoch.epoch)


def run_trial(
    trial: optuna.Trial,
    context: StudyContext,
    study_rows: tuple[Dataset, DeviceData],
    compute: Compute,
    worker: str,
) -> float:
    """Return a trial's mean cost per 20k rows, or raise TrialPruned where it falls behind.

    The costs of every row are stored with the trial, because later trials are compared with those
    of the best one.
    """
    trial.set_user_attr(WORKER, worker)
    config = context.space.apply(context.base, context.space.suggest(trial))
    trial.set_user_attr(CONFIG, config.model_dump(mode="json", include=TRAINED_WITH))
    train, data = study_rows
    folds = make_folds(context.base.folds, train, context.seed)
    n_folds = context.n_folds or folds.n_folds
    pruning = _pruning_rule(context, folds, n_folds)
    incumbent = _incumbent(trial.study)
    n_checks = 1 + context.n_epoch_checks
    finished: list[Costs] = []
    for fold in range(n_folds):
        checks = fold_costs(config, data, folds, fold, RULES[context.rule], compute, n_checks)
        for check, costs in enumerate(_pruned_if_broken(checks, trial), start=1):
            trial.set_user_attr(costs_key(fold, check, n_checks), pack(costs))
            if check == n_checks:
                trial.report(score_of(np.concatenate([*finished, costs])).per_20k, step=fold)
            is_last = (fold, check) == (n_folds - 1, n_checks)
            if pruning and not is_last:
                _prune_if_behind(trial, pruning, incumbent, [*finished, costs], check)
        finished.append(costs)
    return score_of(np.concatenate(finished)).per_20k


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
    return PruningRule(n_rows, n_folds, context.n_epoch_checks, context.alpha)


def _pruned_if_broken(checks: Iterator[Costs], trial: optuna.Trial) -> Iterator[Costs]:
    try:
        yield from checks
    except DivergedError as error:
        trial.set_user_attr(UNSCORED, str(error))
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


def _incumbent(study: optuna.Study) -> Incumbent | None:
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    best = best_complete(ended)
    return Incumbent(best, len(ended)) if best else None


def _prune_if_behind(
    trial: optuna.Trial,
    pruning: PruningRule,
    incumbent: Incumbent | None,
    costs: Sequence[Costs],
    check: int,
) -> None:
    if incumbent is None:
        return
    n_checks = 1 + pruning.n_epoch_checks
    theirs = [stored_costs(incumbent.trial, fold) for fold in range(len(costs) - 1)]
    theirs.append(stored_costs(incumbent.trial, len(costs) - 1, check, n_checks))
    n_unfinished = 0 if check == n_checks else len(costs[-1])
    verdict = pruning.compare(
        np.concatenate(costs), np.concatenate(theirs), incumbent.n_candidates, n_unfinished
    )
    if verdict.is_behind:
        number, n_rows = incumbent.trial.number, sum(map(len, costs))
        trial.set_user_attr(STOPPED, {**asdict(verdict), "incumbent": number, "n_rows": n_rows})
        raise optuna.TrialPruned


def best_complete(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the best complete trial, the earlier one of equals."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return min(complete, key=lambda trial: (trial.value, trial.number), default=None)


def costs_key(fold: int, check: int = 1, n_checks: int = 1) -> str:
    """Return the user attribute that holds a fold's costs, whole or at an epoch."""
    return f"costs {fold}" if check == n_checks else f"costs {fold} at {check}/{n_checks}"


def stored_costs(trial: FrozenTrial, fold: int, check: int = 1, n_checks: int = 1) -> Costs:
    """Return the costs of a fold that a trial stored."""
    return unpack(trial.user_attrs[costs_key(fold, check, n_checks)])


def pack(costs: Costs) -> str:
    """Return whole costs as text that a database can hold."""
    whole = costs.astype(np.uint8)
    assert np.array_equal(whole, costs), "a fixed hard rule costs whole numbers"
    return base64.b64encode(zlib.compress(whole.tobytes(), 9)).decode("ascii")


def unpack(text: str) -> Costs:
    """Return the costs that were packed."""
    raw = zlib.decompress(base64.b64decode(text))
    return np.frombuffer(raw, dtype=np.uint8).astype(np.float64)
