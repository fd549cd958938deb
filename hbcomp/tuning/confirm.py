"""The best trials are trained again on fresh folds and seeds, to tell a gain from selection bias.

The best of many trials is partly the one that chance favoured. So the best few and the base
experiment are trained again on a fresh seed, which picks the winner; a second fresh seed, on which
nothing was picked, measures the winner against the base.
"""

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hbcomp.crossval.resources import Slot
from hbcomp.experiment.config import Config
from hbcomp.scoring.paired import Difference, RowScores, as_text, paired_difference
from hbcomp.system.command import console
from hbcomp.system.environment import is_alive
from hbcomp.system.workers import WorkerPool, worker_pool
from hbcomp.tuning.cluster import StudyCluster
from hbcomp.tuning.trial import (
    StudyContext,
    best_first,
    fold_scores,
    joined,
    pack,
    study_data,
    study_folds,
    unpack,
    value_of,
)

BASE = "base"
FRESH, CLAIMED = "fresh ", " claimed"  # how user attributes of the study begin and end
CLAIM_SECONDS = 3600  # assumed: longer than a fold takes; a fold of two machines only costs time
POLL_SECONDS = 2.0
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
        """The user attribute of the study that stores its row scores."""
        return f"{FRESH}{self.name} seed {self.seed} fold {self.fold}"

    @property
    def claim(self) -> str:
        """The user attribute that says which machine trains it, and since when."""
        return f"{self.key}{CLAIMED}"


@dataclass(frozen=True)
class Candidate:
    """A trial that was trained again: its score in the search and on the fresh seed."""

    trial: int
    search: float
    fresh: float


@dataclass(frozen=True)
class Confirmed:
    """The scores on the fresh seeds under the study's rule.

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
    """Train the job's fold in this process; return the packed scores of its held-out rows."""
    context = job.context
    train, data = study_data(
        context.base.data, context.base.compute, context.fingerprint, slot.compute.device
    )
    folds = study_folds(job.config.folds, train, job.seed)
    *_, rows = fold_scores(context, job.config, data, folds, job.fold, slot.compute)
    return pack(rows)


def _work_on_cluster(cluster: StudyCluster, job: FoldJob, _: Slot) -> str:
    return pack(cluster.score_fold(job.config, job.seed, job.fold))


def _pool(
    slots: Sequence[Slot], cluster: StudyCluster | None
) -> AbstractContextManager[WorkerPool[FoldJob, Slot]]:
    if cluster is None:
        return worker_pool(slots, work)
    return worker_pool(slots, partial(_work_on_cluster, cluster), cluster.interrupt)


def fresh_seeds(seed: int) -> tuple[int, int]:
    """Return the seed that picks a study's winner, and the one that measures it."""
    return seed + PICK, seed + MEASURE


def confirm(
    study: optuna.Study,
    context: StudyContext,
    n_folds: int,
    slots: Sequence[Slot],
    n_best: int,
    cluster: StudyCluster | None = None,
) -> Confirmed | None:
    """Train the best `n_best` trials and the base on fresh seeds, as far as that is not stored.

    None where no trial but the base is complete.
    """
    own = context.space.base_values(context.base)
    greater_is_better = context.metric.greater_is_better
    best = best_trials(study, n_best, own, greater_is_better)
    if not best:
        return None
    pick, measure = fresh_seeds(context.seed)
    configs = {BASE: context.base} | {_name(trial): _config(trial, context) for trial in best}
    _train(study, context, configs, pick, n_folds, slots, cluster)
    rows = {name: _rows(study, context, name, pick, n_folds) for name in configs}
    winner = best[0]
    for trial in best[1:]:
        winner = trial if rows[_name(trial)].is_better_than(rows[_name(winner)]) else winner
    finalists = {name: configs[name] for name in (BASE, _name(winner))}
    _train(study, context, finalists, measure, n_folds, slots, cluster)
    ours, theirs = (_rows(study, context, name, measure, n_folds) for name in (_name(winner), BASE))
    return Confirmed(
        seeds=(pick, measure),
        n_rows=len(ours.values),
        candidates=[
            Candidate(trial.number, value_of(trial), rows[_name(trial)].score) for trial in best
        ],
        base_search=next((value_of(each) for each in _complete(study) if each.params == own), None),
        base_fresh_picking=rows[BASE].score,
        winner=winner,
        winner_fresh=ours.score,
        base_fresh=theirs.score,
        difference=paired_difference(ours, theirs),
    )


def best_trials(
    study: optuna.Study, n_best: int, base: Mapping[str, Any] | None, greater_is_better: bool
) -> list[FrozenTrial]:
    """Return the best complete trials with different parameters, none of them the base's."""
    distinct: dict[str, FrozenTrial] = {}
    for trial in best_first(_complete(study), greater_is_better):
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
    cluster: StudyCluster | None,
) -> None:
    """Train what is not stored; machines that share the study share these folds."""
    jobs = [
        FoldJob(context, name, config, seed, fold)
        for name, config in configs.items()
        for fold in range(n_folds)
    ]
    while missing := _missing(study, jobs):
        with _pool(slots, cluster) as workers:
            for done in workers.done(_claimed(study, missing)):
                if done.exit is not None:
                    _release(study, done.job)
                    continue
                # Stored at once: a killed command trains no fold twice.
                study.set_user_attr(done.job.key, done.result)
                score = unpack(done.result, context.metric.greater_is_better).score
                console.print(
                    f"{done.job.name} on fresh seed {seed} fold {done.job.fold}: "
                    f"score {as_text(score)}, {len(_missing(study, jobs))} folds left"
                )
        if others := _missing(study, jobs):
            _wait_for(study, others)


def _missing(study: optuna.Study, jobs: Sequence[FoldJob]) -> list[FoldJob]:
    stored = study.user_attrs
    return [job for job in jobs if job.key not in stored]


def _claimed(study: optuna.Study, jobs: Sequence[FoldJob]) -> Iterator[FoldJob]:
    """Claim and yield, one after another, the folds that no other process has claimed."""
    own = {"host": socket.gethostname(), "pid": os.getpid()}
    for job in jobs:
        found = study.user_attrs
        if job.key in found or _is_taken(found.get(job.claim)):
            continue
        cluster = job.context.base.compute.cluster
        study.set_user_attr(job.claim, {**own, "cluster": cluster, "at": time.time()})
        claim = study.user_attrs[job.claim]  # that of another one which came a moment later
        if own.items() <= claim.items():
            yield job


def _is_taken(claim: Mapping[str, Any] | None) -> bool:
    """Return whether another process that may still be alive has claimed a fold."""
    if not claim or time.time() - claim["at"] > CLAIM_SECONDS:
        return False
    if claim["host"] != socket.gethostname():
        return True
    return claim["pid"] != os.getpid() and is_alive(claim["pid"])


def _release(study: optuna.Study, job: FoldJob) -> None:
    study.set_user_attr(job.claim, None)


def _wait_for(study: optuna.Study, jobs: Sequence[FoldJob]) -> None:
    """Wait until another machine stores one of these folds, or its claim of one is too old."""
    found = study.user_attrs
    hosts = sorted({claim["host"] for job in jobs if (claim := found.get(job.claim))})
    folds = "1 fold that is" if len(jobs) == 1 else f"{len(jobs)} folds that are"
    console.print(
        f"waiting for {folds} trained on {', '.join(hosts)}; one of a machine "
        f"that is gone is trained here after {CLAIM_SECONDS // 60} minutes"
    )
    while len(missing := _missing(study, jobs)) == len(jobs):
        found = study.user_attrs
        if not all(_is_taken(found.get(job.claim)) for job in missing):
            return
        time.sleep(POLL_SECONDS)


def _rows(
    study: optuna.Study, context: StudyContext, name: str, seed: int, n_folds: int
) -> RowScores:
    stored, greater_is_better = study.user_attrs, context.metric.greater_is_better
    keys = [f"{FRESH}{name} seed {seed} fold {fold}" for fold in range(n_folds)]
    return joined([unpack(stored[key], greater_is_better) for key in keys])


def _name(trial: FrozenTrial) -> str:
    return f"trial {trial.number}"


def _config(trial: FrozenTrial, context: StudyContext) -> Config:
    return context.space.apply(context.base, context.space.values_of(trial.params))


def folds_of_host(study: optuna.Study) -> Counter[str]:
    """Return how many stored folds on fresh seeds each machine or cluster trained."""
    found = study.user_attrs
    claims = (found.get(f"{key}{CLAIMED}") for key in found if key.startswith(FRESH))
    return Counter(claim.get("cluster") or claim["host"] for claim in claims if claim)


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
            "difference": confirmed.difference.value,
            "standard_error": confirmed.difference.standard_error,
        },
    }
