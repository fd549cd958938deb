"""Figures of a run: arrays in, a matplotlib Figure out; no files, no pyplot, no changed style.

Every figure is 6.4 inches wide with 11-point text, so that it stays readable when a phone shows
it at 360 pixels; panels are therefore stacked, never put side by side.
"""

import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import replace
from typing import Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hbcomp.reporting.figures.style import (
    ACCENT,
    CLASS_COLOURS,
    INK,
    MAX_CLASSES,
    QUIET,
    SECOND,
    class_colour,
    class_text,
    draw_signal,
    new_figure,
    percent,
    plain_log_ticks,
    printable,
    signal_grid,
    styled,
)
from hbcomp.scoring.calibration import reliability_bins
from hbcomp.scoring.metrics import ABS_SUM, describe_metric
from hbcomp.scoring.paired import N_ERRORS_OF_NOISE, NOISE, as_text
from hbcomp.scoring.thresholds import threshold_costs

LEAST_COST: Final = 5e-5  # of a row: where a perfect model's zero cannot span an axis
MAX_NAMED: Final = 11  # folds in a legend: three lines of four with the mean

Histories = Mapping[str, Mapping[str, Float[np.ndarray, " _"] | Int[np.ndarray, " _"]]]


@styled
def training_curves(histories: Histories, metric: str) -> Figure:
    """Return loss and, where it was measured, a metric per epoch: a line per fold.

    A history holds the arrays `epoch`, `loss` and `score` (NaN where not measured). The
    mean is drawn only at epochs at which every fold has a value.
    """
    has_scores = any(np.isfinite(history["score"]).any() for history in histories.values())
    names = ["loss", "score"] if has_scores else ["loss"]
    figure = new_figure(0.8 + 2.4 * len(names))
    grid = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    axis_labels = {"loss": "training loss (nats)", "score": _on_two_lines(metric)}
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
def confusion(counts: Int[np.ndarray, "k k+1"], classes: Sequence[str] = ()) -> Figure:
    """Return the confusion matrix (rows are the truth) with counts and per cents of the row.

    The last column, of rows that are answered none, is drawn only where there are such rows. Colour
    is the logarithm of the row's share, because the interesting cells hold well under 1 %.
    """
    n_classes = len(counts)
    has_none = bool(counts[:, n_classes].any())
    counts = counts if has_none else counts[:, :n_classes]
    totals = counts.sum(axis=1, keepdims=True)
    shares = 100 * counts / np.maximum(totals, 1)
    figure = new_figure(1.0 + min(5.4, 1.05 * n_classes))
    axes = figure.subplots()
    norm = LogNorm(0.01, 100)
    image = axes.imshow(np.maximum(shares, 0.01), cmap="Blues", norm=norm, aspect="auto")
    n_written = n_classes if n_classes <= MAX_CLASSES else 0  # smaller text cannot be read
    for truth, predicted in np.ndindex(n_written, n_written and n_classes + has_none):
        share = shares[truth, predicted]
        axes.text(
            predicted,
            truth,
            f"{counts[truth, predicted]:,}\n{percent(share)}",
            ha="center",
            va="center",
            fontsize=min(11, 48 / n_classes),
            color="white" if norm(max(share, 0.01)) > 0.55 else INK,
        )
    ticks = range(0, n_classes, math.ceil(n_classes / MAX_CLASSES))
    axes.set(xlabel="answered class", ylabel="true class")
    names = [class_text(label, classes) for label in ticks]
    axes.set_yticks(ticks, names)
    axes.set_xticks([*ticks, *[n_classes] * has_none], [*names, *["none"] * has_none])
    if max(map(len, names)) > 4:  # side by side they would overlap
        axes.tick_params(axis="x", rotation=30)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, label="share of the true class (%)", pad=0.02)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return figure


@styled
def threshold_landscape(
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    points: Mapping[str, tuple[float, float]],
    scale: float,
) -> Figure:
    """Return the cost of one threshold, and below it of every `clip(lo, hi)`, with `points` marked.

    The colour range ends at twice the optimum: beyond it a rule is merely bad.
    """
    figure = new_figure(8.6)
    line_axes, map_axes = figure.subplots(2, 1, height_ratios=(1, 1.75))
    _draw_single_threshold(line_axes, probs, labels, scale)
    _draw_clip_map(map_axes, probs, labels, points, scale)
    return figure


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
    figure = new_figure(7.4)
    curve_axes, confidence_axes = figure.subplots(2, 1, height_ratios=(1.35, 1))
    _draw_reliability(curve_axes, probs, labels)
    groups = {"out-of-fold": probs} | ({} if test_probs is None else {"test": test_probs})
    _draw_confidence(confidence_axes, groups)
    return figure


@styled
def costliest_rows(
    signals: Float[np.ndarray, "n c t"],
    labels: Int[np.ndarray, " n"],
    probs: Float[np.ndarray, "n k"],
    losses: Float[np.ndarray, " n"],
    ids: Shaped[np.ndarray, " n"],
    n: int = 12,
    classes: Sequence[str] = (),
) -> Figure:
    """Return the rows that lose most, the least probable truth first among equals.

    Each says what it alone takes from the score, which is the mean of `losses`. Of the rows that
    lose least there is one where all rows do.
    """
    truth_probs = probs[np.arange(len(labels)), labels]
    n_costly = max(1, int((losses > losses.min()).sum()))
    chosen = np.lexsort((truth_probs, -losses))[: min(n, n_costly)]
    figure, panels = signal_grid(len(chosen))
    for axes, row in zip(panels, chosen, strict=True):
        draw_signal(axes, signals[row], class_colour(int(labels[row])))
        truth = class_text(int(labels[row]), classes)
        title = f"id {printable(ids[row])}\ntrue {truth}, loses {losses[row] / len(losses):.3g}"
        axes.set_title(f"{title}\n{_top_probs(probs[row], classes)}", fontsize=8, pad=3)
    return figure


# --- parts ------------------------------------------------------------------------------------


def _draw_folds(axes: Axes, histories: Histories, name: str) -> None:
    colours = mpl.colormaps["cividis"](np.linspace(0, 0.85, len(histories)))
    for (fold, history), colour in zip(histories.items(), colours, strict=True):
        is_measured = np.isfinite(history[name])
        epochs = history["epoch"][is_measured]
        values = history[name][is_measured]
        label = printable(fold) if len(histories) <= MAX_NAMED else None
        axes.plot(epochs, values, _marker(epochs), color=colour, lw=0.9, label=label)
    mean = _mean_over_folds(histories, name)
    if len(histories) > 1 and len(mean):
        axes.plot(mean.index, mean, _marker(mean), color=SECOND, lw=2.2, label="mean")
    low, high = axes.dataLim.intervaly
    if high > 3 * low > 0:  # below a factor of three a logarithmic axis has hardly a tick
        axes.set_yscale("log")
        plain_log_ticks(axes)
    axes.grid(which="both")


def _marker(values: Sized) -> str:
    return ".-" if len(values) < 30 else "-"  # a value measured once would not be seen as a line


def _mean_over_folds(histories: Histories, name: str) -> pd.Series:
    """Return the mean by epoch, of the epochs at which every fold has a value."""
    by_fold = [pd.Series(each[name], index=each["epoch"]).dropna() for each in histories.values()]
    mean: pd.Series = pd.concat(by_fold, axis=1, join="inner").mean(axis=1).sort_index()
    return mean


def _draw_single_threshold(
    axes: Axes, probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], scale: float
) -> None:
    # Odd multiples of 1/2000: no threshold at a round value, which rounded probabilities hit.
    thresholds = np.arange(1, 2000, 2) / 2000
    costs = threshold_costs(probs, labels, thresholds, thresholds, scale)
    best = int(np.argmin(costs))
    axes.plot(thresholds, costs, color=ACCENT)
    axes.plot(thresholds[best], costs[best], "o", color=SECOND)
    axes.set_title(f"one threshold: lowest {as_text(costs[best])} at {thresholds[best]:.3f}")
    # Zoomed: at t = 0 the cost is thousands of times the optimum and would flatten all the rest.
    lowest = max(costs[best], LEAST_COST * scale)
    near = np.flatnonzero(costs <= 1.6 * lowest)
    axes.set_xlim(thresholds[near[0]] - 0.01, thresholds[near[-1]] + 0.01)
    axes.set_ylim(0.97 * costs[best], 1.6 * lowest)
    axes.set(
        xlabel="threshold t: an answer is 1 where p > t", ylabel=_on_two_lines(_abs_sum(scale))
    )
    axes.grid()


def _on_two_lines(metric: str) -> str:
    """Return a metric and its direction as short as the label of a low panel must be."""
    return metric.replace(" (", "\n(")


def _abs_sum(scale: float) -> str:
    return describe_metric(replace(ABS_SUM, scale=scale))


def _draw_clip_map(
    axes: Axes,
    probs: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    points: Mapping[str, tuple[float, float]],
    scale: float,
) -> None:
    steps = (np.arange(60) + 0.5) / 60
    low_idx, high_idx = np.triu_indices(len(steps))  # low <= high
    costs = np.full((len(steps), len(steps)), np.nan)  # (high, low)
    costs[high_idx, low_idx] = threshold_costs(
        probs, labels, steps[low_idx], steps[high_idx], scale
    )
    lowest = max(float(np.nanmin(costs)), LEAST_COST * scale)
    norm = Normalize(lowest, 2 * lowest)
    mesh = axes.pcolormesh(steps, steps, costs, cmap="cividis_r", norm=norm, shading="nearest")
    levels = {1.05 * lowest: "+5 %", 1.2 * lowest: "+20 %"}
    if np.nanmax(costs) > max(levels):
        lines = axes.contour(steps, steps, costs, list(levels), colors=INK, linewidths=0.8)
        axes.clabel(lines, fmt=levels, fontsize=9)
    markers = "oDsP^vX*"
    for number, (name, (low, high)) in enumerate(points.items()):
        cost = threshold_costs(probs, labels, np.array([low]), np.array([high]), scale)[0]
        axes.plot(
            np.clip(low, 0, 1),  # a threshold beyond [0, 1] means none or all
            np.clip(high, 0, 1),
            markers[number % len(markers)],
            color=CLASS_COLOURS[1 + number % (len(CLASS_COLOURS) - 1)],
            markersize=9,
            markeredgecolor="white",
            label=f"{printable(name, 20)} ({low:.3g}, {high:.3g}): {as_text(cost)}",
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="lo: p < lo becomes 0", ylabel="hi: p > hi becomes 1")
    axes.set_title("two thresholds, the band between them kept")
    if points:
        axes.legend(loc="lower right")  # the empty triangle
    axes.figure.colorbar(mesh, ax=axes, label=_abs_sum(scale), extend="max", pad=0.02)


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


def _top_probs(probs: Float[np.ndarray, " k"], classes: Sequence[str]) -> str:
    best = np.argsort(-probs, kind="stable")[:2]
    names = [printable(class_text(label, classes), 10) for label in best.tolist()]
    return ", ".join(f"{name}: {probs[label]:.2f}" for name, label in zip(names, best, strict=True))
