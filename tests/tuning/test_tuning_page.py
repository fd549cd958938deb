"""The page of a search: its numbers are the summary's, and no state of a study breaks it."""

import html
import re
from copy import deepcopy

import numpy as np
import pytest
from matplotlib.layout_engine import PlaceHolderLayoutEngine

from hbcomp.reporting.figures import style
from hbcomp.reporting.figures import tuning as drawings
from hbcomp.tuning import tuning_page as page

NETS = [{"strides": [4], "widths": [32]}, {"strides": [2, 2], "widths": [8, 16]}]
SPACE = {
    "train.lr": {"low": 1e-3, "high": 2e-2, "log": True},
    "train.schedule.kind": {"choices": ["linear", "step"]},
    "train.schedule.every": {"low": 2, "high": 8, "when": {"train.schedule.kind": ["step"]}},
    "net": {"choices": NETS},
}
PARAMS = {
    "train.lr": 0.004,
    "train.schedule.kind": "linear",
    "net": '{"strides": [4], "widths": [32]}',
}
CONFIRMED = {
    "seeds": [1000, 1001],
    "n_rows": 4000,
    "base": {"search": 1290.0, "fresh": 1300.0},
    "candidates": [{"trial": 4, "search": 1190.0, "fresh": 1250.0}],
    "winner": {"trial": 4, "fresh": 1255, "base": 1310, "difference": -55, "standard_error": 30.0},
}
THRESHOLDS = {
    "n_trials": 100,
    "optuna": 229.01,
    "exact": 228.60,
    "regret": 0.41,
    "exact_cross_fitted": 231.8,
}


@pytest.fixture(autouse=True)
def quick_drawing(monkeypatch):
    """Draw few pixels and do not arrange them: what is claimed here needs neither."""
    draw = style.new_figure

    def plain(height):
        figure = draw(height)
        figure.set_layout_engine(
            PlaceHolderLayoutEngine(adjust_compatible=False, colorbar_gridspec=False)
        )
        return figure

    monkeypatch.setattr(style, "DPI", 20)
    monkeypatch.setattr(style, "new_figure", plain)


def a_trial(number, score=None, state="complete", n_folds=5, **others):
    blank = {"params": PARAMS, "seconds": 30.0, "stopped": None, "unscored": None}
    return {
        **blank,
        "number": number,
        "state": state,
        "score": score,
        "n_folds": n_folds,
    } | others


def a_pruned_trial(number, n_folds, n_rows, score=None, deficit=250.0, **others):
    stopped = {
        "deficit": deficit,
        "standard_error": 60.0,
        "boundary": 180.0,
        "incumbent": 4,
        "n_rows": n_rows,
    }
    return a_trial(number, score, "pruned", n_folds, **({"stopped": stopped} | others))


TRIALS = [
    a_trial(0, 1290.0),
    a_trial(1, 1350.0, "carried"),
    a_pruned_trial(2, 1, 800, 1600.0),
    a_pruned_trial(3, 2, 2400, 1500.0, deficit=190.0),  # stopped within its third fold
    a_trial(4, 1190.0, params=PARAMS | {"train.schedule.kind": "step", "train.schedule.every": 3}),
    a_trial(5, None, "pruned", 0, unscored="epoch 1: the loss is nan"),
    a_trial(6, None, "failed", 1),
    a_trial(7, 9000.0),
]


def a_summary(trials=TRIALS, **others):
    return {
        "experiment": "quickstart",
        "study": "tune v2",
        "metric": "abs-sum per 20,000 rows (lower is better)",
        "greater_is_better": False,
        "best_possible": 0.0,
        "rule": "half",
        "n_rows": 4000,
        "n_folds": 5,
        "seed": 0,
        "base_trial": 0,
        "trials": trials,
        "importances": {"train.lr": 0.6, "train.schedule.kind": 0.4},
        "confirmed": CONFIRMED,
        "thresholds": THRESHOLDS,
        "space": SPACE,
        "machines": {},
        "environment": {"torch": "2.13", "n_cores": 2},
    } | others


def written(summary, folder):
    return page.write_page(summary, folder).read_text(encoding="utf-8")


def without_pictures(text):
    return html.unescape(re.sub(r"base64,[^\"]*", "", text))


def test_the_page_holds_every_picture_and_table(tmp_path):
    text = without_pictures(written(a_summary(), tmp_path))
    names = ["history", "confirmed", "importances", "slices-1"]
    for name in names:
        assert f'id="tune-{name}"' in text
    found = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert found == {f"tune-{name}.png" for name in names}
    titles = (
        "Best 4 of 4",
        "fresh seed 1000",
        "Thresholds",
        "The search space",
        "Pruned",
        "Provenance",
    )
    assert [title for title in titles if title not in text] == []


def test_the_same_summary_gives_the_same_bytes(tmp_path):
    pages = [written(deepcopy(a_summary()), tmp_path / name) for name in "ab"]
    assert pages[0] == pages[1]
    for picture in (tmp_path / "a" / "pictures").iterdir():
        assert picture.read_bytes() == (tmp_path / "b" / "pictures" / picture.name).read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_text_from_data_is_escaped(tmp_path):
    hostile = "<script>alert('x')</script>\"&$x^$"
    trials = [
        a_trial(0, 1290.0, params={hostile: hostile}),
        a_trial(1, None, "pruned", 0, unscored=hostile),
    ]
    summary = a_summary(
        trials,
        experiment=hostile,
        study=hostile,
        rule=hostile,
        importances={hostile: 1.0},
        space={hostile: {"choices": [hostile, "b"], "when": {hostile: [hostile]}}},
        environment={hostile: hostile},
    )
    text = written(summary, tmp_path)
    assert "<script" not in text
    assert without_pictures(text).count(hostile) > 12


@pytest.mark.parametrize(
    ("trials", "others", "n_pictures"),
    [
        ([], {}, 0),
        ([a_trial(0, 1290.0)], {}, 2),
        ([a_trial(0, 0.0)], {}, 2),
        ([a_trial(0, 1290.0, params={})], {}, 1),
        ([a_trial(0, None, "failed", 0)], {}, 0),
        ([a_pruned_trial(0, 0, 800)], {}, 0),
        ([a_pruned_trial(0, 1, 800, 1500.0), a_pruned_trial(1, 0, 800)], {}, 2),
        ([a_trial(3, 1290.0, "carried")], {"base_trial": None}, 2),
        ([a_trial(0, 1290.0)], {"importances": {"train.lr": 0.0}, "space": {}}, 2),
    ],
    ids=[
        "no trial",
        "one trial",
        "a perfect one",
        "nothing varied",
        "only failed",
        "none with a value",
        "all pruned",
        "no base",
        "no space",
    ],
)
def test_every_state_of_emptiness_can_be_shown(trials, others, n_pictures, tmp_path):
    empty = {"importances": {}, "confirmed": None, "thresholds": None}
    summary = a_summary(trials, **(empty | others))
    text = without_pictures(written(summary, tmp_path))
    assert text.count("<figure") == n_pictures
    assert not re.search(r"\bnan\b", text)
    assert [table.title[:4] for table in page.tables(summary)] == ["Best"] * text.count("<h2>Best")


def test_two_hundred_trials_of_fifteen_parameters_fill_three_pictures_of_slices(tmp_path):
    space = {f"augment.extra_{number}": {"low": 0.0, "high": 1.0} for number in range(15)}
    trials = [
        a_pruned_trial(n, 1, 800, 2000.0 + n, params=dict.fromkeys(space, n / 200))
        for n in range(200)
    ]
    text = without_pictures(
        written(a_summary(trials, space=space, importances={}, confirmed=None), tmp_path)
    )
    assert text.count('id="tune-slices-') == 3
    assert f"Pruned trials: {page.N_PRUNED} of 200" in text


@pytest.mark.parametrize(
    ("trials", "n_saved"),
    [
        ([a_trial(0, 1290.0)], 0),
        ([a_pruned_trial(0, 1, 800)], 4),
        ([a_pruned_trial(0, 0, 800)], 4),  # its first fold was in training
        ([a_pruned_trial(0, 4, 3200)], 1),
        ([a_pruned_trial(0, 4, 4000)], 0),
        ([a_trial(0, None, "pruned", 2, unscored="epoch 1: nan")], 2),
        ([a_trial(0, None, "failed", 1)], 0),
        (TRIALS, 4 + 2 + 4),
    ],
)
def test_saved_are_the_folds_of_pruned_trials_that_were_never_begun(trials, n_saved):
    assert page.n_saved(a_summary(trials)) == n_saved


def test_folds_of_unequal_size_are_counted_whole():
    sizes = [801, 801, 801, 800, 800]
    for n_begun in range(1, 6):
        trials = [a_pruned_trial(0, n_begun, sum(sizes[:n_begun]))]
        assert page.n_saved(a_summary(trials, n_rows=sum(sizes))) == 5 - n_begun


def test_the_text_counts_the_trials_and_what_pruning_saved():
    text = page._about(a_summary())
    assert "3 complete, 3 pruned, 1 failed, 1 carried over" in text
    # 6 trials of 5 folds; 4 + 2 + 4 were never begun
    assert "saved 10 of the 30 fold trainings (33.3 %) that the 6 complete and pruned" in text


def test_the_best_trials_are_whole_ones_in_order_with_their_distance_from_the_base():
    best = page.tables(a_summary())[0]
    assert best.rows == [
        [4, "complete", "1190.0", "-100.0", "30"],
        [0, "complete", "1290.0", "+0", "30"],
        [1, "carried", "1350.0", "+60.0", "30"],
        [7, "complete", "9000.0", "+7710.0", "30"],
    ]


def test_confirmed_scores_are_set_beside_those_of_the_search():
    confirmed = deepcopy(CONFIRMED)
    confirmed["base"]["search"] = None
    table = page.tables(a_summary(confirmed=confirmed))[1]
    assert table.rows == [
        ["base", "-", "1300.0", "-"],
        ["trial 4", "1190.0", "1250.0", "+60.0"],
    ]


@pytest.mark.parametrize(
    ("difference", "greater_is_better", "words"),
    [
        (-60, False, "is within noise"),
        (-61, False, "better beyond noise"),
        (61, False, "worse beyond noise"),
        (60, True, "is within noise"),
        (61, True, "better beyond noise"),
        (-61, True, "worse beyond noise"),
    ],
)
def test_the_verdict_takes_two_standard_errors_for_noise(difference, greater_is_better, words):
    winner = CONFIRMED["winner"] | {"difference": difference}
    confirmed = CONFIRMED | {"winner": winner}
    text = page.verdict(a_summary(confirmed=confirmed, greater_is_better=greater_is_better))
    assert f"{difference:+.1f} ± 30.0" in text
    assert words in text


@pytest.mark.usefixtures("undrawn")
def test_the_page_is_headed_by_the_confirmed_score_and_not_by_the_best_of_the_search(tmp_path):
    text = written(a_summary(), tmp_path)
    assert "<h1>quickstart: score 1255.0, confirmed on a fresh seed</h1>" in text
    unconfirmed = written(a_summary(confirmed=None), tmp_path)
    assert "<h1>quickstart: score 1190.0 in the search, not confirmed</h1>" in unconfirmed


@pytest.mark.usefixtures("undrawn")
def test_without_a_winner_no_score_is_called_free_of_selection_bias(tmp_path):
    confirmed = CONFIRMED | {"winner": None}
    for each in (None, confirmed):
        assert "no score here is free of selection bias" in page.verdict(a_summary(confirmed=each))
    assert "tune-confirmed" in written(a_summary([], confirmed=confirmed), tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_every_picture_stands_before_every_table(tmp_path):
    text = written(a_summary(), tmp_path)
    assert text.rindex("<figure") < text.index("<table")


def test_stopped_trials_are_listed_with_the_closest_decision_first():
    table = page._pruned_tables(a_summary())[0]
    assert table.rows == [
        [3, 3, "2,400", "190.0 ± 60.0", "180.0", 4, "beyond the boundary"],
        [2, 1, "800", "250.0 ± 60.0", "180.0", 4, "beyond the boundary"],
        [5, 1, "-", "-", "-", "-", "epoch 1: the loss is nan"],
    ]


def test_the_space_names_long_choices_as_the_pictures_do():
    rows = {row[0]: row[1:] for row in page._space_table(a_summary()).rows}
    assert rows["train.lr"][:3] == ["0.001 to 0.02, log", "-", "0.004"]
    assert rows["train.schedule.every"][:4] == ["2 to 8", "train.schedule.kind is step", "-", "3"]
    assert rows["net"][0].startswith('#1 {"strides": [4], "widths": [32]} | #2 {')
    assert rows["net"][2] == "#1"


def test_choices_that_are_numbers_stand_in_the_order_of_their_size():
    space = {"train.batch_size": {"choices": [128, 32, 64]}}
    trials = [a_trial(0, 1290.0, params={"train.batch_size": 32})]
    assert page._space_table(a_summary(trials, space=space)).rows[0][1] == "32 | 64 | 128"
    parameter = page._parameter("train.batch_size", space["train.batch_size"], trials)
    assert parameter.categories[int(parameter.taken[0])] == "32"


@pytest.mark.usefixtures("undrawn")
def test_the_regret_is_told_with_the_thresholds(tmp_path):
    text = without_pictures(written(a_summary([], confirmed=None), tmp_path))
    assert "regret of the study is 0.4100: what" in text
    assert [number in text for number in ("229.0", "228.6", "231.8")] == [True] * 3


# --- drawings ---------------------------------------------------------------------------------


COSTS = drawings.ScoreAxis("abs-sum (lower is better)", False, 0.0)
ACCURACY = drawings.ScoreAxis("accuracy (higher is better)", True, 1.0)


def trials_of(values, states, score=COSTS):
    return drawings.Trials(np.arange(len(values)), np.array(values), np.array(states), score)


def line_called(axes, label):
    return next(line for line in axes.lines if line.get_label() == label)


def test_where_greater_is_better_the_best_so_far_rises_and_the_band_is_below():
    values = [0.94, 0.93, 0.2, 0.95, np.nan]
    trials = trials_of(values, ["complete"] * 4 + ["failed"], ACCURACY)
    axes = drawings.history(trials, base=0).axes[0]
    assert line_called(axes, "best so far").get_ydata().tolist() == [0.94, 0.94, 0.94, 0.95, 0.95]
    drawn = line_called(axes, "complete").get_ydata()
    # 1.5 times as far from a perfect score as the best one, which is 0.05.
    limit, end = ACCURACY.limit(np.array(values))
    assert (limit, end) == (pytest.approx(0.925), pytest.approx(1 - 0.075 * 1.06))
    assert [*drawn[:2], drawn[3]] == [0.94, 0.93, 0.95]
    assert end < drawn[2] < limit
    assert axes.get_ylim()[0] == end
    assert min(axes.get_yticks()) >= limit
    assert axes.get_ylabel() == "accuracy (higher is better)"


@pytest.mark.parametrize(
    ("perfect", "values", "limit"),
    [
        (1.0, [1.0, 0.4, 0.9], 0.4),  # the best is perfect
        (None, [-3.0, 5.0, 4.0], -3.0),  # nobody knows what would be
        (1.0, [1.0], 0.0),
    ],
)
def test_without_a_distance_from_a_perfect_score_every_trial_is_drawn_at_its_height(
    perfect, values, limit
):
    score = drawings.ScoreAxis("s", True, perfect)
    assert score.limit(np.array(values))[0] == pytest.approx(limit)
    trials = trials_of(values, ["complete"] * len(values), score)
    assert trials.heights.tolist() == values


@pytest.mark.parametrize(("score", "side"), [(COSTS, "left"), (ACCURACY, "right")])
def test_the_confirmed_difference_says_on_which_side_the_winner_is_better(score, side):
    ends = np.array([0.9, 0.95])
    names = ["base", "trial 1"]
    axes = drawings.confirmation(score, names, ends, ends, "trial 1", (0.05, 0.01)).axes
    assert axes[0].get_xlabel() == f"difference; {side} of 0 the winner is better"
    assert axes[0].get_title("left") == (
        "trial 1 minus base: +0.0500; 2 standard errors are ± 0.0200"
    )
    assert axes[1].get_ylabel() == score.name


@pytest.mark.usefixtures("undrawn")
def test_where_greater_is_better_the_greatest_score_heads_the_tables_and_the_page(tmp_path):
    trials = [a_trial(0, 0.93), a_trial(1, 0.95), a_pruned_trial(2, 1, 800, 0.5, deficit=0.4)]
    summary = a_summary(
        trials,
        metric="macro-f1 (higher is better)",
        greater_is_better=True,
        best_possible=1.0,
        confirmed=None,
        thresholds=None,
    )
    assert [row[0] for row in page.tables(summary)[0].rows] == [1, 0]
    text = without_pictures(written(summary, tmp_path))
    assert "quickstart: score 0.9500 in the search, not confirmed" in text
    assert "out-of-fold macro-f1 (higher is better) under the fixed rule half" in text
    assert "0.4000 ± 60.0" in text


def test_the_line_of_the_best_leaves_out_pruned_trials():
    trials = trials_of(
        [1290.0, 1100.0, 1250.0, np.nan, 1270.0],
        ["complete", "pruned", "carried", "failed", "complete"],
    )
    axes = drawings.history(trials, base=0).axes[0]
    line = line_called(axes, "best so far")
    assert line.get_xdata().tolist() == [0, 2, 4, 5]
    assert line.get_ydata().tolist() == [1290, 1250, 1250, 1250]
    assert "base: 1290.0" in {line.get_label() for line in axes.lines}


def test_values_far_above_the_least_are_drawn_in_a_band_without_numbers():
    trials = trials_of([1000.0, 1499.0, 20000.0], ["complete"] * 3)
    axes = drawings.history(trials, base=None).axes[0]
    drawn = line_called(axes, "complete").get_ydata()
    assert drawn.tolist()[:2] == [1000, 1499]
    assert 1500 < drawn[2] < axes.get_ylim()[1]
    assert max(axes.get_yticks()) <= 1500


def test_states_differ_by_shape_and_pruned_ones_are_hollow():
    shapes = {mark["marker"] for mark in drawings.MARKS.values()}
    assert len(shapes) == len(drawings.MARKS)
    assert drawings.MARKS["pruned"]["markerfacecolor"] == "none"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1e-3, 0.2, [0.001, 0.01, 0.1]),
        (1e-3, 2e-2, [0.001, 0.003, 0.01]),
        (3.0, 7.0, [3, 4, 5, 6, 7]),
        (1e-8, 1.0, [1e-8, 1e-6, 1e-4, 1e-2, 1]),
        (0.91, 0.99, [0.91, 0.99]),
    ],
)
def test_log_axes_have_a_few_round_ticks(low, high, ticks):
    assert drawings.log_ticks(low, high) == pytest.approx(ticks)


def test_labels_are_spread_apart_in_their_order():
    heights = np.array([5.0, 1.0, 1.1, 1.0])
    apart = drawings.spread_apart(heights, 1.0)
    assert np.diff(np.sort(apart)).min() >= 1 - 1e-12
    assert np.argsort(apart, kind="stable").tolist() == [1, 3, 2, 0]
    assert apart.mean() == pytest.approx(heights.mean())
    assert drawings.spread_apart(np.array([9.0, 1.0]), 1.0).tolist() == [9, 1]


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_which_machine_trained_how_much_where_there_were_several(tmp_path):
    one = {"alpha": {"trials": 7, "folds on fresh seeds": 3}}
    two = {**one, "beta <b>": {"trials": 5, "folds on fresh seeds": 2}}
    alone = written(a_summary(machines=one), tmp_path)
    shared = written(a_summary(machines=two), tmp_path)
    assert "Machines" not in alone
    assert "beta &lt;b&gt;" in shared
