"""Draw docs/images/results.png: score against minutes, ours and public ones, from docs/results.csv.

python experiments/plot_results.py

Of the public results no time is known, so they are horizontal lines.
"""

import csv
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

DOCS = Path(__file__).parents[1] / "docs"
COLOURS = {"2 CPU cores": "#0072b2", "H200": "#d55e00"}
MARKERS = {"out-of-fold": "o", "testA": "^"}
# Where a label stands beside its point, in points, so that none lies on another.
OFFSETS = {
    "best-cpu": (8, -4),
    "best-cpu-lines": (8, 2),
    "best-gpu": (-8, -4),
    "resnet (5 folds x 2 seeds)": (8, -4),
    "best-cpu-resnet": (-8, 6),
    "reference net, 480 epochs": (-8, -4),
    "lines (10 folds)": (-8, -3),
    "best-gpu-lines": (-8, -4),
}


def main() -> None:
    """Read the table and draw it."""
    with (DOCS / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        if row["minutes"]:
            _draw_ours(axes, row)
        else:
            _draw_public(axes, row)
    for hardware, colour in COLOURS.items():
        axes.plot([], [], "s", color=colour, label=f"hbcomp, {hardware}")
    for scored_on, marker in MARKERS.items():
        axes.plot([], [], marker, color="grey", label=f"hbcomp, scored on {scored_on} rows")
    axes.plot([], [], "--", color="grey", label="public, on the leaderboard, time not known")
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(0.15, 400),
        ylim=(110, 650),
        xlabel="minutes from start to report (training alone for the reference net)",
        ylabel="abs-sum per 20,000 rows (lower is better)",
    )
    axes.xaxis.set_major_locator(FixedLocator([0.5, 1, 5, 10, 30, 60]))
    axes.yaxis.set_major_locator(FixedLocator([120, 150, 200, 250, 300, 400, 600]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8.5, loc="outside upper center", ncols=3)
    (DOCS / "images").mkdir(exist_ok=True)
    figure.savefig(DOCS / "images/results.png", dpi=110)


def _draw_ours(axes, row) -> None:
    minutes, score = float(row["minutes"]), float(row["score"])
    colour = COLOURS[row["hardware"]]
    axes.plot(minutes, score, MARKERS[row["scored_on"]], color=colour, markersize=8)
    offset = OFFSETS.get(row["model"], (8, 4))
    axes.annotate(
        f"{row['model']}  {score:.4g}",
        (minutes, score),
        offset,
        textcoords="offset points",
        ha="left" if offset[0] > 0 else "right",
        fontsize=8.5,
        color=colour,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9},
    )


def _draw_public(axes, row) -> None:
    score = float(row["score"])
    axes.axhline(score, color="grey", linewidth=0.8, linestyle="--", alpha=0.6, zorder=0)
    axes.annotate(
        f"{row['model']}  {score:.4g}",
        (390, score),
        (0, 2),
        textcoords="offset points",
        ha="right",
        fontsize=7.5,
        color="dimgrey",
    )


if __name__ == "__main__":
    main()
