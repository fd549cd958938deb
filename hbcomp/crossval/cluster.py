"""Folds trained by the workers of a Dask cluster, which share no folder with this process.

The rows are sent to every worker once. A fold comes back as the bytes of its files, and only this
process writes them, after it has checked their manifest. Dask gives the fold of a lost worker to
another one.
"""

import atexit
import logging
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
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
from hbcomp.system.errors import InputError
from hbcomp.system.progress import Emit, FoldProgress
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute, ComputeConfig, choose_compute

LOCAL = "local:"
SECONDS_TO_CONNECT = 20
SAME_VERSIONS = ("hbcomp", "torch", "numpy")  # others could change the bits, or what is sent
GPU = "GPU"  # a resource of workers: `dask worker --resources GPU=1` trains one net at a time

_training = threading.Lock()  # a worker may run several tasks, but torch's seed is of the process


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
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    scheduler: Any = address
    if address.startswith(LOCAL):
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
    choose: Any = client.submit(
        choose_compute, fixed, is_compute_bound=is_compute_bound, pure=False
    )
    compute: Compute = choose.result()
    return replace(compute, models_per_process=1), len(client.scheduler_info(-1)["workers"])


def train_on_cluster(
    address: str,
    groups: Sequence[list[FoldTask]],
    seen_by: Callable[[int, Fold], TrainingData],
    run: RunFolder,
    emit: Emit,
    watch: Stopwatch,
) -> Iterator[list[FoldTask]]:
    """Train groups of folds on the workers, store each as it arrives, and yield it then."""
    client = connect(address)
    with _errors_as_input_error(address), _relayed(client, emit) as topic:
        sent: dict[TrainingData, Any] = {}  # not by id(), which another may have later
        group_of = {}
        for group in groups:
            seen = seen_by(group[0].seed, group[0].fold)
            if seen not in sent:  # all folds see the same rows, unless they have features
                with watch.phase("transfer"):
                    [sent[seen]] = client.scatter([_in_memory(seen)], broadcast=True, hash=False)
            needs = {GPU: 1} if _has_gpus(client) else None
            future = client.submit(
                _train_remotely, group, sent[seen], topic, pure=False, resources=needs
            )
            group_of[future] = group
        for future in _dask().as_completed(list(group_of), loop=client.loop):
            folds, seconds = future.result()
            watch.add(seconds)
            with watch.phase("write"):
                for task, files in zip(group_of[future], folds, strict=True):
                    stored_folds.write_files(run, task.seed, task.fold, files)
            yield group_of[future]


def _has_gpus(client: Any) -> bool:
    workers = client.scheduler_info(-1)["workers"].values()
    return any(GPU in each["resources"] for each in workers)


def _in_memory(training_data: TrainingData) -> TrainingData:
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

    with _training, tempfile.TemporaryDirectory(prefix="hbcomp-") as folder:
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
def _errors_as_input_error(address: str) -> Iterator[None]:
    """Raise an InputError in one line where the cluster is lost; finished folds are stored."""
    dask = _dask()
    kept = "finished folds are kept, and the same command continues"
    try:
        yield
    except dask.KilledWorker as error:
        raise InputError(
            f"compute.cluster: {error.allowed_failures + 1} workers were lost with the same fold, "
            f"probably for lack of memory; {kept}"
        ) from None
    except (CancelledError, OSError, TimeoutError) as error:
        if isinstance(error, OSError) and error.filename:
            raise  # of a file here
        raise InputError(f"compute.cluster: {address} was lost ({error}); {kept}") from None
