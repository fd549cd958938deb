"""Pages: escaped, self-contained, the same bytes for the same sections, and never half-written."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path, PurePath

import numpy as np
import pytest

from hbcomp.reporting import pages
from hbcomp.reporting.figures import data as data_figures
from hbcomp.reporting.figures import style
from hbcomp.system import files

HOSTILE = "<script>alert('x')</script>\"&"


def a_picture(name: str = "counts", caption: str = "How many.", alt: str = "") -> pages.Picture:
    figure = data_figures.label_counts(np.array([0, 0, 1]))
    return pages.Picture(name, figure, caption, alt)


def some_sections(text: str = "plain") -> list[pages.Section]:
    return [
        pages.Text(f"{text}\n\nsecond", text),
        pages.Table(text, ["name", text], [[text, 1], ["b", 2.5]], text),
        a_picture(caption=text, alt=text),
    ]


class Tags(HTMLParser):
    """Collects the tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_text_from_data_is_escaped_everywhere() -> None:
    html = pages.render_page(HOSTILE, HOSTILE, some_sections(HOSTILE))
    page = Tags(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert [attrs["alt"] for tag, attrs in page.tags if tag == "img"] == [HOSTILE]
    # title, h1, subtitle, heading, paragraph, table title, header, cell, note, caption
    assert page.texts.count(HOSTILE) == 10


def test_a_page_fetches_nothing() -> None:
    html = pages.render_page("a", "b", some_sections())
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r"base64,[^\"]*", "", html))
    page = Tags(html)
    assert not {"link", "script", "iframe", "object"} & {tag for tag, _ in page.tags}
    sources = [attrs["src"] or "" for _, attrs in page.tags if "src" in attrs]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_equal_sections_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        pages.write_page(tmp_path / name, "title", "subtitle", some_sections())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_page_shows_the_bytes_and_the_size_of_the_written_pictures(tmp_path: Path) -> None:
    picture = a_picture()
    pages.write_pictures(tmp_path / "pictures", [picture])
    png = (tmp_path / "pictures" / "counts.png").read_bytes()
    html = pages.render_page("a", "", [picture])
    image = next(attrs for tag, attrs in Tags(html).tags if tag == "img")
    assert base64.b64decode((image["src"] or "").partition(",")[2]) == png
    inches = picture.figure.get_size_inches()
    shown = (int(image["width"] or 0), int(image["height"] or 0))
    assert shown == tuple((inches * style.DPI).astype(int))


def test_without_alt_the_caption_stands_in() -> None:
    html = pages.render_page("a", "", [a_picture(caption="Counts per class.")])
    assert 'alt="Counts per class."' in html


def test_a_failed_write_leaves_the_old_page_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "index.html"
    pages.write_page(page, "old", "", [])
    before = page.read_bytes()

    def fail(path: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files, "sync", fail)
    with pytest.raises(OSError, match="disk full"):
        pages.write_page(page, "new", "", some_sections())
    with pytest.raises(OSError, match="disk full"):
        pages.write_pictures(tmp_path, [a_picture()])
    assert page.read_bytes() == before
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize(
    ("cells", "is_numeric"),
    [
        (["1", "2,345.6"], True),
        (["-0.5", "+3", "1e-05"], True),
        (["64.3 %", "-"], True),
        ([1, 2.5], True),
        (["", "3"], True),
        (["0.1/0.9", "3"], False),
        (["class 1", "3"], False),
        (["1-0"], False),
    ],
)
def test_only_columns_of_numbers_are_set_to_the_right(
    cells: list[object], is_numeric: bool
) -> None:
    table = pages.Table("t", ["a"], [[cell] for cell in cells])
    assert table.is_numeric == [is_numeric]
    assert pages.render_page("a", "", [table]).count(' class="number"') == is_numeric * (
        1 + len(cells)
    )


def test_a_table_without_rows_can_be_shown() -> None:
    assert "<th>a</th>" in pages.render_page("a", "", [pages.Table("t", ["a"], [])])


def test_every_table_can_scroll_by_itself() -> None:
    html = pages.render_page("a", "", [pages.Table("t", ["a"] * 40, [["1"] * 40])])
    assert re.search(r'<div class="scroll"[^>]*>\s*<table class="dense">', html)
    assert ".scroll { overflow-x: auto; }" in html


def test_a_row_of_another_length_than_the_header_is_refused() -> None:
    message = "table 't': each row must have 2 cells, as the header has, but row 2 has 1"
    with pytest.raises(ValueError, match=message):
        pages.Table("t", ["a", "b"], [["1", "2"], ["1"]])


@pytest.mark.parametrize("name", ["../up", "", "A b", "a/b", ".hidden"])
def test_a_picture_name_that_is_no_plain_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="because it names a file, but got"):
        a_picture(name=name)


def test_the_only_script_that_may_run_is_the_one_of_the_policys_hash() -> None:
    html = pages.render_page("a", "b", [pages.Table(HOSTILE, ["a"], [[HOSTILE]], is_sortable=True)])
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (attrs["content"] for _, attrs in Tags(html).tags if "http-equiv" in attrs)
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    assert not re.search(r"https?:|//|@import|url\(", html)


def test_a_link_is_a_path_whatever_its_name() -> None:
    link = pages.Link(HOSTILE, PurePath("a:b?c#d") / "report.html")
    html = pages.render_page("a", "", [pages.Table("t", ["a"], [[link]])])
    (href,) = (attrs["href"] for tag, attrs in Tags(html).tags if tag == "a")
    assert href == "a%3Ab%3Fc%23d/report.html"
    assert HOSTILE in Tags(html).texts
