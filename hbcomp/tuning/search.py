"""The search: trials are handed out one by one until the requested number is reached."""

import threading
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from hbcomp.crossval.cluster import LostClusterError
from hbcomp.crossval.resources import Slot
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.scoring.paired import RowScores, as_text
from hbcomp.system.command import console
from hbcomp.system.workers import WorkerPool, worker_pool
from hbcomp.tuning.cluster import StudyCluster
from hbcomp.tuning.storage import join_study, n_finished, open_storage, usable
from hbcomp.tuning.trial import (
    STOPPED,
    UNSCORED,
    WORKER,
    StudyContext,
    best_first,
    fold_scores,
    run_trial,
    study_data,
    study_folds,
    value_of,
)


@dataclass(frozen=True)
class StudyStorage:
    """Where a study is stored, so that each worker can open it."""

    url: str | None
    run: RunFolder
    study_name: str
    n_workers: int


@lru_cache(maxsize=1)
def _join(storage: StudyStorage, seed: int) -> optuna.Study:
    """Return the study, opened once in each worker."""
    database = open_storage(storage.url, storage.run)
    return join_study(database, storage.study_name, seed, n_workers=storage.n_workers)


@dataclass(frozen=True)
class TrialJob:
    """One trial to run; `worker` marks it in the study."""

    context: StudyContext
    storage: StudyStorage
    worker: str


def work(job: TrialJob, slot: Slot) -> None:
    """Run one trial of the study and train its folds in this process."""
    context = job.context
    train, data = study_data(
        context.base.data, context.base.compute, context.fingerprint, slot.compute.device
    )
    folds = study_folds(context.base.folds, train, context.seed)
    n_checks = 1 + context.n_epoch_checks

    def score_fold(config: Config, fold: int) -> Iterator[RowScores]:
        return fold_scores(context, config, data, folds, fold, slot.compute, n_checks)

    with usable(job.storage.url, job.storage.run):
        study = _join(job.storage, context.seed)
        study.optimize(
            lambda trial: run_trial(trial, context, folds, score_fold, job.worker), n_trials=1
        )


_begins_trial = threading.Lock()


def _work_on_cluster(study: optuna.Study, cluster: StudyCluster, job: TrialJob, _: Slot) -> None:
    """Run one trial of the study in this thread, while workers of the cluster train its folds."""
    context, storage = job.context, job.storage
    folds = cluster.folds_of_seed[context.seed]

    def score_fold(config: Config, fold: int) -> list[RowScores]:
        return [cluster.score_fold(config, context.seed, fold)]

    with usable(storage.url, storage.run), ExitStack() as beginning:
        # SQLite locks no rows, so without this two threads could take the same trial of the queue.
        beginning.enter_context(_begins_trial)
        # Threads may share the storage, but not the sampler.
        own = join_study(
            study._storage, storage.study_name, context.seed, n_workers=storage.n_workers
        )

        def objective(trial: optuna.Trial) -> float:
            beginning.close()
            return run_trial(trial, context, folds, score_fold, job.worker)

        own.optimize(objective, n_trials=1)


def _pool(
    study: optuna.Study, slots: Sequence[Slot], cluster: StudyCluster | None
) -> AbstractContextManager[WorkerPool[TrialJob, Slot]]:
    if cluster is None:
        return worker_pool(slots, work)
    return worker_pool(slots, partial(_work_on_cluster, study, cluster), cluster.interrupt)


def search(
    study: optuna.Study,
    context: StudyContext,
    storage: StudyStorage,
    slots: Sequence[Slot],
    n_trials: int,
    timeout: float | None,
    cluster: StudyCluster | None = None,
) -> None:
    """Bring the study to `n_trials` finished trials of its own, or as far as `timeout` seconds go.

    No trial begins after the timeout; those running at that time are finished. A trial whose
    worker is killed is queued again at once, with its parameters. Trials that run on other machines
    count; two machines that begin a trial at the same moment may exceed the number by one. With a
    cluster each slot is a thread that waits for folds of one trial.
    """
    start = time.monotonic()
    reported = {trial.number for trial in _ended(study)}
    running: set[str] = set()

    def jobs() -> Iterator[TrialJob]:
        # Counted anew each time: other machines may work on the same study.
        while _n_begun(study, running) < n_trials and (
            timeout is None or time.monotonic() - start < timeout
        ):
            job = TrialJob(context, storage, uuid.uuid4().hex)
            running.add(job.worker)
            yield job

    try:
        with _pool(study, slots, cluster) as workers:
            has_more = True
            # A round ends early by one trial for each worker that exited.
            while has_more and n_finished(study) < n_trials:
                has_more = False
                for done in workers.done(jobs()):
                    has_more = True
                    running.remove(done.job.worker)
                    if done.exit is not None:
                        console.print(f"a worker exited ({done.exit}); its trial is queued again")
                        retry(study, {done.job.worker})
                    _report_ended(study, context, reported, n_trials)
    except (KeyboardInterrupt, LostClusterError):
        retry(study, running)
        raise
    if n_others := _n_begun(study, running) - n_finished(study):
        console.print(f"{n_others} trials are still running in other processes")


def _n_begun(study: optuna.Study, running: Collection[str]) -> int:
    """Return how many trials are finished or running, here or in other processes."""
    others = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    n_others = sum(trial.user_attrs.get(WORKER) not in (None, *running) for trial in others)
    return n_finished(study) + len(running) + n_others


def retry(study: optuna.Study, workers: Collection[str] | None = None) -> None:
    """Queue the unfinished trials of workers that exited again; those of all workers if None.

    Optuna itself fails the trial of a process that is interrupted, but does not queue it again.
    """
    storage = study._storage
    assert isinstance(storage, RDBStorage | optuna.storages._CachedStorage)
    callback = storage.get_heartbeat_stale_trial_callback()
    states = (TrialState.RUNNING,) if workers is None else (TrialState.RUNNING, TrialState.FAIL)
    for trial in study.get_trials(deepcopy=False, states=states):
        if workers is None or trial.user_attrs.get(WORKER) in workers:
            if trial.state == TrialState.RUNNING:
                storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            if callback:
                callback(study, trial)


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def _report_ended(
    study: optuna.Study, context: StudyContext, reported: set[int], n_trials: int
) -> None:
    """Print a line for each trial that ended since the last call."""
    ended = _ended(study)
    best = next(iter(best_first(ended, context.metric.greater_is_better)), None)
    for trial in ended:
        if trial.number not in reported:
            reported.add(trial.number)
            console.print(f"{n_finished(study)}/{n_trials} {line_of(trial, best)}")


def line_of(trial: FrozenTrial, best: FrozenTrial | None) -> str:
    """Return how a trial ended, how long it took, and the best score so far."""
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    so_far = f", best {as_text(value_of(best))} (trial {best.number})" if best else ""
    return f"trial {trial.number}: {_outcome(trial)}, {seconds:.0f} s{so_far}"


def _outcome(trial: FrozenTrial) -> str:
    if trial.state == TrialState.COMPLETE:
        return f"score {as_text(value_of(trial))}"
    if verdict := trial.user_attrs.get(STOPPED):
        return (
            f"pruned after {verdict['n_rows']:,} rows: {as_text(verdict['deficit'])} worse than "
            f"trial {verdict['incumbent']} (limit {as_text(verdict['boundary'])})"
        )
    if reason := trial.user_attrs.get(UNSCORED):
        return f"no score: {reason}"
    return "failed"
