"""`hbcomp.cross_validate`: what `hbcomp cv` does, from arrays or from a competition's folder."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from hbcomp.api.arrays import Labels, Rows, check_labels, check_rows, folder_of, keep_arrays
from hbcomp.api.result import Result, read_result
from hbcomp.crossval import cross_validate as crossval
from hbcomp.crossval.loop import AfterFold, go_on
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.setup import prepare
from hbcomp.system.command import as_library
from hbcomp.system.config import as_assignments
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.tracking.live import tracked

MetricName = str | Mapping[str, object]


@dataclass(frozen=True, eq=False)
class _Arrays:
    """Checked arrays and the metric that scores them."""

    train: Rows
    labels: Labels
    test: Rows | None
    metric: MetricName

    @property
    def fingerprint(self) -> str:
        """A hash of the rows, the labels and the metric."""
        parts = [self.train.fingerprint, self.labels.fingerprint, repr(self.metric)]
        return " ".join([*parts, self.test.fingerprint if self.test else "none"])


def cross_validate(
    X: Any,  # noqa: N803
    y: Any = None,
    X_test: Any = None,  # noqa: N803
    *,
    groups: Any = None,
    ids: Any = None,
    test_ids: Any = None,
    metric: MetricName | None = None,
    preset: str = "resnet",
    n_folds: int = 5,
    seeds: Sequence[int] = (0,),
    run: str | None = None,
    overrides: Mapping[str, object] | None = None,
    jobs: int | None = None,
    callback: AfterFold = go_on,
    track: str | None = None,
    force: bool = False,
    verbose: bool = True,
) -> Result:
    """Cross-validate a preset and return its result; the folder experiments/RUN keeps everything.

    `X` are signals of shape (n, t) or (n, c, t), NaN where there is no value, and `y` their labels
    of any kind. The rows of one of the `groups` are held out together. `metric` is a name, or a
    [metric] of competition.toml, and accuracy if it is left out. Instead of arrays, `X` may be the
    folder of a competition.toml, which says all of this. `overrides` change keys of the preset, as
    in `{"train.n_epochs": 3}`.

    The call continues where one with the same arguments was stopped. Without `run` the name is made
    of the preset and a hash of data and arguments, so that others get another run. `callback` is
    called with a `FoldDone` for every fold as soon as it is stored; if it raises, the training
    stops, and the folds are kept. `track` shows every epoch in a tracker: "tensorboard", "mlflow",
    "wandb" or "trackio".

    Messages are logged as `hbcomp`. A terminal or a notebook shows bars if `verbose`. Wrong input
    is an InputError, a ValueError.
    """
    given = {"y": y, "X_test": X_test, "groups": groups, "ids": ids, "test_ids": test_ids}
    options = {"folds.n_folds": n_folds, "folds.seeds": [*seeds], **(overrides or {})}
    arrays = None
    if isinstance(X, str | Path):
        others = [name for name, value in {**given, "metric": metric}.items() if value is not None]
        if others:
            raise InputError(f"{X}: its competition.toml says {', '.join(others)}; leave them out")
    else:
        arrays = _checked(X, given, metric or "accuracy")
    name = run or _name(preset, options, arrays.fingerprint if arrays else str(X))
    folder = find_run(name)
    options["data.competition"] = str(folder_of(folder) if arrays else X)
    with as_library(has_bars=verbose):
        request = prepare(preset, as_assignments(options), name)
        with tracked(folder, track), _kept(folder, arrays, force=force):
            crossval.run(
                request,
                Stopwatch(),
                n_jobs=jobs,
                force=force,
                has_profile=False,
                after_fold=callback,
            )
    return read_result(folder, arrays.labels.values if arrays else None)


def _checked(X: Any, given: Mapping[str, Any], metric: MetricName) -> _Arrays:  # noqa: N803
    train = check_rows(X, given["ids"], given["groups"])
    test = None
    if given["X_test"] is not None:
        test = check_rows(given["X_test"], given["test_ids"], None, "X_test")
    return _Arrays(train, check_labels(given["y"], len(train.ids)), test, metric)


def _name(preset: str, options: Mapping[str, object], data: str) -> str:
    text = repr((sorted(options.items()), data))
    return f"{preset.rpartition('/')[2]}-{xxhash.xxh3_64_hexdigest(text.encode())[:8]}"


@contextmanager
def _kept(run: RunFolder, arrays: _Arrays | None, *, force: bool) -> Iterator[None]:
    """Write the arrays of a run; they go if wrong input ends the block before the run has begun."""
    if arrays is None:
        yield
        return
    keep_arrays(run, arrays.train, arrays.labels, arrays.test, arrays.metric, force=force)
    try:
        yield
    except InputError:
        if not run.run_file.exists():
            shutil.rmtree(folder_of(run))
            with suppress(OSError):  # something else is in there
                run.path.rmdir()
        raise
