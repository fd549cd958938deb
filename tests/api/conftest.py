"""The working directory of a notebook, where pictures are blank and blends are searched less."""

import pytest
from commands import BLANK, few_trials

from hbcomp.blending import methods
from hbcomp.reporting.figures import style


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style, "to_png", lambda _: BLANK)
    monkeypatch.setattr(methods, "N_TRIALS", methods.N_TRIALS)  # so that it is put back
    few_trials()
    return tmp_path
