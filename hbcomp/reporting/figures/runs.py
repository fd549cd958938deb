"""Pictures: arrays in, a matplotlib Figure out; no files, no pyplot, no style left behind.

Every figure is 6.4 inches wide with 11-point text, so that it stays readable when a phone shows
it at 360 pixels; panels are therefore stacked, never put side by side.
"""

import functools
import io
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, ParamSpec

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from hbcomp.scoring.metrics import ROWS_OF_THE_LEADERBOARD
from hbcomp.scoring.paired import N_ERRORS_OF_NOISE, NOISE

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
MAX_NAMED: Final = 11  # folds in a legend: three lines of four with the mean
LEAST_COST: Final = 1.0  # per 20k: where a perfect model's zero cannot span an axis

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
Histories = Mapping[str, Mapping[str, Float[np.ndarray, " _"] | Int[np.ndarray, " _"]]]


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


def class_colour(label: int) -> str:
    """Return the fixed colour of a class; from the ninth on colours repeat."""
    return CLASS_COLOURS[label % len(CLASS_COLOURS)]


def printable(name: object, n_max: int = 14) -> str:
    """Return a name as short plain ASCII, so that no glyph is missing and no line is broken."""
    text = ascii(str(name))[1:-1]
    return text if len(text) <= n_max else text[: n_max - 2] + ".."


def padded_lengths(signals: Float[np.ndarray, "n t"]) -> Int[np.ndarray, " n"]:
    """Return the length of each row without its trailing zeros; an all-zero row has length 0."""
    is_value = signals != 0
    n_trailing = np.argmax(is_value[:, ::-1], axis=1)
    return np.where(is_value.any(axis=1), signals.shape[1] - n_trailing, 0)


# --- the data ---------------------------------------------------------------------------------


@styled
def label_counts(labels: Int[np.ndarray, " n"]) -> Figure:
    """Return bars with the count and the per cent of every class, at most the first 20."""
    counts = np.bincount(labels)
    n_classes = len(counts)
    counts = counts[:MAX_CLASSES]
    figure = _figure(0.8 + 0.5 * len(counts))
    axes = figure.subplots()
    names = [f"class {label}" for label in range(len(counts))]
    colours = [class_colour(label) for label in range(len(counts))]
    bars = axes.barh(names, counts, color=colours, height=0.7)
    shares = 100 * counts / len(labels)
    texts = [f"{n:,} ({share:.1f} %)" for n, share in zip(counts, shares, strict=True)]
    axes.bar_label(bars, texts, padding=4)
    left_out = f" (the first {len(counts)} of {n_classes} classes)"
    axes.set(
        xlabel="beats" + left_out * (n_classes > len(counts)), xlim=(0, 1.38 * counts.max())
    )  # room for the longest text
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    _group_thousands(axes, "x", 4)
    return figure


@styled
def beat_lengths(
    signals: Float[np.ndarray, "n t"], labels: Int[np.ndarray, " n"] | None = None
) -> Figure:
    """Return the histogram of the lengths up to the zero padding, each class adding up to 100 %."""
    lengths = padded_lengths(signals)
    n_timepoints = signals.shape[1]
    step = max(1, round(n_timepoints / 50))
    edges = np.arange(0, n_timepoints + step + 1, step) - 0.5
    figure = _figure(3.6)
    axes = figure.subplots()
    for label, rows in _rows_by_class(labels, len(signals)):
        weights = np.full(len(rows), 100 / len(rows))
        axes.hist(
            lengths[rows],
            edges.tolist(),
            weights=weights,
            histtype="step",
            linewidth=1.6,
            color=class_colour(label),
            label=f"class {label}" if labels is not None else "all beats",
        )
    axes.set(xlabel="length without padding (samples)", ylabel="beats of the class (%)")
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(axis="y")
    axes.legend()
    return figure


@styled
def example_beats(
    signals: Float[np.ndarray, "n t"],
    labels: Int[np.ndarray, " n"],
    ids: Shaped[np.ndarray, " n"],
    n_per_class: int = 4,
) -> Figure:
    """Return a few beats of every class, taken at even distances through its rows."""
    classes = _rows_by_class(labels, len(signals))
    figure = _figure(0.6 + 1.35 * len(classes))
    grid = figure.subplots(len(classes), n_per_class, sharex=True, sharey=True, squeeze=False)
    lengths = padded_lengths(signals)
    for (label, rows), panels in zip(classes, grid, strict=True):
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, n_per_class).astype(int))]
        for axes, row in zip(panels, chosen, strict=False):
            _draw_beat(axes, signals[row], int(lengths[row]), class_colour(label))
            axes.set_title(f"id {printable(ids[row], 11)}", fontsize=9, pad=3)
        for axes in panels[len(chosen) :]:
            axes.set_axis_off()
        panels[0].set_ylabel(f"class {label}")
    figure.supxlabel("sample", fontsize=11)
    return figure


@styled
def class_mean_spread(signals: Float[np.ndarray, "n t"], labels: Int[np.ndarray, " n"]) -> Figure:
    """Return the mean of every class and the band of its middle 80 %, padding zeros included."""
    classes = _rows_by_class(labels, len(signals))
    n_columns = min(2, len(classes))
    n_lines = math.ceil(len(classes) / n_columns)
    figure = _figure(0.9 + 2.0 * n_lines)
    grid = figure.subplots(n_lines, n_columns, sharex=True, sharey=True, squeeze=False)
    mean_of_all = signals.mean(axis=0)
    samples = np.arange(signals.shape[1])
    for axes, (label, rows) in zip(grid.flat, classes, strict=False):
        low, high = np.quantile(signals[rows], (0.1, 0.9), axis=0)
        colour = class_colour(label)
        axes.fill_between(samples, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(samples, mean_of_all, color=QUIET, linewidth=1, linestyle="--")
        axes.plot(samples, signals[rows].mean(axis=0), color=colour)
        axes.set_title(f"class {label}  (n = {len(rows):,})")
        axes.grid()
    for axes in grid.flat[len(classes) :]:
        axes.set_axis_off()
    figure.supxlabel("sample", fontsize=11)
    figure.supylabel("amplitude (scaled)", fontsize=11)
    return figure


# --- a run ------------------------------------------------------------------------------------


@styled
def training_curves(histories: Histories) -> Figure:
    """Return loss and, where one was measured, validation score per epoch: a line per fold.

    A history holds the arrays `epoch`, `loss` and `score` (per 20k, NaN where not measured). The
    mean is drawn only at epochs at which every fold has a value.
    """
    has_scores = any(np.isfinite(history["score"]).any() for history in histories.values())
    names = ["loss", "score"] if has_scores else ["loss"]
    figure = _figure(0.8 + 2.4 * len(names))
    grid = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    axis_labels = {"loss": "training loss (nats)", "score": "validation abs-sum\n(per 20k rows)"}
    for axes, name in zip(grid, names, strict=True):
        _draw_folds(axes, histories, name)
        axes.set_ylabel(axis_labels[name])
    grid[-1].set_xlabel("epoch")
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(histories) > 1:
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
    return figure


@styled
def confusion(counts: Int[np.ndarray, "k k+1"]) -> Figure:
    """Return the confusion matrix (rows are the truth) with counts and per cents of the row.

    The last column, of rows that are called none, is drawn only where there are such rows. Colour
    is the logarithm of the row's share, because the interesting cells hold well under 1 %.
    """
    n_classes = len(counts)
    has_none = bool(counts[:, n_classes].any())
    counts = counts if has_none else counts[:, :n_classes]
    totals = counts.sum(axis=1, keepdims=True)
    shares = 100 * counts / np.maximum(totals, 1)
    figure = _figure(1.0 + min(5.4, 1.05 * n_classes))
    axes = figure.subplots()
    norm = LogNorm(0.01, 100)
    image = axes.imshow(np.maximum(shares, 0.01), cmap="Blues", norm=norm, aspect="auto")
    n_written = n_classes if n_classes <= MAX_CLASSES else 0  # smaller text cannot be read
    for truth, predicted in np.ndindex(n_written, n_written and n_classes + has_none):
        share = shares[truth, predicted]
        axes.text(
            predicted,
            truth,
            f"{counts[truth, predicted]:,}\n{_percent(share)}",
            ha="center",
            va="center",
            fontsize=min(11, 48 / n_classes),
            color="white" if norm(max(share, 0.01)) > 0.55 else INK,
        )
    ticks = range(0, n_classes, math.ceil(n_classes / MAX_CLASSES))
    axes.set(xlabel="answered class", ylabel="true class", yticks=ticks)
    names = [*map(str, ticks), *["none"] * has_none]
    axes.set_xticks([*ticks, *[n_classes] * has_none], names)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, label="share of the true class (%)", pad=0.02)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return figure


def threshold_costs(
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    lows: Float[np.ndarray, " points"],
    highs: Float[np.ndarray, " points"],
) -> Float[np.ndarray, " points"]:
    """Return the abs-sum per 20k of `clip(low, high)` for every pair, `low <= high`.

    A probability below `low` becomes 0, one above `high` becomes 1, the rest is kept. With
    `low == high == t` and no probability equal to t this is the single threshold t. All
    comparisons are in float64.
    """
    if (lows > highs).any():
        raise ValueError("`low <= high` must hold in every pair")
    values = probs.astype(np.float64).ravel()
    order = np.argsort(values)
    values = values[order]
    truths = (np.arange(probs.shape[1]) == labels[:, None]).ravel()[order].astype(np.float64)
    # The sorted elements fall into three runs, cut before the first >= low and after the last
    # <= high; each run's cost is a difference of one cumulative sum.
    as_zero = _cumulative(truths)  # |0 - y|
    as_kept = _cumulative(np.abs(values - truths))
    as_one = _cumulative(1 - truths)  # |1 - y|
    first = np.searchsorted(values, lows, "left")
    last = np.searchsorted(values, highs, "right")
    cost = as_zero[first] + as_kept[last] - as_kept[first] + as_one[-1] - as_one[last]
    return np.asarray(cost * (ROWS_OF_THE_LEADERBOARD / len(probs)))


@styled
def threshold_landscape(
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    points: Mapping[str, tuple[float, float]],
) -> Figure:
    """Return the cost of one threshold, and below it of every `clip(lo, hi)`, with `points` marked.

    The colour range ends at twice the optimum: beyond it a rule is merely bad.
    """
    figure = _figure(8.6)
    line_axes, map_axes = figure.subplots(2, 1, height_ratios=(1, 1.75))
    _draw_single_threshold(line_axes, probs, labels)
    _draw_clip_map(map_axes, probs, labels, points)
    return figure


def reliability_bins(
    probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], n_bins: int
) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"], Int[np.ndarray, " bins"]]:
    """Return mean probability, observed frequency and count of equally wide bins of all elements.

    Empty bins are left out.
    """
    values = probs.astype(np.float64).ravel()
    truths = (np.arange(probs.shape[1]) == labels[:, None]).ravel()
    bin_of = np.minimum((values * n_bins).astype(int), n_bins - 1)  # 1.0 belongs to the last
    counts = np.bincount(bin_of, minlength=n_bins)
    filled = counts > 0
    mean_probs = np.bincount(bin_of, values, n_bins)[filled] / counts[filled]
    frequencies = np.bincount(bin_of, truths, n_bins)[filled] / counts[filled]
    return mean_probs, frequencies, counts[filled]


@styled
def reliability(
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    test_probs: Float[np.ndarray, "m k"] | None = None,
) -> Figure:
    """Return how often a probability came true, and how confident the rows are.

    The lower panel sets the out-of-fold rows against the test rows: the shift between them says
    how far a threshold tuned on the former can be trusted on the latter.
    """
    figure = _figure(7.4)
    curve_axes, confidence_axes = figure.subplots(2, 1, height_ratios=(1.35, 1))
    _draw_reliability(curve_axes, probs, labels)
    groups = (
        {"out-of-fold": probs}
        if test_probs is None
        else {
            "out-of-fold": probs,
            "test": test_probs,
        }
    )
    _draw_confidence(confidence_axes, groups)
    return figure


@styled
def costliest_beats(
    signals: Float[np.ndarray, "n t"],
    labels: Int[np.ndarray, " n"],
    probs: Float[np.ndarray, "n k"],
    costs: Float[np.ndarray, " n"],
    ids: Shaped[np.ndarray, " n"],
    n: int = 12,
) -> Figure:
    """Return the rows with the highest cost, the least probable truth first among equals."""
    truth_probs = probs[np.arange(len(labels)), labels]
    chosen = np.lexsort((truth_probs, -costs))[:n]
    n_columns = 3
    n_lines = math.ceil(len(chosen) / n_columns)
    figure = _figure(0.5 + 1.9 * n_lines)
    grid = figure.subplots(n_lines, n_columns, sharex=True, sharey=True, squeeze=False)
    lengths = padded_lengths(signals)
    for axes, row in zip(grid.flat, chosen, strict=False):
        _draw_beat(axes, signals[row], int(lengths[row]), class_colour(int(labels[row])))
        title = f"id {printable(ids[row])}\ntrue {labels[row]}, cost {costs[row]:.2f}"
        axes.set_title(f"{title}\n{_top_probs(probs[row])}", fontsize=9, pad=3)
    for axes in grid.flat[len(chosen) :]:
        axes.set_axis_off()
    figure.supxlabel("sample", fontsize=11)
    return figure


# --- parts ------------------------------------------------------------------------------------


def _figure(height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(WIDTH, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _rows_by_class(
    labels: Int[np.ndarray, " n"] | None, n: int
) -> list[tuple[int, Int[np.ndarray, " rows"]]]:
    if labels is None:
        return [(0, np.arange(n))]
    drawn = np.unique(labels)[:MAX_CLASSES]
    return [(int(label), np.flatnonzero(labels == label)) for label in drawn]


def _draw_beat(axes: Axes, signal: Float[np.ndarray, " t"], length: int, colour: str) -> None:
    samples = np.arange(len(signal))
    axes.plot(samples[length:], signal[length:], color=QUIET, linewidth=1)
    axes.plot(samples[:length], signal[:length], color=colour, linewidth=1.3)
    axes.tick_params(labelsize=9)


def _draw_folds(axes: Axes, histories: Histories, name: str) -> None:
    colours = mpl.colormaps["cividis"](np.linspace(0, 0.85, len(histories)))
    for (fold, history), colour in zip(histories.items(), colours, strict=True):
        is_measured = np.isfinite(history[name])
        epochs = history["epoch"][is_measured]
        values = history[name][is_measured]
        label = printable(fold) if len(histories) <= MAX_NAMED else None
        axes.plot(epochs, values, _marker(epochs), color=colour, lw=0.9, label=label)
    epochs, mean = _mean_over_folds(histories, name)
    if len(histories) > 1 and len(epochs):
        axes.plot(epochs, mean, _marker(epochs), color=SECOND, lw=2.2, label="mean")
    low, high = axes.dataLim.intervaly
    if high > 3 * low > 0:  # below a factor of three a logarithmic axis has hardly a tick
        axes.set_yscale("log")
        _plain_log_ticks(axes)
    axes.grid(which="both")


def _marker(epochs: Int[np.ndarray, " e"]) -> str:
    return ".-" if len(epochs) < 30 else "-"  # a value measured once would not be seen as a line


def _mean_over_folds(
    histories: Histories, name: str
) -> tuple[Int[np.ndarray, " shared"], Float[np.ndarray, " shared"]]:
    by_fold = [
        {
            int(epoch): float(value)
            for epoch, value in zip(history["epoch"], history[name], strict=True)
            if np.isfinite(value)
        }
        for history in histories.values()
    ]
    shared = sorted(set.intersection(*(set(values) for values in by_fold)))
    means = [np.mean([values[epoch] for values in by_fold]) for epoch in shared]
    return np.array(shared, dtype=np.int64), np.array(means, dtype=np.float64)


def _draw_single_threshold(
    axes: Axes, probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> None:
    # Odd multiples of 1/2000: no threshold at a round value, which rounded probabilities hit.
    thresholds = np.arange(1, 2000, 2) / 2000
    costs = threshold_costs(probs, labels, thresholds, thresholds)
    best = int(np.argmin(costs))
    axes.plot(thresholds, costs, color=ACCENT)
    axes.plot(thresholds[best], costs[best], "o", color=SECOND)
    axes.set_title(f"one threshold: lowest {costs[best]:,.0f} at {thresholds[best]:.3f}")
    # Zoomed: at t = 0 the cost is thousands of times the optimum and would flatten all the rest.
    lowest = max(costs[best], LEAST_COST)
    near = np.flatnonzero(costs <= 1.6 * lowest)
    axes.set_xlim(thresholds[near[0]] - 0.01, thresholds[near[-1]] + 0.01)
    axes.set_ylim(0.97 * costs[best], 1.6 * lowest)
    axes.set(xlabel="threshold t: an answer is 1 where p > t", ylabel="abs-sum per 20k rows")
    axes.grid()


def _draw_clip_map(
    axes: Axes,
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    points: Mapping[str, tuple[float, float]],
) -> None:
    steps = (np.arange(60) + 0.5) / 60
    low_idx, high_idx = np.triu_indices(len(steps))  # low <= high
    costs = np.full((len(steps), len(steps)), np.nan)  # (high, low)
    costs[high_idx, low_idx] = threshold_costs(probs, labels, steps[low_idx], steps[high_idx])
    lowest = max(float(np.nanmin(costs)), LEAST_COST)
    norm = Normalize(lowest, 2 * lowest)
    mesh = axes.pcolormesh(steps, steps, costs, cmap="cividis_r", norm=norm, shading="nearest")
    levels = {1.05 * lowest: "+5 %", 1.2 * lowest: "+20 %"}
    if np.nanmax(costs) > max(levels):
        lines = axes.contour(steps, steps, costs, list(levels), colors=INK, linewidths=0.8)
        axes.clabel(lines, fmt=levels, fontsize=9)
    markers = "oDsP^vX*"
    for number, (name, (low, high)) in enumerate(points.items()):
        cost = threshold_costs(probs, labels, np.array([low]), np.array([high]))[0]
        axes.plot(
            np.clip(low, 0, 1),  # a threshold beyond [0, 1] means none or all
            np.clip(high, 0, 1),
            markers[number % len(markers)],
            color=CLASS_COLOURS[1 + number % (len(CLASS_COLOURS) - 1)],
            markersize=9,
            markeredgecolor="white",
            label=f"{printable(name, 20)} ({low:.3g}, {high:.3g}): {cost:,.0f}",
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="lo: p < lo becomes 0", ylabel="hi: p > hi becomes 1")
    axes.set_title("two thresholds, the band between them kept")
    if points:
        axes.legend(loc="lower right")  # the empty triangle
    axes.figure.colorbar(mesh, ax=axes, label="abs-sum per 20k rows", extend="max", pad=0.02)


def _draw_reliability(
    axes: Axes, probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> None:
    mean_probs, frequencies, counts = reliability_bins(probs, labels, 20)
    spread = N_ERRORS_OF_NOISE * np.sqrt(frequencies * (1 - frequencies) / counts)
    axes.plot((0, 1), (0, 1), color=QUIET, linewidth=1, linestyle="--", label="calibrated")
    axes.errorbar(
        mean_probs,
        frequencies,
        spread,
        color=ACCENT,
        marker="o",
        markersize=5,
        elinewidth=1.2,
        label=f"out-of-fold, ± {NOISE}",
    )
    axes.set(xlabel="probability, all classes", ylabel="share that came true", ylim=(-0.03, 1.03))
    axes.grid()
    counts_axes = axes.twinx()
    bars = counts_axes.bar(mean_probs, counts, width=0.03, color=QUIET, alpha=0.35, linewidth=0)
    counts_axes.set_yscale("log")
    # Bars keep to the lower third, below the curve's middle.
    counts_axes.set_ylim(0.7, max(counts) ** 2.2)
    counts_axes.set_axis_off()
    handles, names = axes.get_legend_handles_labels()
    names.append(f"elements, log scale, {counts.min():,} to {counts.max():,} a bin")
    axes.legend([*handles, bars], names, loc="upper left")


def _draw_confidence(axes: Axes, groups: Mapping[str, Float[np.ndarray, "n k"]]) -> None:
    n_classes = next(iter(groups.values())).shape[1]
    edges = np.linspace(1 / n_classes, 1, 31)
    for (name, probs), colour in zip(groups.items(), (ACCENT, SECOND), strict=False):
        confidence = probs.max(axis=1)
        axes.hist(
            np.clip(confidence, edges[0], edges[-1]),  # float32 rows sum to 1 only nearly
            edges.tolist(),
            weights=np.full(len(confidence), 100 / len(confidence)),
            histtype="step",
            linewidth=1.6,
            color=colour,
            label=f"{name}: mean {confidence.mean():.4f}",
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel="confidence of a row (its highest probability)", ylabel="rows (%)")
    axes.grid(axis="y")
    axes.legend(loc="upper left")


def _top_probs(probs: Float[np.ndarray, " k"]) -> str:
    best = np.argsort(-probs, kind="stable")[:2]
    return "  ".join(f"p{label} {probs[label]:.2f}" for label in best)


def _percent(share: float) -> str:
    if 0 < share < 0.01:
        return "<0.01 %"
    return f"{share:.2f} %" if share < 1 else f"{share:.1f} %"


def _cumulative(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n+1"]:
    return np.concatenate(([0.0], np.cumsum(values)))


def _group_thousands(axes: Axes, axis: str, n_ticks: int) -> None:
    target = axes.xaxis if axis == "x" else axes.yaxis
    target.set_major_locator(MaxNLocator(n_ticks, integer=True))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _plain_log_ticks(axes: Axes) -> None:
    # 200 and not 2 x 10^2; minor ticks get a number only at 2, 3 and 5, the others would touch.
    def name(value: float, _position: int | None = None) -> str:
        mantissa = round(value / 10 ** math.floor(math.log10(value)), 6)
        return f"{value:,g}" if mantissa in (1, 2, 3, 5) else ""

    axes.yaxis.set_major_formatter(FuncFormatter(name))
    low, high = axes.get_ylim()
    is_short = high < 50 * low  # otherwise the decades are numbers enough
    axes.yaxis.set_minor_formatter(FuncFormatter(name) if is_short else NullFormatter())
