"""Pictures of mistakes: arrays in, a Figure out."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from hbcomp.reporting.figures import style
from hbcomp.reporting.figures.style import ACCENT, INK, QUIET, SECOND, styled
from hbcomp.scoring.confusions import ERROR_TYPES, NONE

COLOURS: Final = dict(zip(ERROR_TYPES, (SECOND, "#000000", ACCENT), strict=True))
LEAST_SHARE: Final = 0.01  # of the largest distance: smaller ones are drawn at the log axis' end


@styled
def distances(
    own: Float64[np.ndarray, " n"],
    other: Float64[np.ndarray, " n"],
    types: Shaped[np.ndarray, " n"],
    right_own: Float64[np.ndarray, " r"],
    right_other: Float64[np.ndarray, " r"],
    far: float,
) -> Figure:
    """Return each row by its distances to its own and to the other class, the right ones behind."""
    figure = style.new_figure(6.2)
    axes = figure.subplots()
    every = np.concatenate([own, other, right_own, right_other])
    ends = _ends(every[np.isfinite(every)])
    axes.plot(
        np.maximum(right_own, ends[0]),
        np.maximum(right_other, ends[0]),
        ".",
        color=QUIET,
        markersize=3,
        alpha=0.5,
        label=f"right, a sample of {len(right_own):,}",
    )
    for error_type, colour in COLOURS.items():
        of_type = types == error_type
        axes.plot(
            np.maximum(own[of_type], ends[0]),
            np.maximum(other[of_type], ends[0]),
            "o",
            color=colour,
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.4,
            label=f"wrong, {error_type}: {of_type.sum():,}",
        )
    axes.plot(ends, ends, color=INK, linewidth=1, linestyle="--")
    if math.isfinite(far):
        axes.plot([far, far, ends[1]], [ends[1], far, far], color=INK, linewidth=1, linestyle=":")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("distance to the nearest row of its own class")
    axes.set_ylabel("distance to that of the other class")
    axes.grid()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _ends(values: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    """Return the ends of a logarithmic axis of these distances; some may be 0, or all."""
    high = float(values.max(initial=0)) or 1.0
    positive = values[values > LEAST_SHARE * high]
    return 0.9 * float(positive.min(initial=high)), 1.1 * high


@styled
def margins(values: Float64[np.ndarray, " n"], types: Shaped[np.ndarray, " n"]) -> Figure:
    """Return the histogram of how far the label lay behind, by error type, stacked."""
    figure = style.new_figure(3.6)
    axes = figure.subplots()
    parts = [values[types == error_type] for error_type in COLOURS]
    axes.hist(
        parts,
        bins=np.linspace(-1, 1, 41).tolist(),
        stacked=True,
        color=list(COLOURS.values()),
        label=list(COLOURS),
    )
    axes.set(
        xlabel="probability of the likeliest other class minus that of the label",
        ylabel="wrong rows",
        xlim=(min(0.0, float(values.min()) - 0.05), 1),
    )
    axes.grid(axis="y")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


@styled
def label_issues(
    signals: Float32[np.ndarray, "n c t"],
    rows: Int64[np.ndarray, " d"],
    of_label: Int64[np.ndarray, " d"],
    of_answer: Int64[np.ndarray, " d"],
    titles: Sequence[str],
) -> Figure:
    """Return each row over its nearest rows of the label's class and of the predicted class."""
    figure, panels = style.panel_grid(len(rows), 3, 1.95, top=0.9)
    drawn = {
        "nearest of the label's class": (of_label, ACCENT, 1.1),
        "nearest of the predicted class": (of_answer, SECOND, 1.1),
        "the row": (rows, INK, 1.5),
    }
    for place, axes in enumerate(panels):
        for positions, colour, width in drawn.values():
            if positions[place] != NONE:
                axes.plot(signals[positions[place]].T, color=colour, linewidth=width)
        axes.set_title(titles[place], fontsize=9, pad=3)
        axes.tick_params(labelsize=9)
    handles = [Line2D([], [], color=colour, linewidth=width) for _, colour, width in drawn.values()]
    figure.legend(handles, list(drawn), loc="outside upper center", ncols=2)
    return figure
