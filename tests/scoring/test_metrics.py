import numpy as np
import pytest

from hbcomp.scoring.metrics import (
    Score,
    abs_sum,
    abs_sum_by_class,
    accuracy,
    confusion,
    describe,
    row_costs,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def naive_abs_sum(answers, labels):
    total = 0.0
    for row, label in zip(answers.tolist(), labels.tolist(), strict=True):
        for column, answer in enumerate(row):
            total += abs(answer - (1.0 if column == label else 0.0))
    return total


def test_the_example_of_the_task_costs_0_6():
    assert abs_sum(np.array([[0.1, 0.7, 0.1, 0.1]]), np.array([1])).total == pytest.approx(0.6)


@pytest.mark.parametrize("n_classes", [2, 4, 7])
def test_abs_sum_equals_the_loop_over_rows_and_classes(rng, n_classes):
    answers = rng.random((50, n_classes))
    labels = rng.integers(0, n_classes, 50)
    assert abs_sum(answers, labels).total == pytest.approx(naive_abs_sum(answers, labels))


def test_one_hot_answers_cost_two_per_wrong_row(rng):
    labels, called = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    assert abs_sum(np.eye(4)[called], labels).total == 2 * (labels != called).sum()


def test_an_all_zero_row_costs_one():
    assert row_costs(np.zeros((3, 4)), np.array([0, 1, 3])).tolist() == [1, 1, 1]


def test_float32_probabilities_are_summed_in_double_precision():
    answers = np.full((3, 2), 0.1, dtype=np.float32)
    labels = np.zeros(3, dtype=np.int64)
    assert abs_sum(answers, labels).total == pytest.approx(
        naive_abs_sum(answers.astype(float), labels), rel=1e-12
    )


def test_score_says_sum_mean_and_per_20k():
    assert Score(total=83.0, n_rows=10_000).to_json() == {
        "sum": 83.0,
        "mean": 0.0083,
        "per_20k": 166.0,
        "n_rows": 10_000,
    }


def test_the_classes_share_the_whole_score(rng):
    answers, labels = rng.random((60, 3)), rng.integers(0, 3, 60)
    by_class = abs_sum_by_class(answers, labels)
    assert sum(row.total for row in by_class) == pytest.approx(abs_sum(answers, labels).total)
    assert [row.n_rows for row in by_class] == np.bincount(labels, minlength=3).tolist()


def test_a_class_without_rows_costs_nothing():
    row = abs_sum_by_class(np.full((2, 3), 0.5), np.array([0, 1]))[2]
    assert (row.n_rows, row.total, row.mean, row.recall) == (0, 0.0, 0.0, 0.0)


def test_convex_mixes_of_raw_probabilities_score_the_mix_of_the_scores(rng):
    # The theorem that makes blending raw probabilities pointless: the score is linear in them.
    members = rng.dirichlet(np.ones(4), size=(3, 200))
    weights = rng.dirichlet(np.ones(3))
    labels = rng.integers(0, 4, 200)
    mixed = np.einsum("m,mnk->nk", weights, members)
    apart = [abs_sum(member, labels).total for member in members]
    assert abs_sum(mixed, labels).total == pytest.approx(float(weights @ apart))


def test_confusion_and_accuracy_agree_with_sklearn(rng):
    from sklearn.metrics import accuracy_score, confusion_matrix

    probs, labels = rng.random((80, 4)), rng.integers(0, 4, 80)
    called = probs.argmax(axis=1)
    expected = confusion_matrix(labels, called, labels=range(4))
    assert confusion(probs, labels)[:, :-1].tolist() == expected.tolist()
    assert accuracy(probs, labels) == accuracy_score(labels, called)


def test_describe_is_plain_json(rng):
    import json

    numbers = describe(rng.random((20, 4)), rng.integers(0, 4, 20))
    assert json.loads(json.dumps(numbers)) == numbers


def test_an_all_zero_row_is_called_nothing():
    answers, labels = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0, 0])
    assert accuracy(answers, labels) == 0.5
    assert abs_sum_by_class(answers, labels)[0].recall == 0.5
    assert abs_sum_by_class(answers, labels)[0].n_none == 1
    assert confusion(answers, labels).tolist() == [[1, 0, 1], [0, 0, 0]]
