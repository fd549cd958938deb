import json
from dataclasses import asdict

import pytest

from hbcomp.system import environment
from hbcomp.system.environment import machine


def test_a_machine_is_described_by_plain_values() -> None:
    about = asdict(machine())
    assert about["n_cores"] >= 1
    assert about["memory_gib"] > 0
    assert json.loads(json.dumps(about)) == about


def test_the_load_is_that_at_the_start_and_not_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 99.0, 99.0))
    assert machine().load_at_start == environment._LOAD_AT_START
