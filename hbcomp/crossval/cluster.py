"""Folds trained by the workers of a Dask cluster, which share no folder with this process.

The rows are sent to every worker once, the features of one fold to one worker. A fold comes back as
the bytes of its files, and only this process writes them, after it has checked their manifest. Dask
gives the fold of a lost worker to another one.
"""

import atexit
import logging
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from hbcomp.crossval.fold import FoldTask, errors_as_input_error, train_folds
from hbcomp.crossval.training_data import TrainingData
from hbcomp.data.dataset import Dataset
from hbcomp.experiment import stored_folds
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import Fold
from hbcomp.system.command import signals_blocked
from hbcomp.system.errors import InputError
from hbcomp.system.memory import keep_freed_memory
from hbcomp.system.progress import Emit, FoldProgress
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute, ComputeConfig, choose_compute

LOCAL = "local:"
SECONDS_TO_CONNECT = 20
SAME_VERSIONS = ("hbcomp", "torch", "numpy")  # others could change the bits, or what is sent
MAX_RETRIES = 3  # of a fold whose worker was lost, as Dask's own allowed-failures
GPU = "GPU"  # a resource of workers: `dask worker --resources GPU=1` trains one net at a time

_training = threading.Lock()  # a worker may run several tasks, but torch's seed is of the process


class LostClusterError(InputError):
    """The scheduler is gone, or data that only lost workers had."""


class LostWorkersError(InputError):
    """Several workers were lost one after another with the same fold."""


_client_of: dict[str, Any] = {}  # the connections of this process, by address


def connect(address: str) -> Any:
    """Return a Dask client of the scheduler at an address, or of workers here for `local:N`.

    The connection stays open until the process ends. Workers with other versions than this process,
    and a cluster without workers, are refused.
    """
    if address not in _client_of:
        client = _connect(address)
        if not _client_of:
            atexit.register(disconnect)
        _client_of[address] = client
    return _client_of[address]


def _connect(address: str) -> Any:
    dask = _dask()
    for name in ("distributed", "distributed.client"):  # Dask gives the second a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    scheduler: Any = address
    if address.startswith(LOCAL):
        with signals_blocked():
            scheduler = dask.LocalCluster(
                n_workers=int(address.removeprefix(LOCAL)),
                threads_per_worker=1,
                dashboard_address=":0",  # any free port: with None, Dask takes 8787 or warns
                silence_logs=logging.CRITICAL,
            )
    try:
        client = dask.Client(scheduler, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"compute.cluster: no scheduler answers at {address} ({error})") from None
    _check_versions(client.run(versions), address)
    return client


def disconnect() -> None:
    """End all connections, and the workers that were started here."""
    while _client_of:
        _, client = _client_of.popitem()
        if client.cluster is not None:
            client.cluster.close(timeout=5)
        client.close(timeout=5)


def _dask() -> Any:
    """Return the library, which has no types of its own."""
    try:
        return import_module("distributed")
    except ImportError:
        raise InputError("compute.cluster needs Dask: pip install 'hbcomp[cluster]'") from None


def versions() -> dict[str, str]:
    """Return the versions that must be the same everywhere."""
    return {name: metadata.version(name) for name in SAME_VERSIONS}


def _check_versions(version_of: dict[str, dict[str, str]], address: str) -> None:
    if not version_of:
        raise InputError(f"compute.cluster: {address} has no workers; start some: dask worker")
    own = versions()
    problems = [
        f"{worker} has {name} {theirs[name]}, here is {own[name]}"
        for worker, theirs in version_of.items()
        for name in SAME_VERSIONS
        if theirs[name] != own[name]
    ]
    if problems:
        raise InputError.of("compute.cluster", problems)


def compute_of_worker(
    config: ComputeConfig, began_with: Compute | None, *, is_compute_bound: bool
) -> tuple[Compute, int]:
    """Return with what a worker trains a net, and how many workers there are.

    A net has the threads that the run began with, or one, unless `compute.n_threads` says
    otherwise: the bits of a result must not depend on the cores of a worker.
    """
    client = connect(config.cluster)
    n_threads = config.n_threads or (began_with.n_threads if began_with else 1)
    fixed = config.model_copy(update={"n_threads": n_threads})
    needs, n_workers = _trainers(client)
    choose: Any = client.submit(
        choose_compute, fixed, is_compute_bound=is_compute_bound, pure=False, resources=needs
    )
    compute: Compute = choose.result()
    return replace(compute, models_per_process=1), n_workers


class ClusterCalls:
    """Calls of functions on workers that all hold the same data, which is sent to them once.

    Several threads may call at the same time. `kept` are what a lost cluster leaves, in words.
    """

    def __init__(self, address: str, data: Any, kept: str) -> None:
        self._address, self._kept = address, kept
        self._client = connect(address)
        with _errors_as_input_error(address, kept):
            self._needs, _ = _trainers(self._client)
            [self._data] = self._client.scatter([data], broadcast=True, hash=False)
        self._running: set[Any] = set()
        self._lock = threading.Lock()
        self._is_cancelled = False

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(data, *args)` from whichever worker is free."""
        try:
            with _errors_as_input_error(self._address, self._kept):
                future = self._submit(function, *args)
                try:
                    return future.result()
                finally:
                    self._running.discard(future)
        except LostClusterError:
            if self._is_cancelled:
                raise SystemExit from None
            raise

    def _submit(self, function: Callable[..., Any], *args: Any) -> Any:
        with self._lock:
            if self._is_cancelled:
                raise SystemExit
            future = self._client.submit(
                _alone, function, self._data, *args, pure=False, resources=self._needs
            )
            self._running.add(future)
            return future

    def cancel(self) -> None:
        """Let all calls, running and later ones, raise SystemExit, which ends their threads."""
        with self._lock:
            self._is_cancelled = True
            running = list(self._running)
        if self._client.status == "running":
            self._client.cancel(running)

    def on_every_worker(self, function: Callable[[], None]) -> None:
        """Call a function on every worker that is still there."""
        if self._client.status == "running":
            with suppress(OSError):
                self._client.run(function, on_error="ignore")


def _alone(function: Callable[..., Any], *args: Any) -> Any:
    with _training_alone():
        return function(*args)


@contextmanager
def _training_alone() -> Iterator[None]:
    """Let no other task of this worker train within the block.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_, so that every tensor that a step frees goes
    back to the system, which clears it for the next step: nets of 4,000 rows took twice as long.
    """
    with _training:
        keep_freed_memory()
        yield


def train_on_cluster(
    address: str,
    groups: Sequence[list[FoldTask]],
    seen_by: Callable[[int, Fold], TrainingData],
    run: RunFolder,
    emit: Emit,
    watch: Stopwatch,
) -> Iterator[list[FoldTask]]:
    """Train groups of folds on the workers, store each as it arrives, and yield it then.

    Features that one group alone sees are sent to one worker, and again if that is lost.
    """
    client = connect(address)
    seen_of = [seen_by(group[0].seed, group[0].fold) for group in groups]
    n_groups_of = Counter(seen_of)
    n_lost_of: Counter[int] = Counter()
    sent: dict[TrainingData, Any] = {}  # not by id(), which another may have later
    with _errors_as_input_error(address, "folds"), _relayed(client, emit) as topic:
        needs, _ = _trainers(client)

        def submit(place: int) -> Any:
            seen = seen_of[place]
            if seen not in sent:
                is_shared = n_groups_of[seen] > 1
                with watch.phase("transfer"):
                    [sent[seen]] = client.scatter(
                        [in_memory(seen)], broadcast=is_shared, hash=False
                    )
            return client.submit(
                _train_remotely, groups[place], sent[seen], topic, pure=False, resources=needs
            )

        place_of = {submit(place): place for place in range(len(groups))}
        arriving = _dask().as_completed(list(place_of), loop=client.loop)
        for future in arriving:
            place = place_of[future]
            is_shared = n_groups_of[seen_of[place]] > 1
            try:
                folds, seconds = future.result()
            except CancelledError:
                if is_shared or client.status != "running":
                    raise
                n_lost_of[place] += 1
                if n_lost_of[place] > MAX_RETRIES:
                    raise _lost_workers(n_lost_of[place], "folds") from None
                del sent[seen_of[place]]
                again = submit(place)
                place_of[again] = place
                arriving.add(again)
                continue
            if not is_shared:
                del sent[seen_of[place]]  # so that the worker frees it
            watch.add(seconds)
            with watch.phase("write"):
                for task, files in zip(groups[place], folds, strict=True):
                    stored_folds.write_files(run, task.seed, task.fold, files)
            yield groups[place]


def _trainers(client: Any) -> tuple[dict[str, float] | None, int]:
    """Return the resources that a net needs, and how many workers have them."""
    workers = client.scheduler_info(-1)["workers"].values()
    n_gpus = sum(GPU in each["resources"] for each in workers)
    return ({GPU: 1}, n_gpus) if n_gpus else (None, len(workers))


def in_memory(training_data: TrainingData) -> TrainingData:
    """Return the data with rows that a machine without this one's files can be sent."""
    train, test = training_data.train, training_data.test
    return replace(training_data, train=_copied(train), test=_copied(test) if test else None)


def _copied(dataset: Dataset) -> Dataset:
    return replace(dataset, signals=np.array(dataset.signals))


def _train_remotely(
    group: list[FoldTask], training_data: TrainingData, topic: str
) -> tuple[list[dict[str, bytes]], dict[str, float]]:
    """Train folds in a folder that is deleted again; return their files and the seconds."""
    worker, watch = _dask().get_worker(), Stopwatch()

    def emit(event: FoldProgress) -> None:
        worker.log_event(topic, {"progress": asdict(event)})

    with _training_alone(), tempfile.TemporaryDirectory(prefix="hbcomp-") as folder:
        run = RunFolder(Path(folder))
        with errors_as_input_error(group), watch.phase("transfer"):
            data = training_data.on_device(group[0].compute.device)
        train_folds(group, data, run, emit, watch)
        files = [stored_folds.read_files(run, task.seed, task.fold) for task in group]
    return files, watch.seconds


@contextmanager
def _relayed(client: Any, emit: Emit) -> Iterator[str]:
    """Yield a topic; the progress that workers log under it is passed on to `emit`."""
    topic = f"hbcomp-{uuid.uuid4().hex}"
    client.subscribe_topic(topic, lambda event: emit(FoldProgress(**event[1]["progress"])))
    try:
        yield topic
    finally:
        if client.status == "running":
            client.unsubscribe_topic(topic)


@contextmanager
def _errors_as_input_error(address: str, kept: str) -> Iterator[None]:
    """Raise an InputError in one line where the cluster is lost; finished folds are stored."""
    dask = _dask()
    try:
        yield
    except dask.KilledWorker as error:
        raise _lost_workers(error.allowed_failures + 1, kept) from None
    except (CancelledError, OSError, TimeoutError, dask.client.ClosedClientError) as error:
        if isinstance(error, OSError) and error.filename:
            raise  # of a file here
        # That of a cancelled task is a dump of Dask's state, and it always means the same.
        reason = "" if isinstance(error, CancelledError) else f" ({error})"
        raise LostClusterError(
            f"compute.cluster: {address} was lost{reason}; {_continues(kept)}"
        ) from None


def _lost_workers(n_lost: int, kept: str) -> LostWorkersError:
    return LostWorkersError(
        f"compute.cluster: {n_lost} workers were lost with the same fold, probably for lack of "
        f"memory; {_continues(kept)}"
    )


def _continues(kept: str) -> str:
    return f"finished {kept} are kept, and the same command continues"
