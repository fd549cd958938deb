"""A competition's own metric: a Python function with the signature of Kaggle's metric notebooks.

    def score(solution, submission, row_id_column_name, **params) -> float

Both tables have a row per signal and the columns of the submission file: classes as text for label
submissions, otherwise numbers, where the solution has 1 for the true class and 0 for others.
"""

import hashlib
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from hbcomp.scoring.metrics import MetricConfig, MetricSpec
from hbcomp.scoring.own_metric import OwnMetric
from hbcomp.system.errors import InputError, unreadable

ID: Final = "id"
LABEL: Final = "label"


def load_own_metric(spec: MetricSpec, *, is_trusted: bool) -> OwnMetric:
    """Return the function that `FILE.py:FUNCTION` names as a metric; its file is executed."""
    config, path = spec.config, spec.file
    assert path is not None  # it is one's own
    assert config.answers is not None  # competition.toml was checked
    is_here = path.resolve().is_relative_to(Path.cwd())
    if not is_trusted and not is_here:
        raise InputError(
            f"{path}: this metric is code from outside of the working directory, which is executed "
            "only with --trust"
        )
    if hash_of(path) != spec.sha256:
        raise InputError(
            f"{path}: this metric was changed after it scored; another metric needs a new run"
        )
    name = config.name.partition(":")[2]
    return OwnMetric(
        name=config.name,
        function=_as_score(_load(path, name), path, name, spec.classes, config),
        greater_is_better=bool(config.greater_is_better),
        answers=config.answers,
    )


def hash_of(path: Path) -> str:
    """Return the sha256 of a file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def _load(path: Path, name: str) -> Callable[..., Any]:
    try:
        found = runpy.run_path(str(path)).get(name)
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # whatever the user's file raises is about the user's file
        raise InputError(f"{path}: cannot be run: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise InputError(f"{path}: there is no function {name!r}")
    function: Callable[..., Any] = found
    return function


def _as_score(
    function: Callable[..., Any],
    path: Path,
    name: str,
    classes: Sequence[str],
    config: MetricConfig,
) -> Callable[[np.ndarray, np.ndarray], float]:
    def score(answers: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
        import pandas as pd

        ids = np.arange(len(labels))
        if config.answers == "labels":
            texts = np.array(classes, dtype=object)
            solution = pd.DataFrame({ID: ids, LABEL: texts[labels]})
            submission = pd.DataFrame({ID: ids, LABEL: texts[answers.argmax(axis=1)]})
        else:
            solution = pd.DataFrame(np.eye(len(classes))[labels], columns=list(classes))
            submission = pd.DataFrame(answers.astype(np.float64), columns=list(classes))
            solution.insert(0, ID, ids)
            submission.insert(0, ID, ids)
        try:
            value = float(function(solution, submission, ID, **config.params))
        except Exception as error:
            raise InputError(
                f"{path}: {name} failed on {len(labels):,} rows: {type(error).__name__}: {error}"
            ) from error
        if not np.isfinite(value):
            raise InputError(f"{path}: {name} must return a finite number, but returned {value}")
        return value

    return score
