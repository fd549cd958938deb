"""Where the pages of experiments lie, and the links that lead from one to the others."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Final
from urllib.parse import urlencode

from hbcomp.reporting.pages import Link

INDEX: Final = "report.html"  # of the experiments' folder: the ranking
COMPARISONS: Final = "comparisons"  # the folder of the pages on two experiments
BETWEEN: Final = "~"  # the names of the two; no experiment's name holds it

# Below an experiment's folder.
PAGES: Final = {
    "report": Path("report.html"),
    "mistakes": Path("mistakes.html"),
    "search": Path("tuning", "tune.html"),
}


def links_from(page: Path, names: Sequence[str], root: Path) -> list[Link]:
    """Return the links at the top of a page about these experiments, which lie in `root`.

    They lead to the ranking and to every related page that exists now. A page is not written again
    when another one is added, so the last link opens the ranking filtered by the first name: that
    lists all pages of the experiment.
    """
    found = [each for name in names for each in pages_of(name, root) if root / each.path != page]
    index = Link("all experiments", PurePath(INDEX))
    all_pages = [
        Link(f"all pages of {name}", PurePath(INDEX), urlencode({"filter": name}))
        for name in names[:1]
    ]
    return [
        Link(each.text, PurePath(os.path.relpath(root / each.path, page.parent)), each.fragment)
        for each in dict.fromkeys([index, *found, *all_pages])
    ]


def pages_of(name: str, root: Path) -> list[Link]:
    """Return links, as seen from `root`, to the pages on an experiment that exist."""
    own = {f"{name}: {kind}": Path(name, page) for kind, page in PAGES.items()}
    links = [Link(text, path) for text, path in own.items() if (root / path).exists()]
    return links + [link for link in comparisons(root) if name in link.path.stem.split(BETWEEN)]


def comparisons(root: Path) -> list[Link]:
    """Return links, as seen from `root`, to all comparisons."""
    return [
        Link(" against ".join(path.stem.split(BETWEEN)), path.relative_to(root))
        for path in sorted((root / COMPARISONS).glob("*.html"))
    ]
