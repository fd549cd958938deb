"""The experiment trackers by name, behind one small interface; none is imported unless asked for.

A new one is a class and a line in `TRACKERS`.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from hbcomp.system.errors import InputError, check_name

PROJECT: Final = "hbcomp"
FOLDER: Final = Path("tracking")
Values = Mapping[str, float]


@runtime_checkable  # the tests check types as they run
class Tracker(Protocol):
    """One run in a tracker, begun with its name and its configuration, or continued by its `id`."""

    id: str

    def log(self, fold: str, epoch: int, values: Values) -> None:
        """Add the values of an epoch of a fold, whose epochs rise; folds may take turns."""

    def close(self, summary: Values) -> None:
        """Add the scores of a finished run, and end; without scores the run is unfinished."""


def check_installed(name: str) -> None:
    """Raise an InputError unless there is a tracker of that name, and it is installed."""
    check_name("the tracker", name, TRACKERS)
    try:
        is_there = find_spec(name) is not None
    except ValueError:  # a module without a spec, which is there
        is_there = True
    if not is_there:
        raise _not_installed(name)


def _needed(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise _not_installed(extra) from error


def _not_installed(extra: str) -> InputError:
    return InputError(f'{extra} is not installed: pip install "hbcomp[{extra}]"')


class TensorBoard:
    """A folder FOLDER/RUN with one of every fold; `tensorboard --logdir FOLDER` shows them.

    A fold is a run of TensorBoard, so that one picture of the loss has a line for each.
    """

    def __init__(
        self, name: str, config: Mapping[str, str], folder: Path | None, known: str | None
    ) -> None:
        _needed("tensorboard", "tensorboard")
        self._module = _needed("torch.utils.tensorboard", "tensorboard")
        self._config, place = dict(config), folder or FOLDER
        if known and (place / known).is_dir():
            self.id = known
        else:
            names = (name if number == 1 else f"{name}-{number}" for number in count(1))
            self.id = next(each for each in names if not (place / each).exists())
        self._folder = place / self.id
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writers: dict[str, Any] = {}

    def log(self, fold: str, epoch: int, values: Values) -> None:
        """Add scalars."""
        if fold not in self._writers:
            self._writers[fold] = self._module.SummaryWriter(str(self._folder / fold))
        for name, value in _below("epoch", values).items():
            self._writers[fold].add_scalar(name, value, epoch)
        self._writers[fold].flush()  # so that one can watch

    def close(self, summary: Values) -> None:
        """Add the scores, and a row to the table of hyper-parameters."""
        for writer in self._writers.values():
            writer.close()
        if summary:
            with self._module.SummaryWriter(str(self._folder)) as writer:
                writer.add_hparams(self._config, _below("result", summary), run_name=".")


class MLflow:
    """A run of the experiment hbcomp, in FOLDER or where MLFLOW_TRACKING_URI says.

    Every fold is a run below it, so that one chart of the loss has a line for each.
    """

    def __init__(
        self, name: str, config: Mapping[str, str], folder: Path | None, known: str | None
    ) -> None:
        self._module = _needed("mlflow", "mlflow")
        uri = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        # Not the functions of the module, which know one run at a time.
        self._client = self._module.MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(PROJECT)
        if experiment is None:
            kind = {"mlflow.experimentKind": "custom_model_development"}  # not language models
            self._experiment = self._client.create_experiment(PROJECT, tags=kind)
        else:
            self._experiment = experiment.experiment_id
        self._id_of_fold: dict[str, str] = {}
        if known and self._is_there(known):
            self.id = known
            below = f"tags.`mlflow.parentRunId` = '{known}'"
            for run in self._client.search_runs([self._experiment], below):
                self._id_of_fold[run.info.run_name] = run.info.run_id
            self._client.update_run(known, status="RUNNING")
        else:
            self.id = self._begin(name, {})
            params = [self._module.entities.Param(*each) for each in config.items()]
            self._client.log_batch(self.id, params=params)

    def _is_there(self, known: str) -> bool:
        """Return whether a run has not been deleted."""
        try:
            return bool(self._client.get_run(known).info.lifecycle_stage != "deleted")
        except self._module.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _begin(self, name: str, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(self._experiment, run_name=name, tags=dict(tags))
        return str(run.info.run_id)

    def log(self, fold: str, epoch: int, values: Values) -> None:
        """Add metrics to the run of the fold."""
        if fold not in self._id_of_fold:
            self._id_of_fold[fold] = self._begin(fold, {"mlflow.parentRunId": self.id})
        self._log(self._id_of_fold[fold], _below("epoch", values), epoch)

    def _log(self, run: str, values: Values, step: int) -> None:
        now = self._module.utils.time.get_current_time_millis()
        metric = self._module.entities.Metric
        metrics = [metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(run, metrics=metrics)

    def close(self, summary: Values) -> None:
        """Add the scores, and end the runs."""
        self._log(self.id, _below("result", summary), 0)
        for run in (*self._id_of_fold.values(), self.id):
            self._client.set_terminated(run, "FINISHED" if summary else "KILLED")


class WandB:
    """An offline run of the project hbcomp below FOLDER."""

    def __init__(
        self, name: str, config: Mapping[str, str], folder: Path | None, known: str | None
    ) -> None:
        place = folder or FOLDER
        place.mkdir(parents=True, exist_ok=True)
        self._run = _needed("wandb", "wandb").init(
            project=PROJECT,
            name=name,
            config=dict(config),
            dir=str(place),
            mode="offline",
            id=known,
            resume="allow",
        )
        self.id = str(self._run.id)
        self._run.define_metric("*", step_metric="epoch")  # its own steps must not fall

    def log(self, fold: str, epoch: int, values: Values) -> None:
        """Add a line of the history."""
        self._run.log({"epoch": epoch, **_of_fold(fold, values)})

    def close(self, summary: Values) -> None:
        """Add the scores to the summary, and finish."""
        self._run.summary.update(_below("result", summary))
        self._run.finish()


class Trackio:
    """A run of the project hbcomp, in FOLDER or where trackio keeps its own."""

    def __init__(
        self, name: str, config: Mapping[str, str], folder: Path | None, known: str | None
    ) -> None:
        if folder is not None:
            raise InputError("trackio keeps its files where TRACKIO_DIR says; leave out --folder")
        self._module = _needed("trackio", "trackio")
        resume = "allow" if known else "never"
        self._module.init(project=PROJECT, name=name, config=dict(config), resume=resume)
        self.id = name

    def log(self, fold: str, epoch: int, values: Values) -> None:
        """Add a line of the history."""
        self._module.log(_of_fold(fold, values), step=epoch)

    def close(self, summary: Values) -> None:
        """Add the scores as a last line, and finish."""
        if summary:
            self._module.log(_below("result", summary))
        self._module.finish()


def _below(group: str, values: Values) -> dict[str, float]:
    """Return values under the names by which the pages of all trackers group them."""
    return {f"{group}/{name}": value for name, value in values.items()}


def _of_fold(fold: str, values: Values) -> dict[str, float]:
    """Return values grouped by what was measured, where a fold is no run of its own."""
    return {f"{name}/{fold}": value for name, value in values.items()}


Opener = Callable[[str, Mapping[str, str], Path | None, str | None], Tracker]
TRACKERS: Mapping[str, Opener] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
    "trackio": Trackio,
}
