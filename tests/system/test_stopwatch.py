import pytest

from hbcomp.system.stopwatch import PHASES, Stopwatch


def test_phases_add_up_also_when_they_fail():
    watch = Stopwatch()
    with watch.phase("read"):
        pass
    first = watch.seconds["read"]
    with pytest.raises(ValueError, match="bad"), watch.phase("read"):
        raise ValueError("bad")
    assert watch.seconds["read"] > first > 0
    watch.add({"train": 2.0})
    watch.add({"train": 3.0})
    assert watch.seconds["train"] == 5
    assert tuple(watch.seconds) == PHASES
    assert 0 < watch.total() < 60


def test_an_unknown_phase_is_a_bug():
    with pytest.raises(KeyError), Stopwatch().phase("lunch"):
        pass
