"""The best trials are trained again on fresh folds and seeds, to tell a gain from selection bias.

The best of many trials is partly the one that chance favoured. So the best few and the base
experiment are trained again on a fresh seed, which picks the winner; a second fresh seed, on which
nothing was picked, measures the winner against the base.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from hbcomp.crossval.resources import Slot
from hbcomp.data.splits import make_folds
from hbcomp.experiment.config import Config
from hbcomp.scoring.metrics import score_of
from hbcomp.scoring.paired import Difference, paired_difference
from hbcomp.system.command import console
from hbcomp.system.workers import worker_pool
from hbcomp.tuning.trial import RULES, Costs, StudyContext, fold_costs, pack, study_data, unpack

BASE = "base"
PICK, MEASURE = 1000, 1001  # added to the study's seed; assumed: nobody searches with such seeds


@dataclass(frozen=True)
class FoldJob:
    """One fold of one configuration on a fresh seed."""

    context: StudyContext
    name: str
    config: Config
    seed: int
    fold: int

    @property
    def key(self) -> str:
        """The user attribute of the study that stores its costs."""
        return f"fresh {self.name} seed {self.seed} fold {self.fold}"


@dataclass(frozen=True)
class Candidate:
    """A trial that was trained again: its score in the search and on the fresh seed, per 20k."""

    trial: int
    search: float
    fresh: float


@dataclass(frozen=True)
class Confirmed:
    """The scores on the fresh seeds, per 20k rows under the study's rule.

    `winner_fresh`, `base_fresh` and `difference` (winner minus base, paired on the same rows) were
    measured on the seed that picked nothing.
    """

    seeds: tuple[int, int]
    n_rows: int
    candidates: list[Candidate]
    base_search: float | None
    base_fresh_picking: float
    winner: FrozenTrial
    winner_fresh: float
    base_fresh: float
    difference: Difference


def work(job: FoldJob, slot: Slot) -> str:
    """Return the packed costs of the job's held-out rows."""
    context = job.context
    train, data = study_data(context.base.data, context.fingerprint, slot.compute.device)
    folds = make_folds(job.config.folds, train, job.seed)
    *_, costs = fold_costs(job.config, data, folds, job.fold, RULES[context.rule], slot.compute)
    return pack(costs)


def confirm(
    study: optuna.Study, context: StudyContext, n_folds: int, slots: Sequence[Slot], n_best: int
) -> Confirmed | None:
    """Train the best `n_best` trials and the base on fresh seeds, as far as that is not stored.

    None where no trial but the base is complete.
    """
    own = context.space.base_values(context.base)
    best = best_trials(study, n_best, own)
    if not best:
        return None
    pick, measure = context.seed + PICK, context.seed + MEASURE
    configs = {BASE: context.base} | {_name(trial): _config(trial, context) for trial in best}
    _train(study, context, configs, pick, n_folds, slots)
    costs = {name: _costs(study, name, pick, n_folds) for name in configs}
    winner = min(best, key=lambda trial: costs[_name(trial)].sum())
    finalists = {name: configs[name] for name in (BASE, _name(winner))}
    _train(study, context, finalists, measure, n_folds, slots)
    ours, theirs = (_costs(study, name, measure, n_folds) for name in (_name(winner), BASE))
    return Confirmed(
        seeds=(pick, measure),
        n_rows=len(ours),
        candidates=[
            Candidate(trial.number, _value(trial), score_of(costs[_name(trial)]).per_20k)
            for trial in best
        ],
        base_search=next((_value(each) for each in _complete(study) if each.params == own), None),
        base_fresh_picking=score_of(costs[BASE]).per_20k,
        winner=winner,
        winner_fresh=score_of(ours).per_20k,
        base_fresh=score_of(theirs).per_20k,
        difference=paired_difference(ours, theirs),
    )


def best_trials(
    study: optuna.Study, n_best: int, base: Mapping[str, Any] | None
) -> list[FrozenTrial]:
    """Return the best complete trials with different parameters, none of them the base's."""
    distinct: dict[str, FrozenTrial] = {}
    for trial in sorted(_complete(study), key=lambda trial: (_value(trial), trial.number)):
        if trial.params != base:
            distinct.setdefault(repr(sorted(trial.params.items())), trial)
    return list(distinct.values())[:n_best]


def _train(
    study: optuna.Study,
    context: StudyContext,
    configs: Mapping[str, Config],
    seed: int,
    n_folds: int,
    slots: Sequence[Slot],
) -> None:
    stored = study.user_attrs
    jobs = [
        job
        for name, config in configs.items()
        for fold in range(n_folds)
        if (job := FoldJob(context, name, config, seed, fold)).key not in stored
    ]
    while jobs:
        with worker_pool(slots, work) as workers:
            for done in workers.done(iter(jobs)):
                if done.exit is None:
                    # Stored at once: a killed command trains no fold twice.
                    study.set_user_attr(done.job.key, done.result)
                    jobs.remove(done.job)
                    console.print(
                        f"{done.job.name} on fresh seed {seed} fold {done.job.fold}: "
                        f"{score_of(unpack(done.result)).per_20k:.1f} per 20k, "
                        f"{len(jobs)} folds left"
                    )


def _costs(study: optuna.Study, name: str, seed: int, n_folds: int) -> Costs:
    stored = study.user_attrs
    prefix = f"fresh {name} seed {seed} fold "
    return np.concatenate([unpack(stored[f"{prefix}{fold}"]) for fold in range(n_folds)])


def _name(trial: FrozenTrial) -> str:
    return f"trial {trial.number}"


def _config(trial: FrozenTrial, context: StudyContext) -> Config:
    return context.space.apply(context.base, context.space.values_of(trial.params))


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None  # a complete trial has one
    return trial.value


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def to_json(confirmed: Confirmed) -> dict[str, Any]:
    """Return the numbers as plain values."""
    return {
        "seeds": list(confirmed.seeds),
        "n_rows": confirmed.n_rows,
        "base": {"search": confirmed.base_search, "fresh": confirmed.base_fresh_picking},
        "candidates": [asdict(each) for each in confirmed.candidates],
        "winner": {
            "trial": confirmed.winner.number,
            "fresh": confirmed.winner_fresh,
            "base": confirmed.base_fresh,
            "difference": confirmed.difference.per_20k,
            "standard_error": confirmed.difference.standard_error,
        },
    }
