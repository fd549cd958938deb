"""A run in a tracker while it trains."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from queue import SimpleQueue
from threading import Thread
from typing import Final

from hbcomp.experiment.folder import RunFolder
from hbcomp.system.command import console
from hbcomp.system.errors import InputError
from hbcomp.system.progress import FoldProgress, also_emitting
from hbcomp.tracking.sender import Sender
from hbcomp.tracking.trackers import check_installed

SECONDS_TO_END: Final = 60.0  # assumed: of a server that answers at all


@contextmanager
def tracked(run: RunFolder, to: str | None) -> Iterator[None]:
    """Send every epoch that ends within the block to a tracker, then the score.

    A thread sends, so training never waits for a tracker, and one that fails ends with a warning.
    Without a tracker nothing is sent; one that is not installed is an InputError.
    """
    if to is None:
        yield
        return
    check_installed(to)
    follower = _Follower(run, to)
    # What trackers say is for people; in a notebook it may stand where the rest does.
    with nullcontext() if console.is_library else redirect_stdout(sys.stderr):
        follower.start()
        try:
            with also_emitting(follower.events.put):
                yield
            follower.is_finished = True
        finally:
            follower.end()


class _Follower(Thread):
    """Waits for events, and sends them in order."""

    def __init__(self, run: RunFolder, to: str) -> None:
        super().__init__(daemon=True)  # so that one that hangs cannot keep the process
        self._run, self._to = run, to
        self.events: SimpleQueue[FoldProgress | None] = SimpleQueue()
        self.is_finished = False  # the run, once there are no more events

    def run(self) -> None:
        """Send, until there are no more events or the tracker fails."""
        try:
            self._send()
        except (InputError, OSError) as error:  # OSError: a full disk
            self._warn(str(error))

    def _send(self) -> None:
        event = self.events.get()
        if event is None and not self.is_finished:
            return  # nothing has been trained
        # Not before: only now the folder has the configuration of these folds, and no other folds.
        sender = Sender(self._run, self._to, None)
        sender.send_stored()
        while event:
            sender.send_epoch(event)
            event = self.events.get()
        sender.send_stored()  # of other processes, or what did not arrive
        sender.close(is_finished=self.is_finished)

    def end(self) -> None:
        """Wait until everything is sent."""
        self.events.put(None)
        self.join(SECONDS_TO_END)
        if self.is_alive():
            self._warn(f"{self._to}: no answer for {SECONDS_TO_END:.0f} s")

    def _warn(self, what: str) -> None:
        console.print(
            f"warning: {what}; tracking has ended, training has not: "
            f"`hbcomp track {self._run.name} --to {self._to}` sends what is missing"
        )
