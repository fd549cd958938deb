"""Every metric against scikit-learn, its standard error against the bootstrap."""

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.scoring.metrics import MAKERS, Metric, MetricConfig, make_metric
from hbcomp.scoring.own_metric import OwnMetric
from hbcomp.system.errors import InputError

COSTS = np.array([[0.0, 1.0, 4.0], [2.0, 0.0, 1.0], [9.0, 3.0, 0.0]])


def softmax(logits):
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


def make_answers(rng, n, k, skill=1.5):
    """Return probabilities that are right more often than not, and labels of unequal classes."""
    labels = rng.choice(k, n, p=np.arange(k, 0, -1) / np.arange(k, 0, -1).sum())
    return softmax(rng.normal(size=(n, k)) + skill * np.eye(k)[labels]), labels


def build(name, k=3):
    classes = [str(label) for label in range(k)]
    config = {"name": name}
    if name in ("f1", "roc-auc"):
        config["positive"] = "1"
    if name == "top-k":
        config["k"] = 2
    if name == "cost-matrix":
        config["costs"] = "costs.csv"
    return make_metric(MetricConfig.model_validate(config, strict=False), classes, COSTS[:k, :k])


def one_hot(probs):
    return probs.argmax(axis=1)


SKLEARN = {
    "abs-sum": lambda p, y: np.abs(p - np.eye(p.shape[1])[y]).sum() / len(y),
    "log-loss": lambda p, y: oracle.log_loss(y, p, labels=range(p.shape[1])),
    "brier": lambda p, y: np.square(p - np.eye(p.shape[1])[y]).sum(axis=1).mean(),
    "accuracy": lambda p, y: oracle.accuracy_score(y, one_hot(p)),
    "cost-matrix": lambda p, y: COSTS[y, one_hot(p)].mean(),
    "top-k": lambda p, y: oracle.top_k_accuracy_score(y, p, k=2, labels=range(p.shape[1])),
    "balanced-accuracy": lambda p, y: oracle.balanced_accuracy_score(y, one_hot(p)),
    "macro-f1": lambda p, y: oracle.f1_score(y, one_hot(p), average="macro"),
    "micro-f1": lambda p, y: oracle.f1_score(y, one_hot(p), average="micro"),
    "weighted-f1": lambda p, y: oracle.f1_score(y, one_hot(p), average="weighted"),
    "f1": lambda p, y: oracle.f1_score(y == 1, one_hot(p) == 1),
    "mcc": lambda p, y: oracle.matthews_corrcoef(y, one_hot(p)),
    "kappa": lambda p, y: oracle.cohen_kappa_score(y, one_hot(p)),
    "quadratic-kappa": lambda p, y: oracle.cohen_kappa_score(y, one_hot(p), weights="quadratic"),
    "roc-auc": lambda p, y: oracle.roc_auc_score(y == 1, p[:, 1]),
    "macro-roc-auc": lambda p, y: oracle.roc_auc_score(y, p, multi_class="ovr"),
}


def test_every_built_in_metric_has_an_oracle():
    assert set(SKLEARN) == set(MAKERS)


@pytest.mark.parametrize("name", SKLEARN)
def test_a_score_is_scikit_learns(name):
    for seed in range(20):
        probs, labels = make_answers(np.random.default_rng(seed), 60, 3)
        assert build(name).score(probs, labels) == pytest.approx(SKLEARN[name](probs, labels))


@pytest.mark.parametrize("name", SKLEARN)
def test_the_mean_of_the_contributions_is_the_score(name):
    for seed in range(20):
        probs, labels = make_answers(np.random.default_rng(seed), 40, 3)
        metric = build(name)
        contributions = metric.contributions(probs, labels)
        assert contributions.shape == (40,)
        assert contributions.mean() == pytest.approx(metric.score(probs, labels))


@pytest.mark.parametrize("name", SKLEARN)
def test_the_standard_error_is_the_bootstraps(name):
    rng = np.random.default_rng(3)
    probs, labels = make_answers(rng, 2000, 3)
    metric = build(name)
    error = metric.contributions(probs, labels).std(ddof=1) / len(labels) ** 0.5
    samples = rng.integers(0, len(labels), (1500, len(labels)))
    resampled = [metric.score(probs[rows], labels[rows]) for rows in samples]
    # 3,000 draws know it to 1.3 %; the largest difference is 2.4 %.
    assert error == pytest.approx(np.std(resampled, ddof=1), rel=0.05)


@pytest.mark.parametrize("name", ["macro-f1", "mcc", "roc-auc", "accuracy"])
def test_the_standard_error_of_a_paired_difference_is_the_bootstraps(name):
    rng = np.random.default_rng(4)
    probs, labels = make_answers(rng, 2000, 3)
    others = softmax(np.log(probs) + rng.normal(scale=0.7, size=probs.shape))
    metric = build(name)
    gaps = metric.contributions(probs, labels) - metric.contributions(others, labels)
    samples = rng.integers(0, len(labels), (1500, len(labels)))
    resampled = [
        metric.score(probs[rows], labels[rows]) - metric.score(others[rows], labels[rows])
        for rows in samples
    ]
    assert gaps.std(ddof=1) / len(labels) ** 0.5 == pytest.approx(np.std(resampled), rel=0.05)


@pytest.mark.parametrize("name", SKLEARN)
def test_a_score_lies_within_the_bounds_and_a_perfect_answer_at_the_better_one(name):
    probs, labels = make_answers(np.random.default_rng(5), 200, 3)
    metric = build(name)
    low, high = metric.bounds
    assert low <= metric.score(probs, labels) <= high
    best = high if metric.greater_is_better else low
    assert metric.score(np.eye(3)[labels], labels) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("name", SKLEARN)
def test_the_second_of_two_classes_is_the_positive_one(name):
    if name == "top-k":
        pytest.skip("the two largest of two are always right")
    probs, labels = make_answers(np.random.default_rng(6), 100, 2)
    reference = SKLEARN[name]
    if name == "macro-roc-auc":
        expected = oracle.roc_auc_score(labels, probs[:, 1])
    elif name == "cost-matrix":
        expected = COSTS[labels, one_hot(probs)].mean()
    else:
        expected = reference(probs, labels)
    assert build(name, k=2).score(probs, labels) == pytest.approx(expected)


@given(data=st.data())
def test_tied_scores_count_half_in_the_area(data):
    n = data.draw(st.integers(2, 12))
    labels = np.array([0, 1, *data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))])
    scores = data.draw(
        st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=len(labels), max_size=len(labels))
    )
    probs = np.stack([1 - np.array(scores), np.array(scores)], axis=1)
    found = make_metric(MetricConfig(name="roc-auc"), ["0", "1"]).score(probs, labels)
    assert found == pytest.approx(oracle.roc_auc_score(labels, scores))


def test_an_area_of_one_class_is_refused():
    with pytest.raises(InputError, match="rows of a class and rows of others, but there are 3 and"):
        build("roc-auc").score(np.full((3, 3), 1 / 3), np.array([1, 1, 1]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "accuracies"}, "did you mean accuracy"),
        ({"name": "accuracy", "k": 2}, "metric accuracy has no keys k"),
        ({"name": "cost-matrix"}, "metric cost-matrix needs the keys costs"),
        ({"name": "metric.py:score"}, "needs the keys answers, greater_is_better"),
        ({"name": "macro-f1", "scale_rows": 20}, "has no keys scale_rows"),
    ],
)
def test_a_metric_without_its_keys_or_with_others_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MetricConfig.model_validate(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "f1"}, "with 3 classes, name it in metric.positive"),
        ({"name": "roc-auc", "positive": "7"}, "metric.positive must be one of 0, 1, 2"),
        ({"name": "top-k", "k": 3}, "k below the number of classes, 3"),
    ],
)
def test_a_metric_that_does_not_fit_the_classes_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        make_metric(MetricConfig.model_validate(values), ["0", "1", "2"])


def test_a_scaled_metric_is_the_sum_that_a_leaderboard_of_so_many_rows_shows():
    probs, labels = make_answers(np.random.default_rng(7), 50, 3)
    metric = make_metric(MetricConfig(name="abs-sum", scale_rows=50), ["0", "1", "2"])
    assert metric.score(probs, labels) == pytest.approx(np.abs(probs - np.eye(3)[labels]).sum())
    assert metric.bounds == (0.0, 100.0)


def test_own_functions_have_the_standard_error_of_their_mean():
    probs, labels = make_answers(np.random.default_rng(8), 3000, 3)
    accuracy = build("accuracy")
    own = OwnMetric("metric.py:score", accuracy.score, greater_is_better=True, answers="labels")
    found, expected = own.contributions(probs, labels), accuracy.contributions(probs, labels)
    assert found.mean() == pytest.approx(expected.mean())
    # 200 pseudo-values know their spread to 5 %.
    assert found.std(ddof=1) == pytest.approx(expected.std(ddof=1), rel=0.15)


def test_every_metric_is_one():
    assert all(isinstance(build(name), Metric) for name in MAKERS)
