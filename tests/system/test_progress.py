"""The lines of a run without a terminal: when they say how much time is left, and how much."""

import pytest

from hbcomp.system import progress
from hbcomp.system.command import console
from hbcomp.system.progress import FoldProgress, show_folds


def shown(monkeypatch, capsys, times, n_folds=2, n_epochs=4):
    """Return the lines of events (fold, epoch) by the time at which each came."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with show_folds(console, n_folds * n_epochs) as emit:
        for time, fold, epoch in times:
            now[0] = time
            emit(FoldProgress(0, fold, epoch, n_epochs, 0.5, 100.0))
    return capsys.readouterr().err.splitlines()


def test_what_comes_once_is_not_counted_on_for_every_epoch(monkeypatch, capsys):
    # 13 seconds until the first epoch, of which imports and the first step took 12.
    first, second, third, *_ = shown(monkeypatch, capsys, [(13, 0, 1), (14, 0, 2), (15, 0, 3)])
    assert first.endswith("13 s")
    assert second.endswith("14 s, 6 s left")
    assert third.endswith("15 s, 5 s left")


def test_folds_that_train_at_once_are_timed_from_the_last_first_epoch(monkeypatch, capsys):
    times = [(13, 0, 1), (13.1, 1, 1), (15.1, 0, 2), (15.1, 1, 2), (17.1, 0, 3), (17.1, 1, 3)]
    lines = shown(monkeypatch, capsys, times)
    assert ["left" in line for line in lines] == [False, False, True, True, True, True]
    assert lines[3].endswith("4 s left")  # four epochs, of which two end every two seconds
    assert lines[5].endswith("2 s left")


@pytest.mark.parametrize("n_epochs", [1, 2])
def test_the_last_epoch_of_all_leaves_nothing(monkeypatch, capsys, n_epochs):
    order = [(fold, epoch) for fold in (0, 1) for epoch in range(1, n_epochs + 1)]
    times = [(10.0 + place, *event) for place, event in enumerate(order)]
    assert shown(monkeypatch, capsys, times, n_epochs=n_epochs)[-1].endswith(", 0 s left")
