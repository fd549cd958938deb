"""The notebook runs from top to bottom, in an empty folder."""

import json
import os
import sys
from pathlib import Path

import pytest
from commands import few_trials, run_hbcomp

NOTEBOOK = Path(__file__).parents[1] / "docs/your_competition.ipynb"


def run_notebook(hbcomp=None):
    """Run every code cell in one namespace and return it; `hbcomp` replaces the notebook's own."""
    names: dict[str, object] = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # they would be those of another machine
            exec("".join(cell["source"]), names)
            if hbcomp and "hbcomp" in names:
                names["hbcomp"] = hbcomp
    return names


def check(names, folder):
    assert names["accuracy"] > 0.9
    assert (folder / "submissions/both.csv").read_text().count("\n") == 201


def test_the_notebook_goes_from_foreign_arrays_to_a_submission(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def hbcomp(*words):
        done = run_hbcomp(list(words), tmp_path, prepare=few_trials)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    check(run_notebook(hbcomp), tmp_path)


@pytest.mark.long("seven fresh interpreters and all pictures")
def test_the_notebook_runs_the_installed_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)
    check(run_notebook(), tmp_path)
