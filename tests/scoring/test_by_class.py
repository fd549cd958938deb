import numpy as np
import pytest

from hbcomp.scoring.by_class import accuracy, confusion, score_by_class
from hbcomp.scoring.metrics import ABS_SUM
from hbcomp.scoring.row_metrics import abs_sum_of_rows


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
    assert ABS_SUM.score(np.array([[0.1, 0.7, 0.1, 0.1]]), np.array([1])) == pytest.approx(0.6)


@pytest.mark.parametrize("n_classes", [2, 4, 7])
def test_abs_sum_equals_the_loop_over_rows_and_classes(rng, n_classes):
    answers = rng.random((50, n_classes))
    labels = rng.integers(0, n_classes, 50)
    assert abs_sum_of_rows(answers, labels).sum() == pytest.approx(naive_abs_sum(answers, labels))


def test_one_hot_answers_cost_two_per_wrong_row(rng):
    labels, predicted = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    assert abs_sum_of_rows(np.eye(4)[predicted], labels).sum() == 2 * (labels != predicted).sum()


def test_an_all_zero_row_costs_one():
    assert abs_sum_of_rows(np.zeros((3, 4)), np.array([0, 1, 3])).tolist() == [1, 1, 1]


def test_float32_probabilities_are_summed_in_double_precision():
    answers = np.full((3, 2), 0.1, dtype=np.float32)
    labels = np.zeros(3, dtype=np.int64)
    assert abs_sum_of_rows(answers, labels).sum() == pytest.approx(
        naive_abs_sum(answers.astype(float), labels), rel=1e-12
    )


def test_the_classes_share_the_whole_score(rng):
    answers, labels = rng.random((60, 3)), rng.integers(0, 3, 60)
    by_class = score_by_class(abs_sum_of_rows(answers, labels), answers, labels)
    assert sum(row.share for row in by_class) == pytest.approx(ABS_SUM.score(answers, labels))
    assert [row.n_rows for row in by_class] == np.bincount(labels, minlength=3).tolist()


def test_a_class_without_rows_costs_nothing():
    row = score_by_class(np.ones(2), np.full((2, 3), 0.5), np.array([0, 1]))[2]
    assert (row.n_rows, row.share, row.mean, row.recall) == (0, 0.0, 0.0, 0.0)


def test_convex_mixes_of_raw_probabilities_score_the_mix_of_the_scores(rng):
    # The theorem that makes blending raw probabilities pointless: the score is linear in them.
    base_models = rng.dirichlet(np.ones(4), size=(3, 200))
    weights = rng.dirichlet(np.ones(3))
    labels = rng.integers(0, 4, 200)
    mixed = np.einsum("m,mnk->nk", weights, base_models)
    apart = [abs_sum_of_rows(base_model, labels).sum() for base_model in base_models]
    assert abs_sum_of_rows(mixed, labels).sum() == pytest.approx(float(weights @ apart))


def test_confusion_and_accuracy_agree_with_sklearn(rng):
    from sklearn.metrics import accuracy_score, confusion_matrix

    probs, labels = rng.random((80, 4)), rng.integers(0, 4, 80)
    predicted = probs.argmax(axis=1)
    expected = confusion_matrix(labels, predicted, labels=range(4))
    assert confusion(probs, labels)[:, :-1].tolist() == expected.tolist()
    assert accuracy(probs, labels) == accuracy_score(labels, predicted)


def test_an_all_zero_row_is_predicted_as_no_class():
    answers, labels = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0, 0])
    assert accuracy(answers, labels) == 0.5
    row = score_by_class(np.ones(2), answers, labels)[0]
    assert (row.recall, row.n_none) == (0.5, 1)
    assert confusion(answers, labels).tolist() == [[1, 0, 1], [0, 0, 0]]
