"""The notebook and the examples of its page run from top to bottom, in an empty folder."""

import json
import logging
import re
from pathlib import Path

from notebook_rows import make_arrays

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOK = DOCS / "your_competition.ipynb"


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


def test_the_examples_of_the_page_run_in_their_order(here, capsys):
    signals, labels, of_test, _ = make_arrays()
    names = {"X": signals, "y": labels, "X_test": of_test}
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / "notebooks.md").read_text(), re.M | re.S)
    assert len(blocks) == 5
    for block in blocks:
        exec(block, names)
    assert names["path"].read_text().count("\n") == len(of_test) + 1
    assert "5/5: " in capsys.readouterr().out


def test_the_page_counts_the_names():
    import hbcomp

    n_names = len([name for name in hbcomp.__all__ if name != "__version__"])
    words = ("six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    page = (DOCS / "notebooks.md").read_text()
    assert f"`import hbcomp` gives {words[n_names - 6]} names" in page
