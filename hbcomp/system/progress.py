"""The progress of folds: bars on a terminal and in a notebook, plain lines elsewhere."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread

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
    """An epoch of a fold has ended; `score`, if measured, is under the metric's fixed rule.

    With its last epoch come those that early stopping leaves out, `n_skipped`.
    """

    seed: int
    fold: int | str
    epoch: int
    n_epochs: int
    loss: float
    score: float | None
    n_skipped: int = 0
    lr: float | None = None
    watched_loss: float | None = None


Emit = Callable[[FoldProgress], None]
_others: list[Emit] = []  # what else gets the events that are shown


@contextmanager
def also_emitting(emit: Emit) -> Iterator[None]:
    """Give every event that is shown within the block to another function, too."""
    _others.append(emit)
    try:
        yield
    finally:
        _others.remove(emit)


@contextmanager
def show_folds(console: Console, n_epochs: int) -> Iterator[Emit]:
    """Yield a function that shows the progress of folds of `n_epochs` epochs in all."""
    is_screen = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets"))
    if is_screen and not console.quiet:
        with _bars(console) as progress:
            yield _to_all(_BarDisplay(progress, n_epochs).show)
    else:
        yield _to_all(_LineDisplay(console, n_epochs).show)


def _to_all(show: Emit) -> Emit:
    def emit(event: FoldProgress) -> None:
        for each in (show, *_others):
            each(event)

    return emit


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

    def __init__(self, progress: Progress, n_epochs: int) -> None:
        self._progress = progress
        self._all = progress.add_task("all folds", total=n_epochs, numbers="epochs")
        self._task: dict[tuple[int, int | str], TaskID] = {}
        self._score: dict[tuple[int, int | str], str] = {}  # the last one that was measured

    def show(self, event: FoldProgress) -> None:
        key = (event.seed, event.fold)
        if key not in self._task:
            self._task[key] = self._progress.add_task(
                f"seed {event.seed} fold {event.fold}", total=event.n_epochs, numbers=""
            )
        if event.score is not None:
            self._score[key] = f"score {event.score:,.6g}"
        numbers = f"loss {event.loss:.4f}  {self._score.get(key, '')}"
        if event.n_skipped:
            numbers += f"  stopped after {event.epoch}"
        n_done = 1 + event.n_skipped
        self._progress.update(
            self._task[key], completed=event.epoch + event.n_skipped, numbers=numbers
        )
        self._progress.advance(self._all, n_done)


class _LineDisplay:
    """A line at each scored epoch, or at each fifth if nothing is scored, with the time left."""

    def __init__(self, console: Console, n_epochs_in_all: int) -> None:
        self._console = console
        self._n_done = 0
        self._n_first = 0  # epochs before the clock of the time left
        self._n_epochs = n_epochs_in_all
        self._start = self._clock = time.monotonic()

    def show(self, event: FoldProgress) -> None:
        self._n_done += 1
        is_first = event.epoch == 1 < event.n_epochs and self._n_first == self._n_done - 1
        if is_first or self._n_done == 1:
            # The time before the first epoch of the folds that train at once, such as that of
            # imports, is spent once, and says nothing about the epochs to come.
            self._n_first, self._clock = self._n_done, time.monotonic()
        score = "" if event.score is None else f" score {event.score:,.6g}"
        self._n_epochs -= event.n_skipped
        if not (score or event.n_skipped or _is_milestone(event)):
            return
        stopped = ", stopped early" if event.n_skipped else ""
        now = time.monotonic()
        n_timed = self._n_done - self._n_first
        each = (now - self._clock) / n_timed if n_timed else 0.0
        left = f", {each * (self._n_epochs - self._n_done):.0f} s left" if n_timed else ""
        self._console.print(
            f"seed {event.seed} fold {event.fold} epoch {event.epoch}/{event.n_epochs} "
            f"loss {event.loss:.4f}{score}{stopped}, {now - self._start:.0f} s{left}"
        )


def _is_milestone(event: FoldProgress) -> bool:
    """Return whether another fifth of the epochs is over, for a net without held-out rows."""
    fifths = [5 * epoch // event.n_epochs for epoch in (event.epoch - 1, event.epoch)]
    return isinstance(event.fold, str) and fifths[0] < fifths[1]


@dataclass(frozen=True)
class Relay:
    """An `emit` for worker processes, to which it can be sent.

    Events go through a file that all workers append to. That needs no socket, and no process that
    could outlive its owner.
    """

    path: Path

    def emit(self, event: FoldProgress) -> None:
        """Append an event; one write call, so that lines of several workers do not mix.

        One that cannot be written, as on a full disk, is lost: no fold ends for it.
        """
        with suppress(OSError), self.path.open("a") as file:
            file.write(json.dumps(asdict(event)) + "\n")


@contextmanager
def relayed(emit: Emit) -> Iterator[Relay]:
    """Yield a relay for worker processes; a thread here passes its events on to `emit`."""
    with tempfile.TemporaryDirectory(prefix="hbcomp-") as name:
        relay = Relay(Path(name) / "events")
        relay.path.touch()
        is_over = Event()
        follower = Thread(target=_follow, args=(relay.path, emit, is_over))
        follower.start()
        try:
            yield relay
        finally:
            is_over.set()
            follower.join()


def _follow(path: Path, emit: Emit, is_over: Event) -> None:
    with path.open() as file:
        rest = ""
        while True:
            was_over = is_over.wait(0.1)  # seconds between two looks
            *lines, rest = (rest + file.read()).split("\n")
            for line in lines:
                if event := _event(line):
                    emit(event)
            if was_over:
                return


def _event(line: str) -> FoldProgress | None:
    try:
        return FoldProgress(**json.loads(line))
    except (ValueError, TypeError):
        return None  # a full disk cut the line off
