"""What a person sees while folds train: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@dataclass(frozen=True)
class FoldProgress:
    """One epoch of one fold has ended; `score` is abs-sum per 20k (rule half) where measured."""

    seed: int
    fold: int
    epoch: int
    n_epochs: int
    loss: float
    score: float | None

    @property
    def is_last(self) -> bool:
        """Whether the fold has been trained to its end."""
        return self.epoch == self.n_epochs


Emit = Callable[[FoldProgress], None]


@contextmanager
def show_folds(console: Console, n_folds: int, n_epochs: int) -> Iterator[Emit]:
    """Yield a function that shows the progress of `n_folds` folds of `n_epochs` epochs each."""
    if console.is_terminal:
        with _bars(console) as progress:
            yield _BarDisplay(progress, n_folds, n_epochs).show
    else:
        yield _LineDisplay(console, n_folds * n_epochs).show


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


class _BarDisplay:
    """A bar for all epochs of all folds, and one for each fold that has begun."""

    def __init__(self, progress: Progress, n_folds: int, n_epochs: int) -> None:
        self._progress = progress
        self._all = progress.add_task("all folds", total=n_folds * n_epochs, numbers="epochs")
        self._fold: dict[tuple[int, int], TaskID] = {}

    def show(self, event: FoldProgress) -> None:
        key = (event.seed, event.fold)
        if key not in self._fold:
            self._fold[key] = self._progress.add_task(
                f"seed {event.seed} fold {event.fold}", total=event.n_epochs, numbers=""
            )
        task = self._fold[key]
        known: dict[str, str] = self._progress.tasks[self._progress.task_ids.index(task)].fields
        score = f"score {event.score:.0f}" if event.score is not None else known.get("score", "")
        self._progress.update(
            task, completed=event.epoch, numbers=f"loss {event.loss:.4f}  {score}", score=score
        )
        self._progress.advance(self._all)


class _LineDisplay:
    """A line at each scored epoch, with the time left."""

    def __init__(self, console: Console, n_epochs_in_all: int) -> None:
        self._console = console
        self._n_done = 0
        self._n_epochs = n_epochs_in_all
        self._start = time.monotonic()

    def show(self, event: FoldProgress) -> None:
        self._n_done += 1
        if event.score is None:
            return
        elapsed = time.monotonic() - self._start
        left = elapsed / self._n_done * (self._n_epochs - self._n_done)
        self._console.print(
            f"seed {event.seed} fold {event.fold} epoch {event.epoch}/{event.n_epochs} "
            f"loss {event.loss:.4f} score {event.score:.1f} per 20k, "
            f"{elapsed:.0f} s, {left:.0f} s left"
        )
