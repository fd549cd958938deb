"""Pictures of a search: arrays in, a matplotlib Figure out."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from hbcomp.reporting.figures import style
from hbcomp.reporting.figures.style import (
    ACCENT,
    CLASS_COLOURS,
    INK,
    QUIET,
    SECOND,
    printable,
    styled,
)
from hbcomp.scoring.paired import N_ERRORS_OF_NOISE, NOISE, as_text

# Values beyond it are merely bad: on a common axis they would flatten the differences that count.
CEILING: Final = 1.5  # times the best value's distance from a perfect score
BAND: Final = 0.06  # of that distance: room for a mark among those not drawn at their height
BAND_COLOUR: Final = "#eef0f2"  # between the grid's grey and white
STAR: Final = "#ffd54f"  # no other mark is yellow, and its edge is ink
JITTER: Final = 0.5  # of the distance of two categories, so that their points stay apart
GOLDEN: Final = 0.6180339887  # its multiples modulo 1 stay apart, however many there are
LETTERS_ACROSS: Final = 30  # of a small panel: 2.4 inches of 9-point text

# Shape and filling tell the states apart, colour only helps.
MARKS: Final[dict[str, dict[str, Any]]] = {
    "complete": {"marker": "o", "color": ACCENT, "markersize": 5},
    "carried": {"marker": "s", "color": CLASS_COLOURS[2], "markersize": 5},
    "pruned": {"marker": "v", "color": SECOND, "markersize": 5.5, "markerfacecolor": "none"},
}
NAMES: Final = {"carried": "carried over", "pruned": "pruned (its folds)"}


@dataclass(frozen=True)
class ScoreAxis:
    """What the scores are called, their direction, and the score of perfect answers if known."""

    name: str
    greater_is_better: bool
    perfect: float | None

    def best_so_far(self, values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Return for each value the best one up to there."""
        best = np.maximum if self.greater_is_better else np.minimum
        return np.asarray(best.accumulate(values))

    def limit(self, values: Float64[np.ndarray, " n"]) -> tuple[float, float]:
        """Return the worst score that is drawn at its height, and the far end of the band.

        Where the best is perfect, or no perfect score is known, all are.
        """
        best = float(np.nanmax(values) if self.greater_is_better else np.nanmin(values))
        origin = best if self.perfect is None else self.perfect
        reach = CEILING * abs(best - origin) or float(np.nanmax(np.abs(values - origin))) or 1.0
        reach = -reach if self.greater_is_better else reach
        return origin + reach, origin + reach * (1 + BAND)

    def is_beyond(self, values: Float64[np.ndarray, " n"], limit: float) -> Bool[np.ndarray, " n"]:
        """Return which values are worse than the limit, or missing."""
        return np.asarray(~(values >= limit if self.greater_is_better else values <= limit))


@dataclass(frozen=True)
class Trials:
    """The trials in the order of their numbers, each with its score, NaN for none."""

    numbers: Int[np.ndarray, " n"]
    values: Float64[np.ndarray, " n"]
    states: Shaped[np.ndarray, " n"]
    score: ScoreAxis

    @property
    def heights(self) -> Float64[np.ndarray, " n"]:
        """Where the trials are drawn: those beyond the limit, and missing ones, in the band."""
        limit, end = self.score.limit(self.values)
        is_beyond = self.score.is_beyond(self.values, limit)
        return np.where(is_beyond, (limit + end) / 2, self.values)

    @property
    def is_whole(self) -> Bool[np.ndarray, " n"]:
        """Which trials have a value of all folds."""
        is_ended = (self.states == "complete") | (self.states == "carried")
        return np.asarray(is_ended & np.isfinite(self.values))


@dataclass(frozen=True)
class Parameter:
    """Each trial's value, NaN for none: numbers from `span`, or positions in `categories`."""

    name: str
    taken: Float64[np.ndarray, " n"]
    span: tuple[float, float] = (0.0, 1.0)
    is_log: bool = False
    categories: Sequence[str] = ()


@styled
def history(trials: Trials, base: int | None) -> Figure:
    """Return the value of each trial over its number, the best so far, and the base marked."""
    figure = style.new_figure(4.4)
    axes = figure.subplots()
    numbers, heights = trials.numbers[trials.is_whole], trials.heights
    best = trials.score.best_so_far(heights[trials.is_whole])
    if len(best):
        steps = np.append(numbers, trials.numbers[-1] + 1), np.append(best, best[-1])
        axes.step(*steps, color=INK, lw=1.2, where="post", label="best so far")
    is_base = trials.is_whole & (trials.numbers == (-1 if base is None else base))
    if is_base.any():
        label = f"base: {as_text(float(trials.values[is_base][0]))}"
        place = trials.numbers[is_base], heights[is_base]
        axes.plot(*place, "*", color=STAR, mec=INK, markersize=17, label=label)
    _draw_states(axes, trials, trials.numbers.astype(np.float64), heights)
    has_none = np.isnan(trials.values)
    if has_none.any():
        place = trials.numbers[has_none], heights[has_none]
        axes.plot(*place, "x", color=INK, markersize=6, label="no value")
    _score_axis(axes, trials, trials.heights)
    axes.set(xlabel="trial", ylabel=trials.score.name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.03)
    _head(figure, [axes])
    return figure


@styled
def slices(trials: Trials, parameters: Sequence[Parameter]) -> Figure:
    """Return a panel for each parameter: the score of each trial over the parameter's value."""
    n = len(parameters)
    figure, panels = style.panel_grid(n, min(2, n), 2.05, top=0.7, share_x=False)
    for axes, parameter in zip(panels, parameters, strict=True):
        _draw_states(axes, trials, _places(parameter, trials.numbers), trials.heights)
        _score_axis(axes, trials, trials.heights[np.isfinite(trials.values)])
        _take_axis(axes, parameter)
        axes.set_title(printable(parameter.name, 32), fontsize=10, pad=4)
        axes.tick_params(labelsize=9)
    figure.supylabel(trials.score.name.replace(" (", "\n("), fontsize=11)  # low panels
    _head(figure, panels)
    return figure


@styled
def importances(names: Sequence[str], shares: Float64[np.ndarray, " p"]) -> Figure:
    """Return a bar for each parameter, the most important first."""
    order = np.argsort(-shares, kind="stable")
    figure = style.new_figure(0.8 + 0.34 * len(names))
    axes = figure.subplots()
    bars = axes.barh(range(len(names)), 100 * shares[order], color=ACCENT, height=0.7)
    axes.bar_label(bars, [f"{100 * shares[idx]:.1f} %" for idx in order], padding=4)
    axes.set_yticks(range(len(names)), [printable(names[idx], 32) for idx in order])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="importance (%)", xlim=(0, 120 * max(shares.max(), 0.01)))  # and its text
    return figure


@styled
def confirmation(
    score: ScoreAxis,
    names: Sequence[str],
    search: Float64[np.ndarray, " m"],
    fresh: Float64[np.ndarray, " m"],
    winner: str | None,
    difference: tuple[float, float] | None,
) -> Figure:
    """Return a line from search to fresh score for each name, the first of them the base's.

    Above it stands the winner's paired difference from the base, given with its standard error.
    """
    height = 3.0 + 0.16 * len(names)  # a line of text for each
    if difference is None:
        figure = style.new_figure(height)
        _draw_slopes(figure.subplots(), score, names, search, fresh, winner)
        return figure
    figure = style.new_figure(1.7 + height)
    above, below = figure.subplots(2, 1, height_ratios=(1.2, height))
    _draw_difference(above, score, winner or "winner", *difference)
    _draw_slopes(below, score, names, search, fresh, winner)
    return figure


def log_ticks(low: float, high: float) -> list[float]:
    """Return at most seven round numbers from low to high, three at least where there are so many.

    Powers of ten if they are enough, else 1-3-10, 1-2-5-10 or all of one digit.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        every = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) >= 3:
            break
    return ticks[:: math.ceil(len(ticks) / 7)] if ticks else [low, high]


def category_names(categories: Sequence[str]) -> list[str]:
    """Return the categories, or their numbers from 1 where they are too long for a panel."""
    names = [printable(name, 999) for name in categories]  # not cut: their ends may differ
    if all(len(name) * len(names) <= LETTERS_ACROSS for name in names):
        return names
    return [f"#{number}" for number in range(1, len(names) + 1)]


def spread_apart(heights: Float[np.ndarray, " m"], gap: float) -> Float[np.ndarray, " m"]:
    """Return the heights in their order, moved until all are `gap` apart, with the same mean."""
    order = np.argsort(heights, kind="stable")
    least = gap * np.arange(len(heights))
    moved = np.maximum.accumulate(heights[order] - least) + least
    apart = np.empty_like(heights)
    apart[order] = moved - moved.mean() + heights.mean()
    return apart


# --- parts ------------------------------------------------------------------------------------


def _score_axis(axes: Axes, trials: Trials, drawn: Float64[np.ndarray, " m"]) -> None:
    """Prepare the axis of the scores, with the band if one of those drawn lies in it."""
    limit, end = trials.score.limit(trials.values)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if trials.score.is_beyond(drawn, limit).any():
        axes.axhspan(limit, end, color=BAND_COLOUR, lw=0)
        low, high = axes.get_ylim()
        is_up = trials.score.greater_is_better
        # No number inside the band: nothing is drawn to scale there.
        first, last = (limit, high) if is_up else (low, limit)
        axes.set_yticks([tick for tick in axes.get_yticks() if first <= tick <= last])
        axes.set_ylim((end, high) if is_up else (low, end))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid()


def _draw_states(
    axes: Axes,
    trials: Trials,
    places: Float64[np.ndarray, " n"],
    heights: Float64[np.ndarray, " n"],
) -> None:
    for state, mark in MARKS.items():
        chosen = (trials.states == state) & np.isfinite(trials.values) & np.isfinite(places)
        if chosen.any():
            label = NAMES.get(state, state)
            axes.plot(places[chosen], heights[chosen], ls="", label=label, alpha=0.8, **mark)


def _head(figure: Figure, panels: Iterable[Axes]) -> None:
    """Put one legend of all panels above them."""
    marks: dict[str, Any] = {}
    for axes in panels:
        for mark, name in zip(*axes.get_legend_handles_labels(), strict=True):
            marks.setdefault(name, mark)
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=3)


def _places(parameter: Parameter, numbers: Int[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    if not parameter.categories:
        return parameter.taken
    return parameter.taken + JITTER * (numbers * GOLDEN % 1 - 0.5)


def _take_axis(axes: Axes, parameter: Parameter) -> None:
    """Give a panel the axis of its parameter, all of the span visible."""
    low, high = parameter.span
    if parameter.categories:
        axes.set_xticks(range(len(parameter.categories)), parameter.categories)
        axes.set_xlim(-0.5, len(parameter.categories) - 0.5)
        return
    if parameter.is_log:
        axes.set_xscale("log")
        axes.set_xticks(log_ticks(low, high))
        axes.xaxis.set_minor_locator(NullLocator())
        margin = (high / low) ** 0.05
        axes.set_xlim(low / margin, high * margin)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def _draw_difference(
    axes: Axes, score: ScoreAxis, winner: str, difference: float, standard_error: float
) -> None:
    reach = N_ERRORS_OF_NOISE * standard_error
    axes.axvline(0, color=QUIET, linestyle="--", lw=1)
    style.draw_scores(axes, np.array([difference]), np.zeros(1), np.array([standard_error]))
    found = f"{as_text(difference, '+')}; {NOISE} are ± {as_text(reach)}"
    axes.set_title(f"{printable(winner)} minus base: {found}")
    side = "right" if score.greater_is_better else "left"
    axes.set(yticks=[], ylim=(-1, 1), xlabel=f"difference; {side} of 0 the winner is better")
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.15)


def _draw_slopes(
    axes: Axes,
    score: ScoreAxis,
    names: Sequence[str],
    search: Float64[np.ndarray, " m"],
    fresh: Float64[np.ndarray, " m"],
    winner: str | None,
) -> None:
    ends = np.concatenate([search, fresh])
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    gap = 0.055 * (high - low or abs(high) or 1.0)  # a line of text
    heights = spread_apart(fresh, gap)
    for number, name in enumerate(names):
        colour = INK if number == 0 else ACCENT if name == winner else QUIET
        width = 2.4 if name == winner else 1.4
        line = "D--" if number == 0 else "o-"
        axes.plot((0, 1), (search[number], fresh[number]), line, color=colour, lw=width)
        text = f"{printable(name)}  {as_text(float(fresh[number]))}"
        weight = "bold" if name == winner else "normal"
        axes.text(1.06, heights[number], text, va="center", fontsize=10, weight=weight)
    axes.set_ylim(min(low, heights.min()) - gap, max(high, heights.max()) + gap)
    axes.set_xlim(-0.15, 1.55)  # room for the names
    axes.set_xticks([0, 1], ["in the search", "on a fresh seed"])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_ylabel(score.name)
    axes.grid(axis="y")
