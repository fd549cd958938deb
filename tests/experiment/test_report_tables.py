"""The numbers that every report shares: one accuracy, that of the answers, wherever it is said."""

import numpy as np
import pytest

from hbcomp.analysis.compare_runs import compare
from hbcomp.analysis.scored_rows import ScoredRows
from hbcomp.competitions.competition import load_competition, metric_of
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import Report, Rows, scorecard, scores_in_words
from hbcomp.experiment.report_tables import class_table
from hbcomp.reporting.figures import runs as pictures
from hbcomp.scoring.choice import choose, evaluate_rules

# Of ten rows of each class four are right and sure, three right at 0.45, two wrong and sure, one
# wrong at 0.45; so of the answers of rule half 40 % are right, and of the most probable ones 70 %.
ROWS = [(0.8, 0)] * 4 + [(0.45, 0)] * 3 + [(0.8, 1)] * 2 + [(0.45, 1)]
N_CLASSES = 3


def undecided_predictions():
    labels = np.repeat(np.arange(N_CLASSES), len(ROWS))
    probs = np.empty((len(labels), N_CLASSES))
    for row, (label, (prob, step)) in enumerate(zip(labels, ROWS * N_CLASSES, strict=True)):
        probs[row] = (1 - prob) / 2
        probs[row, (label + step) % N_CLASSES] = prob
    ids = np.array([f"id{row}" for row in range(len(labels))])
    folds = np.arange(len(labels)) % 2
    return Predictions(ids, labels, folds, probs, ids[:0], probs[:0], "train", "")


SPEC = load_competition().metric_spec(["0", "1", "2"])
METRIC = metric_of(SPEC)


def report_under(rule):
    predictions = undecided_predictions()
    rules = evaluate_rules(
        METRIC, predictions.oof_probs, predictions.labels, predictions.fold_of_row
    )
    numbers = scorecard(SPEC, METRIC, predictions, rules, choose(rules, rule))
    rows = Rows(train="train.csv", n_train=len(predictions.labels), fingerprint_train="train")
    return predictions, Report(**dict(numbers), data=rows)


@pytest.mark.parametrize(("rule", "accuracy"), [("half", 0.4), ("argmax", 0.7), ("raw", 0.7)])
def test_the_accuracy_is_that_of_the_answers_under_the_chosen_rule(rule, accuracy):
    _, report = report_under(rule)
    assert report.accuracy == pytest.approx(accuracy)
    assert f"accuracy of the answers {accuracy:.4f}" in scores_in_words(report)


@pytest.mark.parametrize("rule", ["half", "argmax", "raw", "clip 0.1/0.9", "tuned"])
def test_accuracy_recall_confusion_comparison_and_mistakes_agree(rule):
    predictions, report = report_under(rule)
    labels, confusion = predictions.labels, np.array(report.confusion)
    accuracy = report.accuracy
    assert np.trace(confusion) / len(labels) == accuracy
    recalled = [row.recall * row.n_rows for row in report.by_class]
    assert sum(recalled) == pytest.approx(accuracy * len(labels))
    assert confusion[:, -1].tolist() == [row.n_none for row in report.by_class]
    assert confusion.sum() == len(labels)
    rows = ScoredRows("a", METRIC, rule, predictions)
    assert compare(rows, rows)["a"]["accuracy"] == rows.is_right.mean() == accuracy
    # The classes add up to the expected score, which is cross-fitted too.
    assert sum(row.share for row in report.by_class) == pytest.approx(report.score)


def test_none_is_a_column_where_an_answer_names_no_class():
    _, report = report_under("half")
    assert report.confusion == ((4, 2, 0, 4), (0, 4, 2, 4), (2, 0, 4, 4))
    assert [row[-1] for row in class_table(report).rows] == ["4", "4", "4"]
    assert "12 rows answered none" in scores_in_words(report)
    axes = pictures.confusion(np.array(report.confusion)).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2", "none"]
    assert len(axes.texts) == 12


def test_none_is_no_column_of_the_picture_where_every_answer_names_a_class():
    _, report = report_under("argmax")
    assert "none" not in scores_in_words(report)
    axes = pictures.confusion(np.array(report.confusion)).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2"]
