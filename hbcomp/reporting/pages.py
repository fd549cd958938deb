"""Text, tables and pictures: on web pages of one file that fetch nothing, and on a terminal.

The same sections give the same bytes, so a page changes only when what it shows does.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePath
from typing import ClassVar, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text as Styled

from hbcomp.reporting.figures import style
from hbcomp.system import files
from hbcomp.system.command import escape_control_chars

NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?( ?%| ± [\d.,]+)?|-|")
PICTURE_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
SCRIPT: Final = Path(__file__).parent / "templates" / "sortable.js"


@dataclass(frozen=True)
class Text:
    """Paragraphs of prose, separated by blank lines."""

    kind: ClassVar[str] = "text"
    text: str
    title: str = ""

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs, in their order."""
        return [part.strip() for part in re.split(r"\n\s*\n", self.text) if part.strip()]


@dataclass(frozen=True)
class Link:
    """A text that leads to the file at `path`, as seen from the page's folder."""

    text: str
    path: PurePath
    fragment: str = ""

    def __str__(self) -> str:
        return self.text

    @property
    def href(self) -> str:
        """The path as a URL; nothing in a file's name is read as a scheme or as a query."""
        return quote(self.path.as_posix()) + (f"#{self.fragment}" if self.fragment else "")


@dataclass(frozen=True)
class Table:
    """A table; columns that hold only numbers are aligned right.

    A sortable one is sorted by clicking a column's head and filtered by text, where the page's
    script runs; without it all rows are shown in their order. The last `n_minor` columns matter
    least: narrow screens hide them.
    """

    kind: ClassVar[str] = "table"
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    is_sortable: bool = False
    n_minor: int = 0

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.header):
                raise ValueError(
                    f"table {self.title!r}: each row must have {len(self.header)} cells, as the "
                    f"header has, but row {number} has {len(row)}"
                )

    @property
    def is_numeric(self) -> list[bool]:
        """Whether each column holds only numbers, per cents or dashes."""
        if not self.rows:
            return [False] * len(self.header)
        columns = zip(*self.rows, strict=True)
        return [all(NUMBER.fullmatch(str(cell)) for cell in column) for column in columns]

    @property
    def is_minor(self) -> list[bool]:
        """Whether each column is hidden on a narrow screen."""
        n_major = len(self.header) - self.n_minor
        return [place >= n_major for place in range(len(self.header))]


@dataclass(frozen=True)
class Picture:
    """A figure under a name; `alt` describes it where the caption does not describe enough."""

    kind: ClassVar[str] = "picture"
    name: str
    figure: Figure
    caption: str
    alt: str = ""

    def __post_init__(self) -> None:
        if not PICTURE_NAME.fullmatch(self.name):
            raise ValueError(
                "a picture's name must be lower-case letters and digits joined by '-' or '_', "
                f"because it names a file, but got {self.name!r}"
            )

    @cached_property
    def png(self) -> bytes:
        """The figure as PNG, drawn once for both the page and the folder."""
        return style.to_png(self.figure)

    @property
    def encoded(self) -> str:
        """The PNG as text."""
        return base64.b64encode(self.png).decode("ascii")

    @property
    def width(self) -> int:
        """Pixels across, as the PNG's header says."""
        return int.from_bytes(self.png[16:20], "big")

    @property
    def height(self) -> int:
        """Pixels down, as the PNG's header says."""
        return int.from_bytes(self.png[20:24], "big")


Section = Text | Table | Picture


@cache  # compiling it takes longer than filling it in
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("hbcomp.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2")


def render_page(
    title: str, subtitle: str, sections: Sequence[Section], links: Sequence[Link] = ()
) -> str:
    """Return the page as HTML, with the links at its top; whatever comes from data is escaped.

    A page with a sortable table has one script, ours: its hash is the only one that the page's
    Content-Security-Policy lets a browser run.
    """
    has_script = any(isinstance(section, Table) and section.is_sortable for section in sections)
    script = SCRIPT.read_text(encoding="utf-8") if has_script else ""
    return _template().render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        links=links,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def write_page(
    path: Path, title: str, subtitle: str, sections: Sequence[Section], links: Sequence[Link] = ()
) -> None:
    """Write the page to `path` atomically."""
    files.write_text(path, render_page(title, subtitle, sections, links))


def write_pictures(folder: Path, drawn: Iterable[Picture]) -> None:
    """Write each picture to `folder/<name>.png` atomically."""
    for picture in drawn:
        files.write_bytes(folder / f"{picture.name}.png", picture.png)


def print_table(table: Table, console: Console) -> None:
    """Print a page's table on a terminal; nothing in it is read as markup."""
    shown = RichTable(
        title=Styled(escape_control_chars(table.title), style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name, is_numeric in zip(table.header, table.is_numeric, strict=True):
        shown.add_column(
            Styled(escape_control_chars(name)), justify="right" if is_numeric else "left"
        )
    for row in table.rows:
        shown.add_row(*(Styled(escape_control_chars(str(cell))) for cell in row))
    console.print(shown)
