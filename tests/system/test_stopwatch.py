import pytest

from hbcomp.system.stopwatch import PHASES, Stopwatch, duration


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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.42, "0.4 s"),
        (9.96, "10.0 s"),
        (17.2, "17 s"),
        (720.0, "12 min"),
        (11e3, "3.1 h"),
        (1e9, "11,574.1 days"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds, words):
    assert duration(seconds) == words
