"""Pictures of several experiments: what is drawn is what was given, in the same bytes."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from hbcomp.data.synthetic import make_rows
from hbcomp.reporting.figures import comparisons as pictures_of_runs
from hbcomp.reporting.figures import style

BEATS = make_rows(n=5, t=24, k=4)
SCORES, ERRORS = np.array([10.0, 12.0, 15.5]), np.array([1.0, 2.0, 0.5])
METRIC = "accuracy (higher is better)"
NAMES = ["a", "$b$", "a name of more than twenty-six letters"]

DRAWINGS: dict[str, Callable[[], Figure]] = {
    "changed_signals": lambda: pictures_of_runs.changed_signals(
        BEATS.signals,
        BEATS.known_labels,
        BEATS.ids,
        predicted=np.array([[0, 1], [-1, 2], [3, 0], [1, 1], [0, -1]]),
        truth_probs=np.linspace(0, 1, 10).reshape(5, 2),
    ),
    "ranking": lambda: pictures_of_runs.ranking(NAMES, SCORES, ERRORS, METRIC),
    "expected_against_real": lambda: pictures_of_runs.expected_against_real(
        NAMES, SCORES, ERRORS, SCORES[::-1].copy(), METRIC
    ),
    "one_submission": lambda: pictures_of_runs.expected_against_real(
        NAMES[:1], SCORES[:1], ERRORS[:1], SCORES[:1], METRIC
    ),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_equal_data_gives_equal_bytes(draw: Callable[[], Figure]) -> None:
    assert style.to_png(draw()) == style.to_png(draw())


def test_a_signal_says_what_both_predict() -> None:
    titles = [axes.get_title(loc="left") for axes in DRAWINGS["changed_signals"]().axes]
    label = int(BEATS.known_labels[1])
    said = f"A predicts none, p{label} 0.22\nB predicts 2, p{label} 0.33"
    assert titles[1] == f"id {BEATS.ids[1]}, true {label}\n{said}"
    assert titles[5:] == [""]


def test_the_axes_say_the_metric_and_its_direction() -> None:
    for name, words in (("ranking", METRIC), ("expected_against_real", f"expected {METRIC}")):
        (axes,) = DRAWINGS[name]().axes
        assert axes.get_xlabel().startswith(words)


def test_the_best_is_on_top_with_its_interval() -> None:
    (axes,) = DRAWINGS["ranking"]().axes
    (container,) = axes.containers
    points, _, (bars,) = container.lines
    np.testing.assert_allclose(points.get_xdata(), SCORES)
    low, high = axes.get_ylim()
    assert low > high
    widths = [segment[1, 0] - segment[0, 0] for segment in bars.get_segments()]
    np.testing.assert_allclose(widths, 2 * 2 * ERRORS)
