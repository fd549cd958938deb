"""Pictures: equal data gives equal bytes, and what is drawn equals what a loop computes."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from hbcomp.data.dataset import lengths_of, without_padding
from hbcomp.data.synthetic import make_rows
from hbcomp.reporting.figures import data as data_figures
from hbcomp.reporting.figures import runs as pictures
from hbcomp.reporting.figures import style
from hbcomp.scoring.by_class import confusion
from hbcomp.scoring.calibration import reliability_bins
from hbcomp.scoring.decision import Clip
from hbcomp.scoring.metrics import ABS_SUM
from hbcomp.scoring.thresholds import threshold_costs

BEATS = make_rows(n=40, t=24, k=4)
SIGNALS = BEATS.signals.copy()
SIGNALS[..., 20:] = 0
LABELS, IDS = BEATS.known_labels, BEATS.ids


def some_probs(n: int = 40, k: int = 4, seed: int = 0, decimals: int = 6) -> np.ndarray:
    """Return probabilities that favour `LABELS`; few decimals make many ties."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(k), n) + 2 * np.eye(k)[LABELS[:n]] * rng.random((n, 1))
    return np.round(probs / probs.sum(axis=1, keepdims=True), decimals)


PROBS = some_probs()
SCALE = 20_000.0
SCORER = replace(ABS_SUM, scale=SCALE)
METRIC = "accuracy (higher is better)"


def a_history(n_epochs: int = 6, seed: int = 0, every: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    epoch = np.arange(1, n_epochs + 1)
    score = np.where(epoch % every == 0, 4000 / epoch + rng.random(n_epochs), np.nan)
    return {"epoch": epoch, "loss": 1 / epoch + 0.01, "lr": np.ones(n_epochs), "score": score}


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "label_counts": lambda: data_figures.label_counts(LABELS),
    "signal_lengths": lambda: data_figures.signal_lengths(SIGNALS, LABELS),
    "signal_lengths_unlabelled": lambda: data_figures.signal_lengths(SIGNALS),
    "example_signals": lambda: data_figures.example_signals(SIGNALS, LABELS % 2, IDS, 1),
    "class_mean_spread": lambda: data_figures.class_mean_spread(SIGNALS, LABELS % 2),
    "training_curves": lambda: pictures.training_curves(
        {"0": a_history(), "1": a_history(8, 1)}, METRIC
    ),
    "confusion": lambda: pictures.confusion(confusion(PROBS, LABELS)),
    "threshold_landscape": lambda: pictures.threshold_landscape(
        PROBS, LABELS, {"a": (0.1, 0.9)}, SCALE
    ),
    "reliability": lambda: pictures.reliability(PROBS, LABELS, some_probs(seed=1)),
    "costliest_rows": lambda: pictures.costliest_rows(
        SIGNALS, LABELS, PROBS, ABS_SUM.contributions(PROBS, LABELS), IDS, n=2
    ),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_equal_data_gives_equal_bytes_under_any_matplotlibrc(
    draw: Callable[[], Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "DPI", 40)  # a quarter, for speed, as is the plain layout
    first = draw()
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "black", "axes.grid": True}):
        second = draw()
        second.set_layout_engine("none")
        again = style.to_png(second)
    first.set_layout_engine("none")
    png = style.to_png(first)
    assert png == again
    assert png.startswith(b"\x89PNG")
    assert b"matplotlib" not in png


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_every_picture_has_the_width_that_a_phone_can_show(draw: Callable[[], Figure]) -> None:
    assert draw().get_size_inches()[0] == style.WIDTH


def test_drawing_leaves_the_style_of_the_process_alone() -> None:
    before = dict(mpl.rcParams)
    style.to_png(data_figures.label_counts(LABELS))
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported() -> None:
    code = "import sys, hbcomp.reporting.pages; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- costs of thresholds ----------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [1, 2, 6], ids=["many ties", "ties", "no ties"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threshold_costs_equal_the_clip_rule_applied_row_by_row(
    decimals: int, dtype: type[np.floating]
) -> None:
    probs = some_probs(decimals=decimals).astype(dtype)
    grid = np.linspace(-0.1, 1.1, 13)
    lows, highs = (values.ravel() for values in np.meshgrid(grid, grid))
    lows, highs = lows[lows <= highs], highs[lows <= highs]
    costs = threshold_costs(probs, LABELS, lows, highs, SCALE)
    brute = [
        SCORER.score(Clip(lo=lo, hi=hi).apply(probs), LABELS)
        for lo, hi in zip(lows.tolist(), highs.tolist(), strict=True)
    ]
    np.testing.assert_allclose(costs, brute, rtol=1e-12)


def test_equal_low_and_high_are_one_threshold() -> None:
    threshold = np.array([0.4321987])  # equals no probability
    cost = threshold_costs(PROBS, LABELS, threshold, threshold, SCALE)
    answers = (threshold < PROBS).astype(np.float64)
    assert cost[0] == pytest.approx(SCORER.score(answers, LABELS))


def test_crossed_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="`low <= high` must hold in every pair"):
        threshold_costs(PROBS, LABELS, np.array([0.6]), np.array([0.4]))


def test_the_heat_map_shows_the_brute_force_cost_of_every_cell() -> None:
    figure = pictures.threshold_landscape(PROBS, LABELS, {}, SCALE)
    cells = np.ma.getdata(figure.axes[1].collections[0].get_array()).reshape(60, 60)
    for low, high in [(0, 0), (5, 30), (17, 59), (59, 59)]:
        rule = Clip(lo=(low + 0.5) / 60, hi=(high + 0.5) / 60)
        assert cells[high, low] == pytest.approx(SCORER.score(rule.apply(PROBS), LABELS))


def test_marked_points_carry_their_cost_and_stay_inside_the_map() -> None:
    points = {"none": (1.5, 1.5), "<b>$x$": (0.1, 0.9)}
    figure = pictures.threshold_landscape(PROBS, LABELS, points, SCALE)
    legend = figure.axes[1].get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    reference = SCORER.score(Clip(lo=0.1, hi=0.9).apply(PROBS), LABELS)
    assert texts == ["none (1.5, 1.5): 20000.0", f"<b>$x$ (0.1, 0.9): {reference:.1f}"]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[1.0, 1.0]]


# --- probabilities ----------------------------------------------------------------------------


def test_reliability_bins_equal_a_loop_over_the_bins() -> None:
    means, frequencies, counts = reliability_bins(PROBS, LABELS, 5)
    values, truths = PROBS.ravel(), np.eye(4)[LABELS].ravel()
    expected = []
    for number in range(5):
        last = number == 4
        inside = (values >= number / 5) & ((values < (number + 1) / 5) | last)
        if inside.any():
            expected.append((values[inside].mean(), truths[inside].mean(), inside.sum()))
    np.testing.assert_allclose(np.transpose((means, frequencies, counts)), expected)


def test_every_probability_is_counted_once_and_empty_bins_are_left_out() -> None:
    probs = np.eye(4)[LABELS]
    means, frequencies, counts = reliability_bins(probs, LABELS, 20)
    assert (means.tolist(), frequencies.tolist()) == ([0.0, 1.0], [0.0, 1.0])
    assert counts.tolist() == [120, 40]


@pytest.mark.parametrize(
    "probs", [np.eye(4)[LABELS], np.full((40, 4), 0.25)], ids=["perfect", "clueless"]
)
@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_extreme_probabilities_can_be_drawn(
    probs: np.ndarray, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "DPI", 40)
    style.to_png(pictures.threshold_landscape(probs, LABELS, {"half": (0.5, 0.5)}, scale))
    style.to_png(pictures.reliability(probs, LABELS))


def test_costliest_rows_come_first_and_among_equals_the_least_probable_truth() -> None:
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.99, 0.01]])
    labels, losses = np.array([1, 1, 1, 1]), np.array([2.0, 1.0, 0.0, 2.0])
    figure = pictures.costliest_rows(
        SIGNALS[:4], labels, probs, losses, np.array(["a", "b", "c", "$d$\n"]), n=3
    )
    first_lines = [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes]
    assert first_lines == ["id $d$\\n", "id a", "id b"]
    assert "true 1, loses 0.5\n" in figure.axes[0].get_title(loc="left")
    assert "0: 0.99, 1: 0.01" in figure.axes[0].get_title(loc="left")
    style.to_png(figure)


@pytest.mark.parametrize(("losses", "n_shown"), [([0, 1, 0, 1], 2), ([0, 0, 0, 0], 1)])
def test_rows_that_lose_nothing_are_not_among_the_costliest(losses, n_shown) -> None:
    probs = np.full((4, 2), 0.5)
    figure = pictures.costliest_rows(
        SIGNALS[:4], np.zeros(4, dtype=int), probs, np.array(losses, float), np.arange(4)
    )
    assert sum(bool(axes.lines) for axes in figure.axes) == n_shown


# --- runs -------------------------------------------------------------------------------------


def test_the_mean_is_drawn_only_where_every_fold_has_a_value() -> None:
    long, short = a_history(8, every=2), a_history(6, seed=1, every=3)
    figure = pictures.training_curves({"0": long, "1": short}, METRIC)
    loss_mean, score_mean = (axes.lines[-1] for axes in figure.axes)
    assert loss_mean.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert score_mean.get_xdata().tolist() == [6]
    assert score_mean.get_ydata()[0] == pytest.approx((long["score"][5] + short["score"][5]) / 2)


def test_the_curve_of_the_score_says_the_metric() -> None:
    figure = pictures.training_curves({"0": a_history()}, METRIC)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "training loss (nats)",
        "accuracy\n(higher is better)",
    ]


def test_a_score_that_was_never_measured_gets_no_panel() -> None:
    history = a_history() | {"score": np.full(6, np.nan)}
    figure = pictures.training_curves({"0": history}, METRIC)
    assert len(figure.axes) == 1
    style.to_png(figure)


def test_many_folds_share_one_legend_entry() -> None:
    figure = pictures.training_curves({f"{i}": a_history(3, i) for i in range(20)}, METRIC)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["mean"]


def test_confusion_cells_name_counts_and_shares_of_their_row() -> None:
    figure = pictures.confusion(np.array([[99_990, 10, 0], [0, 0, 0]]))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["99,990\n100.0 %", "10\n0.01 %", "0\n0.00 %", "0\n0.00 %"]
    style.to_png(figure)


# --- data -------------------------------------------------------------------------------------


def test_lengths_up_to_padding_equal_trimming_each_row() -> None:
    rng = np.random.default_rng(0)
    signals = rng.integers(0, 3, (50, 6)).astype(np.float32)  # zeros inside and at the ends
    signals[0] = 0
    expected = [len(np.trim_zeros(row, "b")) for row in signals]
    assert lengths_of(without_padding(signals[:, None], 0.0)).tolist() == expected


def test_bars_name_count_and_per_cent() -> None:
    figure = data_figures.label_counts(np.array([0] * 1500 + [1] * 500))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["1,500 (75.0 %)", "500 (25.0 %)"]


def test_a_class_keeps_its_colour_when_others_are_missing() -> None:
    kept = LABELS >= 2
    axes = data_figures.signal_lengths(SIGNALS[kept], LABELS[kept]).axes[0]
    colours = [to_hex(patch.get_edgecolor()) for patch in axes.patches]
    assert colours == [style.class_colour(2), style.class_colour(3)]


def test_lengths_of_each_class_add_up_to_100_per_cent() -> None:
    axes = data_figures.signal_lengths(SIGNALS, LABELS).axes[0]
    for patch in axes.patches:
        path = patch.get_path().vertices  # two corners per bin, after the start at zero
        assert path[1::2, 1][:-1].sum() == pytest.approx(100)


def test_examples_are_distinct_rows_of_their_class() -> None:
    labels = np.array([0, 0, 0, 0, 0, 1])
    figure = data_figures.example_signals(SIGNALS[:6], labels, IDS[:6], n_per_class=4)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["id 0", "id 1", "id 2", "id 4", "id 5", "", "", ""]


def test_a_label_column_of_many_values_still_fits_on_a_page() -> None:
    labels = np.arange(400)
    signals = np.zeros((400, 1, 5), dtype=np.float32)
    for figure in (
        data_figures.label_counts(labels),
        data_figures.example_signals(signals, labels, labels.astype(str), n_per_class=1),
        pictures.confusion(np.eye(400, 401, dtype=np.int64)),
    ):
        assert figure.get_size_inches()[1] < 30


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("7", "7"),
        ("$x$", "$x$"),
        ("<script>", "<script>"),
        ("心", "\\u5fc3"),
        ("a\nb", "a\\nb"),
        ("0123456789012345", "012345678901.."),
    ],
)
def test_names_are_shown_as_short_plain_text(name: str, shown: str) -> None:
    assert style.printable(name) == shown
