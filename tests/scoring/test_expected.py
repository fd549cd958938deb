import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbcomp.scoring.expected import draw_labels, expected_brier, expected_score, matched
from hbcomp.scoring.metrics import BRIER, MetricConfig, make_metric
from hbcomp.scoring.paired import RowScores, measure

CLASSES = ["a", "b", "c"]
ROWS = RowScores(np.array([0.0, 1.0, 2.0]), False)


def nets_of(seed, n_folds=4, n_rows=300, apart=1.0):
    """Return a true probability for each row, and the probabilities of nets that err by noise."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((n_rows, 3))
    seen = logits + 0.5 * rng.standard_normal((n_rows, 3))
    return softmax(logits), softmax(seen + apart * rng.standard_normal((n_folds, n_rows, 3)))


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def argmax(probs):
    return np.eye(3)[probs.argmax(axis=1)]


def as_they_are(probs):
    return probs


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 0.9))
def test_the_gain_in_brier_is_the_variance_of_the_nets_whatever_the_labels(seed, oof_brier):
    _, nets = nets_of(seed)
    mean = nets.mean(axis=0)
    found = expected_score(BRIER, ROWS, oof_brier, list(nets), mean, as_they_are, len(mean))
    assert found.gain == pytest.approx(-nets.var(axis=0).sum(axis=1).mean(), abs=1e-12)


@pytest.mark.parametrize("name", ["abs-sum", "accuracy", "log-loss", "macro-f1", "mcc"])
@pytest.mark.parametrize("n_folds", [0, 1, 3])
def test_nets_that_agree_or_are_not_known_gain_nothing(name, n_folds):
    _, nets = nets_of(1)
    found = expected_score(
        make_metric(MetricConfig(name=name), CLASSES),
        ROWS,
        0.3,
        [nets[0]] * n_folds,
        nets[0],
        as_they_are,
        len(nets[0]),
    )
    assert found.gain == pytest.approx(0, abs=1e-12)
    assert found.value == pytest.approx(ROWS.score)


@pytest.mark.parametrize("oof_brier", [0.35, 0.45, 0.6])
def test_labels_are_drawn_so_that_single_nets_have_the_brier_of_out_of_fold_rows(oof_brier):
    _, nets = nets_of(2)
    truth = matched(nets.mean(axis=0), list(nets), oof_brier)
    assert np.mean([expected_brier(net, truth) for net in nets]) == pytest.approx(
        oof_brier, rel=0.02
    )


@pytest.mark.parametrize("oof_brier", [0.0, 5.0])
def test_a_brier_that_no_temperature_gives_takes_the_nearest(oof_brier):
    _, nets = nets_of(3)
    truth = matched(nets.mean(axis=0), list(nets), oof_brier)
    assert np.isfinite(truth).all()
    assert truth.sum(axis=1) == pytest.approx(1)


def test_the_expected_brier_is_the_mean_over_the_labels():
    truth, nets = nets_of(4, n_rows=20)
    by_label = [np.square(nets[0] - np.eye(3)[label]).sum(axis=1) for label in range(3)]
    assert expected_brier(nets[0], truth) == pytest.approx(
        (np.array(by_label).T * truth).sum(axis=1).mean()
    )


def test_drawn_labels_have_the_frequencies_of_their_probabilities():
    probs = np.tile([0.0, 0.25, 0.75], (40_000, 1))
    counts = np.bincount(draw_labels(probs, np.random.default_rng(0)), minlength=3)
    assert counts[0] == 0
    assert abs(counts[1] - 10_000) < 5 * (40_000 * 0.25 * 0.75) ** 0.5


def test_where_every_labelled_row_is_right_the_interval_is_no_point():
    metric = make_metric(MetricConfig(name="accuracy"), CLASSES)
    probs = np.tile([0.9, 0.06, 0.04], (40, 1))
    rows = measure(metric, argmax(probs), np.zeros(40, dtype=int))
    brier = float(BRIER.score(probs, np.zeros(40, dtype=int)))
    found = expected_score(metric, rows, brier, [], probs, argmax, 40)
    assert (rows.score, rows.standard_error) == (1.0, 0.0)
    assert found.of_oof_rows == pytest.approx(1.25 * (42 * 2 / 44 / 43) ** 0.5 / 40**0.5)
    assert 0 < found.of_test_rows < found.of_oof_rows


@pytest.mark.parametrize(
    ("name", "answer"), [("abs-sum", argmax), ("accuracy", argmax), ("log-loss", as_they_are)]
)
def test_nine_in_ten_intervals_hold_the_score_of_simulated_test_rows(name, answer):
    metric = make_metric(MetricConfig(name=name), CLASSES)
    inside, without_gain = [], []
    for seed in range(40):
        truth, nets = nets_of(seed, n_rows=2000)
        labels = draw_labels(truth, np.random.default_rng(1000 + seed))
        train, test = np.split(labels, 2)
        fold_of_row = np.arange(1000) % 4
        oof = nets[fold_of_row, np.arange(1000)]
        of_folds = nets[:, 1000:]
        mean = of_folds.mean(axis=0)
        brier = float(BRIER.score(oof, train))
        rows = measure(metric, answer(oof), train)
        found = expected_score(metric, rows, brier, list(of_folds), mean, answer, 1000)
        real = metric.score(answer(mean), test)
        inside.append(found.interval[0] <= real <= found.interval[1])
        reach = 2 * np.hypot(found.of_oof_rows, found.of_test_rows)
        without_gain.append(abs(real - found.out_of_fold) <= reach)
    assert np.mean(inside) >= 0.9
    assert np.mean(without_gain) < 0.8, "the gain of averaging is what makes them hold"
