"""The database of studies, and which of them may be continued.

A study is bound to its search space and to what its trials were measured on. Under another space
it gets a successor, `NAME v2`, that takes over the trials which still fit; nothing is ever removed
or rewritten.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection, StudySummary
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError, SQLAlchemyError

from hbcomp.experiment.folder import RunFolder
from hbcomp.system.errors import InputError
from hbcomp.tuning.search_space import Params, Space

# Seconds. Assumed: a heartbeat is one short write and a trial takes minutes, so two minutes of
# waiting cost little; a process that misses four heartbeats has exited and is not merely slow.
HEARTBEAT_INTERVAL = 30
GRACE_PERIOD = 120
# Assumed: a machine is preempted twice at most; a trial whose process exits a third time is itself
# the cause, for example by the memory it needs.
MAX_RETRIES = 2
# Seconds that SQLite waits for another process's lock; its default of 5 can pass on a busy disk.
# Assumed, below the grace period, so that a heartbeat that waits is not counted as missed.
BUSY_TIMEOUT = 60
# Optuna's default: trials drawn at random before its model is trusted.
N_STARTUP_TRIALS = 10

BOUND_TO = "bound_to"  # user attribute of a study: its version, space and binding
WARM_START = "warm_start"  # user attribute of a trial: the study and number it was taken from


def storage_file(run: RunFolder) -> Path:
    """Return the database of a run's studies, unless another is named by its URL."""
    return run.path / "studies.db"


def open_storage(url: str | None, run: RunFolder, *, has_heartbeat: bool = True) -> RDBStorage:
    """Return the database of a run's studies: `studies.db` in its folder, or another by its URL.

    The first opening makes the tables: open it once before several workers do. One that cannot be
    opened is an InputError without its password. Without a heartbeat, which trials of milliseconds
    do not need, a trial whose process exited stays unfinished.
    """
    # The command itself reports failed trials.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url is None:
        run.path.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{storage_file(run)}"
    location = _parsed(url)
    is_sqlite = location.get_backend_name() == "sqlite"
    if is_sqlite and location.database in (None, "", ":memory:"):
        raise InputError(
            f"{location}: a study in memory would be lost; name a file as sqlite:///FILE"
        )
    # A server may drop a connection during a long trial; asking first finds out and reconnects.
    options = {"connect_args": {"timeout": BUSY_TIMEOUT}} if is_sqlite else {"pool_pre_ping": True}
    try:
        with _experimental():
            return RDBStorage(
                url.replace("{", "{{").replace("}", "}}"),  # Optuna takes it for a template
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT_INTERVAL if has_heartbeat else None,
                grace_period=GRACE_PERIOD if has_heartbeat else None,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MAX_RETRIES),
            )
    except ImportError as error:
        reason = f"needs a database driver that is not installed: {error.__cause__ or error}"
    except (SQLAlchemyError, StorageInternalError, RuntimeError, TypeError, ValueError) as error:
        reason = f"cannot be used for studies: {_first_line(error)}"
    # Without its options: they may hold a password too.
    raise InputError(f"{location.set(query={})}: {_without_password(reason, location)}")


@contextmanager
def usable(url: str | None, run: RunFolder) -> Iterator[None]:
    """Explain in one line why a study cannot be used: a full disk, a lost connection, damage."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        driver = error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
        if isinstance(driver, DatabaseError) and not isinstance(driver, OperationalError):
            raise _damaged(url, run, _first_line(driver)) from error
        raise InputError(
            f"the study cannot be written: {_first_line(driver)}; finished trials are kept, and "
            "the same command continues once that is mended"
        ) from error


@contextmanager
def readable(url: str | None, run: RunFolder) -> Iterator[None]:
    """Refuse a database whose tables do not hold what Optuna and hbcomp write; only for reading."""
    try:
        with usable(url, run):
            yield
    except InputError:
        raise
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _damaged(url, run, repr(error)) from error


def _damaged(url: str | None, run: RunFolder, reason: str) -> InputError:
    if url is None:
        return InputError(
            f"{storage_file(run)}: damaged: {reason}; restore it, or move it away to start again"
        )
    location = _parsed(url)
    return InputError(f"{location.set(query={})}: damaged: {_without_password(reason, location)}")


def open_study(
    storage: RDBStorage,
    name: str,
    space: Space,
    binding: Mapping[str, str],
    seed: int,
    *,
    greater_is_better: bool = False,
    n_workers: int = 1,
    is_fresh: bool = False,
    params_in: Callable[[FrozenTrial], Params | None] | None = None,
) -> optuna.Study:
    """Return the study of that name for this space and binding, continued or new.

    The newest version of both is continued. Under another space a new version takes over the
    finished trials that fit from the newest one of the same binding: those for which `params_in`
    returns parameters of the new space, by default those whose own parameters fit. Under another
    binding it is refused with what changed; with `is_fresh` a new version starts with nothing.
    """
    versions = [] if is_fresh else _versions(storage, name)
    bound_to = {"space": space.fingerprint, "binding": dict(binding)}
    for version in versions:
        if version.user_attrs[BOUND_TO].items() >= bound_to.items():
            return join_study(storage, version.study_name, seed, n_workers=n_workers)
    related = [each for each in versions if each.user_attrs[BOUND_TO]["binding"] == dict(binding)]
    if versions and not related:
        changes = _changes(versions[0].user_attrs[BOUND_TO]["binding"], binding)
        raise InputError(
            f"study {versions[0].study_name!r} was measured on something else: "
            f"{'; '.join(changes)}; --name another study, or --fresh starts a new version"
        )
    fitting = params_in or (lambda trial: trial.params if space.fits(trial.params) else None)
    study_name = _add_version(storage, name, space, bound_to, related, fitting, greater_is_better)
    return join_study(storage, study_name, seed, n_workers=n_workers)


def join_study(storage: BaseStorage, study_name: str, seed: int, *, n_workers: int) -> optuna.Study:
    """Return a study that `open_study` opened, as each of `n_workers` workers needs it."""
    study = optuna.load_study(
        study_name=study_name, storage=storage, pruner=optuna.pruners.NopPruner()
    )
    version = study.user_attrs[BOUND_TO]["version"]
    study.sampler = StudySampler((seed, version), is_parallel=n_workers > 1)
    return study


def n_finished(study: optuna.Study) -> int:
    """Return how many of the study's own trials ended, complete or pruned."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return sum(WARM_START not in trial.user_attrs for trial in finished)


def reap(study: optuna.Study) -> None:
    """Fail the trials of processes that exited, and queue each once more with its parameters.

    A process counts as exited after `GRACE_PERIOD` seconds without a heartbeat. `study.optimize`
    does this before each trial, too.
    """
    with _experimental():
        optuna.storages.fail_stale_trials(study)


class StudySampler(optuna.samplers.TPESampler):
    """TPE whose random stream is made anew for each trial from the seed and the trial's number.

    So a study that was stopped and continued suggests what an uninterrupted one does, and workers
    draw from different streams without communicating. Threads must not share such a study.
    """

    def __init__(self, seed: Sequence[int], *, is_parallel: bool) -> None:
        self._seed = seed
        self._is_parallel = is_parallel
        self._start_stream(0)

    def _start_stream(self, number: int) -> None:
        words = np.random.SeedSequence([*self._seed, number]).generate_state(1)
        with _experimental():
            super().__init__(
                seed=int(words[0]),
                n_startup_trials=N_STARTUP_TRIALS,
                # Learning rate, batch and epochs depend on each other.
                multivariate=True,
                # Conditional paths stay in the joint model of the trials that have them.
                group=True,
                # One worker draws while no trial runs, and a trial left over is not a bad one.
                constant_liar=self._is_parallel,
            )

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Start the random stream of this trial."""
        self._start_stream(trial.number)
        super().before_trial(study, trial)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # Nothing of it is shown: without knowing its parts, any may be the password.
        raise InputError(
            "--storage must be a database URL like sqlite:///studies.db or "
            "postgresql+psycopg://user:password@host/database"
        ) from None


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def _without_password(message: str, location: URL) -> str:
    return message.replace(str(location.password), "***") if location.password else message


@contextmanager
def _experimental() -> Iterator[None]:
    """Use a part of Optuna that may still change; the tests of this module would notice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _version_names(storage: RDBStorage, name: str) -> dict[int, StudySummary]:
    """Return the studies that are versions of `name`, by number, whoever made them."""
    pattern = re.compile(rf"{re.escape(name)}(?: v(\d+))?")
    summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
    matches = [(pattern.fullmatch(each.study_name), each) for each in summaries]
    return {int(match[1] or 1): each for match, each in matches if match}


def _versions(storage: RDBStorage, name: str) -> list[StudySummary]:
    """Return the versions of a study, the newest first; an incomplete one does not count."""
    numbered = sorted(_version_names(storage, name).items(), reverse=True)
    return [each for _, each in numbered if BOUND_TO in each.user_attrs]


def _changes(stored: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    return [
        f"{key} has changed"
        if key == "train data"  # two fingerprints would tell the user nothing
        else f"{key} was {stored.get(key, 'absent')!r}, now {wanted.get(key, 'absent')!r}"
        for key in sorted({*stored, *wanted})
        if stored.get(key) != wanted.get(key)
    ]


def _add_version(
    storage: RDBStorage,
    name: str,
    space: Space,
    bound_to: Mapping[str, Any],
    related: Sequence[StudySummary],
    params_in: Callable[[FrozenTrial], Params | None],
    greater_is_better: bool,
) -> str:
    """Make the next version of a study, with the trials of the newest related one; return its name.

    The version counts only once its last attribute is written, so one whose process exited before
    is passed over.
    """
    number = max(_version_names(storage, name), default=0) + 1
    study_name = name if number == 1 else f"{name} v{number}"
    try:
        direction = StudyDirection.MAXIMIZE if greater_is_better else StudyDirection.MINIMIZE
        study = optuna.create_study(storage=storage, study_name=study_name, direction=direction)
    except DuplicatedStudyError:
        raise InputError(
            f"another process is opening study {study_name!r}; give the command again"
        ) from None
    for older in related[:1]:
        whole = optuna.load_study(study_name=older.study_name, storage=storage)
        _take_over(whole, study, space, params_in)
    study.set_user_attr(BOUND_TO, {"version": number, **bound_to})
    return study_name


def _take_over(
    older: optuna.Study,
    study: optuna.Study,
    space: Space,
    params_in: Callable[[FrozenTrial], Params | None],
) -> None:
    """Add the complete trials that fit, each marked with where it was measured first.

    Pruned ones are left: what they were compared with is not in the new study.
    """
    for trial in older.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        params = params_in(trial)
        if params is not None:
            origin = {"study": older.study_name, "trial": trial.number}
            study.add_trial(
                optuna.trial.create_trial(
                    value=trial.value,
                    params=dict(params),
                    distributions=space.distributions_of(params),
                    user_attrs={WARM_START: origin, **trial.user_attrs},
                )
            )
