"""Every page leads to the ranking, and to the related pages that exist."""

from pathlib import Path

import pytest

from hbcomp.reporting.links import links_from

PAGES = [
    "a/report.html",
    "a/mistakes.html",
    "a/tuning/tune.html",
    "b/report.html",
    "comparisons/a~b.html",
    "comparisons/b~c.html",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for page in PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).touch()
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_links_are_right_from_where_the_page_lies(root: Path, page: str) -> None:
    index, *others, all_pages = links_from(root / page, ["a", "b"], root)
    found = {(root / page).parent.joinpath(link.path).resolve() for link in others}
    assert found == {root / each for each in PAGES} - {root / page}
    assert (root / page).parent.joinpath(index.path).resolve() == root / "report.html"
    assert all_pages.href == f"{index.href}#filter=a"


def test_pages_that_do_not_exist_and_those_of_others_are_not_linked(root: Path) -> None:
    (root / "a" / "mistakes.html").unlink()
    links = links_from(root / "a" / "report.html", ["a"], root)
    texts = [link.text for link in links]
    assert texts == ["all experiments", "a: search", "a against b", "all pages of a"]
