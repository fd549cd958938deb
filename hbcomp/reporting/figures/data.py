"""Figures of the data: labels, lengths and waveforms; arrays in, a matplotlib Figure out."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hbcomp.data.dataset import lengths_of
from hbcomp.reporting.figures.style import (
    MAX_CLASSES,
    QUIET,
    class_colour,
    class_text,
    draw_signal,
    group_thousands,
    new_figure,
    panel_grid,
    printable,
    styled,
)


@styled
def label_counts(labels: Int[np.ndarray, " n"], classes: Sequence[str] = ()) -> Figure:
    """Return bars with the count and the per cent of every class, at most the first 20."""
    counts = np.bincount(labels)
    n_classes = len(counts)
    counts = counts[:MAX_CLASSES]
    figure = new_figure(0.8 + 0.5 * len(counts))
    axes = figure.subplots()
    names = [f"class {class_text(label, classes)}" for label in range(len(counts))]
    colours = [class_colour(label) for label in range(len(counts))]
    bars = axes.barh(names, counts, color=colours, height=0.7)
    shares = 100 * counts / len(labels)
    texts = [f"{n:,} ({share:.1f} %)" for n, share in zip(counts, shares, strict=True)]
    axes.bar_label(bars, texts, padding=4)
    left_out = f" (the first {len(counts)} of {n_classes} classes)"
    axes.set_xlabel("rows" + left_out * (n_classes > len(counts)))
    axes.set_xlim(0, 1.38 * counts.max())  # room for the longest text
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    group_thousands(axes, "x", 4)
    return figure


@styled
def signal_lengths(
    signals: Float[np.ndarray, "n c t"],
    labels: Int[np.ndarray, " n"] | None = None,
    classes: Sequence[str] = (),
) -> Figure:
    """Return the histogram of the lengths up to the last value, each class adding up to 100 %."""
    lengths = lengths_of(signals)
    n_timepoints = signals.shape[2]
    step = max(1, round(n_timepoints / 50))
    edges = np.arange(0, n_timepoints + step + 1, step) - 0.5
    figure = new_figure(3.6)
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
            label=f"class {class_text(label, classes)}" if labels is not None else "all rows",
        )
    axes.set(xlabel="length without padding (time steps)", ylabel="rows of the class (%)")
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(axis="y")
    axes.legend()
    return figure


@styled
def example_signals(
    signals: Float[np.ndarray, "n c t"],
    labels: Int[np.ndarray, " n"],
    ids: Shaped[np.ndarray, " n"],
    n_per_class: int = 4,
    classes: Sequence[str] = (),
) -> Figure:
    """Return a few signals of every class, taken at even distances through its rows."""
    of_class = _rows_by_class(labels, len(signals))
    figure, grid = panel_grid(len(of_class) * n_per_class, n_per_class, 1.35, top=0.6)
    for place, (label, rows) in enumerate(of_class):
        panels = grid[place * n_per_class : (place + 1) * n_per_class]
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, n_per_class).astype(int))]
        for axes, row in zip(panels, chosen, strict=False):
            draw_signal(axes, signals[row], class_colour(label))
            axes.set_title(f"id {printable(ids[row], 11)}", fontsize=9, pad=3)
        for axes in panels[len(chosen) :]:
            axes.set_axis_off()
        panels[0].set_ylabel(f"class {class_text(label, classes)}")
    return figure


@styled
def class_mean_spread(
    signals: Float[np.ndarray, "n c t"], labels: Int[np.ndarray, " n"], classes: Sequence[str] = ()
) -> Figure:
    """Return the mean of every class and the band of its middle 80 %, of the rows with a value.

    Of several channels the first one is drawn.
    """
    signals = signals[:, 0]  # (n, t)
    of_class = _rows_by_class(labels, len(signals))
    figure, panels = panel_grid(len(of_class), min(2, len(of_class)), 2.0, top=0.9)
    mean_of_all = _mean_and_band(signals)[0]
    time_steps = np.arange(signals.shape[1])
    for axes, (label, rows) in zip(panels, of_class, strict=True):
        mean, low, high = _mean_and_band(signals[rows])
        colour = class_colour(label)
        axes.fill_between(time_steps, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(time_steps, mean_of_all, color=QUIET, linewidth=1, linestyle="--")
        axes.plot(time_steps, mean, color=colour)
        axes.set_title(f"class {class_text(label, classes)}  (n = {len(rows):,})")
        axes.grid()
    figure.supylabel("amplitude (scaled)", fontsize=11)
    return figure


@styled
def drift_map(maps: Mapping[str, Float[np.ndarray, "c s"]], edges: Sequence[int]) -> Figure:
    """Return maps of the channels over time, one below another, each under its name.

    A column of a map is a segment of time, from one of the edges to the next. White is 0 or less.
    """
    n_channels = len(next(iter(maps.values())))
    figure = new_figure(len(maps) * (1.3 + 0.28 * min(n_channels, MAX_CLASSES)))
    panels = figure.subplots(len(maps), 1, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, maps.items(), strict=True):
        borders = np.arange(n_channels + 1) + 0.5
        mesh = axes.pcolormesh(
            edges, borders, values, cmap="Blues", vmin=0, vmax=max(float(values.max()), 1e-3)
        )
        figure.colorbar(mesh, ax=axes, pad=0.02)
        axes.set(title=name, ylabel="channel")
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.invert_yaxis()
    panels[-1].set_xlabel("time step")
    return figure


def _mean_and_band(signals: Float[np.ndarray, "n t"]) -> Float[np.ndarray, "3 t"]:
    """Return mean, 10 % and 90 % quantile of each time step, NaN where no row has a value."""
    found = np.full((3, signals.shape[1]), np.nan)
    is_value = ~np.isnan(signals)
    for step in np.flatnonzero(is_value.any(axis=0)):
        values = signals[is_value[:, step], step]
        found[:, step] = values.mean(dtype=np.float64), *np.quantile(values, (0.1, 0.9))
    return found


def _rows_by_class(
    labels: Int[np.ndarray, " n"] | None, n: int
) -> list[tuple[int, Int[np.ndarray, " rows"]]]:
    if labels is None:
        return [(0, np.arange(n))]
    drawn = np.unique(labels)[:MAX_CLASSES]
    return [(int(label), np.flatnonzero(labels == label)) for label in drawn]
