"""One fold of one configuration, and one trial: fold by fold, against the best one so far."""

import base64
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import optuna
import torch
from jaxtyping import Float64
from optuna.trial import FrozenTrial, TrialState

from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.load import load_data
from hbcomp.data.splits import Folds, make_folds
from hbcomp.experiment.config import Config
from hbcomp.scoring.decision import ArgMax, DecisionRule, Half
from hbcomp.scoring.metrics import row_costs, score_of
from hbcomp.scoring.pruning import Race, Verdict
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError, is_out_of_memory
from hbcomp.training.device import Compute
from hbcomp.training.inference import predict_probs
from hbcomp.training.inputs import fit_inputs
from hbcomp.training.loader import Beats, put_beats
from hbcomp.training.state import Member
from hbcomp.training.step import DivergedError, train_epochs
from hbcomp.tuning.search_space import Params, Space

# Fixed rules only, so that a trial is not paid for soft probabilities; and with answers of 0 and 1,
# so that a row's cost is a small whole number and a fold's costs are a few hundred bytes.
RULES: Mapping[str, DecisionRule] = {"half": Half(), "argmax": ArgMax()}

WORKER = "worker"  # user attribute of a trial: who runs it, so that its death can be told
STOPPED = "stopped"  # user attribute of a pruned trial: the verdict on it
CONFIG = "config"  # user attribute of a trial: the sections that its nets were trained with
UNSCORED = "unscored"  # user attribute of a pruned trial: why it has no score

TRAINED_WITH = {"features", "net", "train", "augment"}

Costs = Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class Ground:
    """What every trial of a study runs on; the same in all workers."""

    base: Config
    fingerprint: str  # of the training beats
    space: Space
    rule: str
    seed: int  # of the folds and of the nets
    n_epoch_looks: int = 0
    alpha: float = 0.05  # the chance that a trial as good as the best one is stopped
    n_folds: int | None = None  # the first folds that a trial trains; None: all


@dataclass(frozen=True, eq=False)
class Resident:
    """The beats in the memory of one process, and on the device it computes on."""

    train: Dataset
    beats: Beats


@lru_cache(maxsize=1)
def resident(data: DataConfig, fingerprint: str, device: str) -> Resident:
    """Return the beats of a study; files that changed since it began are an InputError.

    Each worker reads them once, from the cache: sent along with every trial they would be copied
    each time.
    """
    train = load_data(data).train
    if train.fingerprint != fingerprint:
        raise InputError(f"{train.source}: the file changed while the study was running")
    return Resident(train, put_beats(train.signals, train.known_labels, device))


def fold_costs(
    config: Config,
    beats: Beats,
    folds: Folds,
    fold: int,
    rule: DecisionRule,
    compute: Compute,
    n_looks: int = 1,
) -> Iterator[Costs]:
    """Train one fold, yielding its held-out rows' costs at `n_looks` even shares of the epochs.

    The last ones are those of the finished net.
    """
    compute.enter()
    valid_idx = folds.valid_idx(fold)
    held_out = torch.tensor(valid_idx, device=beats.device)
    labels = beats.labels.cpu().numpy()[valid_idx]
    train_idx = torch.tensor(folds.train_idx(fold), device=beats.device)
    member = Member(train_idx, (folds.seed, fold))
    if config.features.is_of_fold:
        beats = fit_inputs(config.features, beats, member).as_beats(train_idx, held_out)
    signals = beats.signals[held_out]
    n_epochs, n_seen = config.train.n_epochs, 0
    for (epoch,) in train_epochs(config.recipe, beats, [member], compute):
        if epoch.epoch * n_looks < (n_seen + 1) * n_epochs:
            continue
        costs = row_costs(rule.apply(predict_probs(epoch.net, signals, compute)), labels)
        # A short schedule passes several shares at once.
        while epoch.epoch * n_looks >= (n_seen + 1) * n_epochs:
            n_seen += 1
            yield costs


def run_trial(
    trial: optuna.Trial, ground: Ground, here: Resident, compute: Compute, worker: str
) -> float:
    """Return a trial's mean cost per 20k rows, or raise TrialPruned where it is lost.

    The costs of every row are stored with the trial: whoever is best is what later ones are
    compared with.
    """
    trial.set_user_attr(WORKER, worker)
    config = ground.space.apply(ground.base, ground.space.suggest(trial))
    trial.set_user_attr(CONFIG, config.model_dump(mode="json", include=TRAINED_WITH))
    folds = make_folds(ground.base.folds, here.train, ground.seed)
    n_folds = ground.n_folds or folds.n_folds
    race = _race(ground, folds, n_folds)
    rival = _rival(trial.study)
    n_looks = 1 + ground.n_epoch_looks
    whole: list[Costs] = []
    for fold in range(n_folds):
        looks = fold_costs(config, here.beats, folds, fold, RULES[ground.rule], compute, n_looks)
        for look, costs in enumerate(_unless_broken(looks, trial), start=1):
            trial.set_user_attr(costs_key(fold, look, n_looks), pack(costs))
            if look == n_looks:
                trial.report(score_of(np.concatenate([*whole, costs])).per_20k, step=fold)
            is_last = (fold, look) == (n_folds - 1, n_looks)
            if race and not is_last:
                _stop_if_lost(trial, race, rival, [*whole, costs], look)
        whole.append(costs)
    return score_of(np.concatenate(whole)).per_20k


def params_in(ground: Ground, trial: FrozenTrial) -> Params | None:
    """Return a trial's parameters in the ground's space, which may have other paths than its own.

    A path that was added had the base's value; one that was removed must have had it.
    """
    tables = ground.base.model_dump(mode="json") | trial.user_attrs[CONFIG]
    return ground.space.params_of(ground.base, validate(Config, tables, ""))


def _race(ground: Ground, folds: Folds, n_folds: int) -> Race | None:
    """Return the rule that stops trials; one fold without looks leaves nothing to stop."""
    if n_folds - 1 + ground.n_epoch_looks < 1:
        return None
    n_rows = int((folds.fold_of_row < n_folds).sum())
    return Race(n_rows, n_folds, ground.n_epoch_looks, ground.alpha)


def _unless_broken(looks: Iterator[Costs], trial: optuna.Trial) -> Iterator[Costs]:
    try:
        yield from looks
    except DivergedError as error:
        trial.set_user_attr(UNSCORED, str(error))
        raise optuna.TrialPruned from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        # Others may be smaller: a width or a batch that does not fit is an answer of the search.
        trial.set_user_attr(UNSCORED, "out of memory")
        raise optuna.TrialPruned from error


@dataclass(frozen=True)
class Rival:
    """The best trial so far, and from how many it was chosen.

    One for a whole trial: each change of it would be one more look, which the rule does not count.
    """

    trial: FrozenTrial
    n_candidates: int


def _rival(study: optuna.Study) -> Rival | None:
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    best = incumbent(ended)
    return Rival(best, len(ended)) if best else None


def _stop_if_lost(
    trial: optuna.Trial, race: Race, rival: Rival | None, costs: Sequence[Costs], look: int
) -> None:
    if rival is None:
        return
    n_looks = 1 + race.n_epoch_looks
    theirs = [stored_costs(rival.trial, fold) for fold in range(len(costs) - 1)]
    theirs.append(stored_costs(rival.trial, len(costs) - 1, look, n_looks))
    n_unfinished = 0 if look == n_looks else len(costs[-1])
    verdict = race.compare(
        np.concatenate(costs), np.concatenate(theirs), rival.n_candidates, n_unfinished
    )
    if verdict.is_lost:
        trial.set_user_attr(STOPPED, _stopped(verdict, rival.trial, costs))
        raise optuna.TrialPruned


def _stopped(verdict: Verdict, best: FrozenTrial, costs: Sequence[Costs]) -> dict[str, float]:
    n_rows = sum(len(each) for each in costs)
    return {**asdict(verdict), "incumbent": best.number, "n_rows": n_rows}


def incumbent(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the best complete trial, the earlier one of equals."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return min(complete, key=lambda trial: (trial.value, trial.number), default=None)


def costs_key(fold: int, look: int = 1, n_looks: int = 1) -> str:
    """Return the user attribute that holds a fold's costs, whole or at an epoch."""
    return f"costs {fold}" if look == n_looks else f"costs {fold} at {look}/{n_looks}"


def stored_costs(trial: FrozenTrial, fold: int, look: int = 1, n_looks: int = 1) -> Costs:
    """Return the costs of a fold that a trial stored."""
    return unpack(trial.user_attrs[costs_key(fold, look, n_looks)])


def pack(costs: Costs) -> str:
    """Return whole costs as text that a database can hold."""
    whole = costs.astype(np.uint8)
    assert np.array_equal(whole, costs), "a fixed hard rule costs whole numbers"
    return base64.b64encode(zlib.compress(whole.tobytes(), 9)).decode("ascii")


def unpack(text: str) -> Costs:
    """Return the costs that were packed."""
    raw = zlib.decompress(base64.b64decode(text))
    return np.frombuffer(raw, dtype=np.uint8).astype(np.float64)
