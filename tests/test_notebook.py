"""The notebook runs from top to bottom, in an empty folder."""

import json
import logging
from pathlib import Path

NOTEBOOK = Path(__file__).parents[1] / "docs/your_competition.ipynb"


def run_notebook():
    """Run every code cell in one namespace and return it."""
    names: dict[str, object] = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # they would be those of another machine
            exec("".join(cell["source"]), names)
    return names


def test_the_notebook_goes_from_arrays_to_a_submission_in_ten_cells(here, monkeypatch):
    assert len(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]) == 10
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    names = run_notebook()
    assert names["accuracy"] > 0.9
    assert (here / "submission.csv").read_text().count("\n") == 101
