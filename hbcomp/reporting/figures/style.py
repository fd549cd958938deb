"""The style of every figure: one width, one palette, one font; without pyplot."""

import functools
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, ParamSpec

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Float64, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from hbcomp.scoring.paired import N_ERRORS_OF_NOISE
from hbcomp.scoring.row_metrics import class_name

WIDTH: Final = 6.4  # inches
DPI: Final = 160  # 1024 pixels: sharp at half a 1400-pixel page and at three times a phone's 340
# Okabe and Ito's palette, told apart with every common colour blindness
# (https://jfly.uni-koeln.de/color/), its yellow darkened because a line of it is lost on white.
# A class keeps its colour everywhere.
CLASS_COLOURS: Final = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#b8ab00",
)
INK: Final = "#24292f"
QUIET: Final = "#8c959f"
ACCENT: Final = "#0072b2"
SECOND: Final = "#d55e00"
MAX_CLASSES: Final = 20  # drawn one by one; beyond it a label column is hardly one of classes
# Any, because matplotlib types the keys as a closed list that grows with its version.
STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same bytes on every machine
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # an id may hold a dollar sign
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "axes.formatter.use_mathtext": False,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_joinstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


Arguments = ParamSpec("Arguments")


@contextmanager
def own_style() -> Iterator[None]:
    """Set matplotlib's defaults and `STYLE` for a block, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Return `draw` run under this module's style."""

    @functools.wraps(draw)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with own_style():
            return draw(*args, **kwargs)

    return wrapper


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG; equal figures give equal bytes (no date, no version inside)."""
    buffer = io.BytesIO()
    with own_style():  # ticks and their labels are made only now
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def class_text(label: int, classes: Sequence[str]) -> str:
    """Return a class in words for a figure: its name, if it has one, short and without markup."""
    return printable(class_name(label, classes), 20)


def class_colour(label: int) -> str:
    """Return the fixed colour of a class; from the ninth on colours repeat."""
    return CLASS_COLOURS[label % len(CLASS_COLOURS)]


def printable(name: object, n_max: int = 14) -> str:
    """Return a name as short plain ASCII, so that no glyph is missing and no line is broken."""
    text = ascii(str(name))[1:-1]
    return text if len(text) <= n_max else text[: n_max - 2] + ".."


def new_figure(height: float) -> Figure:
    """Return an empty figure of this height in inches and of the width that all have."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(WIDTH, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def panel_grid(
    n_panels: int, n_columns: int, line_height: float, *, top: float = 0.5, share_x: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure of this many panels and the panels, line by line; heights are in inches."""
    n_lines = math.ceil(n_panels / n_columns)
    figure = new_figure(top + line_height * n_lines)
    grid = figure.subplots(n_lines, n_columns, sharex=share_x, sharey=True, squeeze=False)
    for axes in grid.flat[n_panels:]:
        axes.set_axis_off()
    if share_x:
        figure.supxlabel("time step", fontsize=11)
    return figure, list(grid.flat[:n_panels])


def signal_grid(n_signals: int, top: float = 0.5) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each signal, three beside each other."""
    return panel_grid(n_signals, n_columns=3, line_height=1.95, top=top)


def draw_signal(axes: Axes, signal: Float[np.ndarray, "c t"], colour: str) -> None:
    """Draw a signal in its class's colour; where it has no value there is no line.

    Channels lie over each other, the first one boldly.
    """
    time_steps = np.arange(signal.shape[1])
    for place, channel in enumerate(signal[::-1], start=1 - len(signal)):
        alpha = None if place == 0 else 0.35
        axes.plot(time_steps, channel, color=colour, linewidth=1.3, alpha=alpha)
    axes.tick_params(labelsize=9)


def draw_scores(
    axes: Axes,
    scores: Float64[np.ndarray, " n"],
    heights: Float64[np.ndarray, " n"] | Int[np.ndarray, " n"],
    standard_errors: Float64[np.ndarray, " n"],
    label: str = "",
) -> None:
    """Draw scores as points with the horizontal intervals of their noise."""
    reach = N_ERRORS_OF_NOISE * standard_errors
    axes.errorbar(scores, heights, xerr=reach, fmt="o", color=ACCENT, label=label)


def percent(share: float) -> str:
    """Return a share as text; only zero reads as zero."""
    if 0 < share < 0.01:
        return "<0.01 %"
    return f"{share:.2f} %" if share < 1 else f"{share:.1f} %"


def group_thousands(axes: Axes, axis: str, n_ticks: int) -> None:
    """Write whole numbers with thousands separators on at most `n_ticks` ticks of an axis."""
    target = axes.xaxis if axis == "x" else axes.yaxis
    target.set_major_locator(MaxNLocator(n_ticks, integer=True))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def plain_log_ticks(axes: Axes) -> None:
    """Write plain numbers on the ticks of a logarithmic y axis."""

    # 200 and not 2 x 10^2; minor ticks get a number only at 2, 3 and 5, the others would touch.
    def name(value: float, _position: int | None = None) -> str:
        mantissa = round(value / 10 ** math.floor(math.log10(value)), 6)
        return f"{value:,g}" if mantissa in (1, 2, 3, 5) else ""

    axes.yaxis.set_major_formatter(FuncFormatter(name))
    low, high = axes.get_ylim()
    is_short = high < 50 * low  # otherwise the decades are numbers enough
    axes.yaxis.set_minor_formatter(FuncFormatter(name) if is_short else NullFormatter())
