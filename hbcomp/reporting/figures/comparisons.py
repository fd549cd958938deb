"""Pictures of several experiments: arrays in, a Figure out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hbcomp.reporting.figures import style
from hbcomp.reporting.figures.style import (
    INK,
    QUIET,
    class_colour,
    class_text,
    printable,
    styled,
)
from hbcomp.scoring.paired import NOISE


@styled
def changed_signals(
    signals: Float[np.ndarray, "n c t"],
    labels: Int[np.ndarray, " n"],
    ids: Shaped[np.ndarray, " n"],
    predicted: Int[np.ndarray, "n 2"],
    truth_probs: Float[np.ndarray, "n 2"],
    classes: Sequence[str] = (),
) -> Figure:
    """Return every signal with the classes that runs A and B predict, and their p of the truth.

    A predicted class of -1 is none: an answer of zeros.
    """
    figure, panels = style.panel_grid(len(ids), 3, 1.95)
    for row, axes in enumerate(panels):
        label = int(labels[row])
        truth = class_text(label, classes)
        style.draw_signal(axes, signals[row], class_colour(label))
        predictions = [
            f"{run} predicts {class_text(int(predicted[row, at]), classes)}, "
            f"p{truth} {truth_probs[row, at]:.2f}"
            for at, run in enumerate("AB")
        ]
        title = "\n".join([f"id {printable(ids[row])}, true {truth}", *predictions])
        axes.set_title(title, fontsize=9, pad=3)
    return figure


@styled
def ranking(
    names: Sequence[str],
    scores: Float64[np.ndarray, " n"],
    standard_errors: Float64[np.ndarray, " n"],
    metric: str,
) -> Figure:
    """Return scores of a metric with the intervals of their noise, the first on top."""
    figure = style.new_figure(0.9 + 0.32 * len(names))
    axes = figure.subplots()
    heights = np.arange(len(names))
    style.draw_scores(axes, scores, heights, standard_errors)
    axes.axvline(scores[0], color=QUIET, linewidth=1, linestyle="--")
    axes.set_yticks(heights, [printable(name, 26) for name in names])
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=f"{metric}, ± {NOISE}")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="x")
    return figure


@styled
def expected_against_real(
    names: Sequence[str],
    expected: Float64[np.ndarray, " n"],
    gap_errors: Float64[np.ndarray, " n"],
    real: Float64[np.ndarray, " n"],
    metric: str,
) -> Figure:
    """Return what was expected of each submission and what the leaderboard said.

    The errors are standard errors of real minus expected.
    """
    figure = style.new_figure(4.6)
    axes = figure.subplots()
    ends = [float(min(expected.min(), real.min())), float(max(expected.max(), real.max()))]
    axes.plot(ends, ends, color=QUIET, linewidth=1, linestyle="--", label="as expected")
    style.draw_scores(axes, expected, real, gap_errors, label=f"submission, ± {NOISE}")
    for name, x, y in zip(names, expected, real, strict=True):
        axes.annotate(
            printable(name, 20),
            (x, y),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=9,
            color=INK,
        )
    axes.set(xlabel=f"expected {metric}", ylabel="leaderboard")
    axes.margins(x=0.15, y=0.1)
    axes.grid()
    axes.legend()
    return figure
