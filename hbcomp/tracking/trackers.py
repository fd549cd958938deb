"""The experiment trackers by name, behind one small interface; none is imported unless asked for.

A new one is a class and a line in `TRACKERS`.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from hbcomp.system.errors import InputError

PROJECT: Final = "hbcomp"
FOLDER: Final = Path("tracking")
Values = Mapping[str, float]


@runtime_checkable  # the tests check types as they run
class Tracker(Protocol):
    """One run in a tracker, which has begun with its name and its configuration."""

    def log(self, step: int, values: Values) -> None:
        """Add the values of an epoch; steps never fall."""

    def close(self, summary: Values) -> None:
        """Add what is known at the end, and finish."""


def _needed(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f'{extra} is not installed: pip install "hbcomp[{extra}]"') from error


class TensorBoard:
    """Event files below FOLDER/RUN; `tensorboard --logdir FOLDER` shows them."""

    def __init__(self, name: str, config: Mapping[str, str], folder: Path | None) -> None:
        _needed("tensorboard", "tensorboard")
        module = _needed("torch.utils.tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str((folder or FOLDER) / name))
        rows = "\n".join(f"    {key} = {value}" for key, value in config.items())
        self._writer.add_text("configuration", rows)
        self._step = 0

    def log(self, step: int, values: Values) -> None:
        """Add scalars."""
        self._step = step
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, summary: Values) -> None:
        """Add the summary at the last step."""
        self.log(self._step, summary)
        self._writer.close()


class MLflow:
    """A run of the experiment hbcomp, in FOLDER or where MLFLOW_TRACKING_URI says."""

    def __init__(self, name: str, config: Mapping[str, str], folder: Path | None) -> None:
        self._module = _needed("mlflow", "mlflow")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._module.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        self._module.set_experiment(PROJECT)
        self._module.start_run(run_name=name)
        self._module.log_params(dict(config))

    def log(self, step: int, values: Values) -> None:
        """Add metrics."""
        self._module.log_metrics(dict(values), step=step)

    def close(self, summary: Values) -> None:
        """Add the summary, and end the run."""
        self._module.log_metrics(dict(summary))
        self._module.end_run()


class WandB:
    """An offline run of the project hbcomp below FOLDER."""

    def __init__(self, name: str, config: Mapping[str, str], folder: Path | None) -> None:
        place = folder or FOLDER
        place.mkdir(parents=True, exist_ok=True)
        self._run = _needed("wandb", "wandb").init(
            project=PROJECT, name=name, config=dict(config), dir=str(place), mode="offline"
        )

    def log(self, step: int, values: Values) -> None:
        """Add a line of the history."""
        self._run.log(dict(values), step=step)

    def close(self, summary: Values) -> None:
        """Add the summary, and finish."""
        self._run.summary.update(dict(summary))
        self._run.finish()


class Trackio:
    """A run of the project hbcomp, in FOLDER or where trackio keeps its own."""

    def __init__(self, name: str, config: Mapping[str, str], folder: Path | None) -> None:
        if folder is not None:
            raise InputError("trackio keeps its files where TRACKIO_DIR says; leave out --folder")
        self._module = _needed("trackio", "trackio")
        self._module.init(project=PROJECT, name=name, config=dict(config))

    def log(self, step: int, values: Values) -> None:
        """Add a line of the history."""
        self._module.log(dict(values), step=step)

    def close(self, summary: Values) -> None:
        """Add the summary as a last line, and finish."""
        self._module.log(dict(summary))
        self._module.finish()


Opener = Callable[[str, Mapping[str, str], Path | None], Tracker]
TRACKERS: Mapping[str, Opener] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
    "trackio": Trackio,
}
