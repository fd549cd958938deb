import json
import os

import pytest

from hbcomp.system.environment import machine

UNIX_ONLY = ("sysconf", "getloadavg", "sched_getaffinity")


def test_a_machine_without_the_functions_of_unix_is_described_by_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in UNIX_ONLY:
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")  # or joblib wonders why Linux lacks them
    about = machine()
    assert (about["memory_gib"], about["load_at_start"]) == (None, None)
    assert about["n_cores"] >= 1
    assert json.loads(json.dumps(about)) == about
