import re

import numpy as np
import pytest

from hbcomp.competitions.competition import DEFAULT, load_competition, metric_of, shipped
from hbcomp.competitions.submission_form import form_of
from hbcomp.data.dataset import DataConfig
from hbcomp.system.errors import InputError


def write(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "competition.toml").write_text(text)
    return load_competition(str(folder))


def test_heartbeat_ships_and_is_the_default():
    assert DEFAULT in shipped()
    competition = load_competition()
    metric = metric_of(competition.metric_spec(["0", "1", "2", "3"]))
    assert metric.bounds == (0.0, 40_000.0)
    form = form_of(DataConfig(), ["0", "1", "2", "3"])
    assert form.header == ["id", "label_0", "label_1", "label_2", "label_3"]


def test_an_unknown_competition_lists_those_there_are():
    with pytest.raises(InputError, match=r"heartbeats: .* did you mean heartbeat"):
        load_competition("heartbeats")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel = 'x'", "unknown key titel, did you mean title"),
        ("title = 'x'\nformat = 2", "format: Input should be 1"),
        ("title = 'x'\n[data]\nlayout = 'long'", "the layout long needs `channels` and `order`"),
        ("title = 'x'\n[data]\nclasses = ['a']", "at least 2 classes"),
        ("title = 'x'\n[data]\nid = 'y'\nlabel = 'y'", "the columns must have different names"),
        ("title = 'x'\n[submission]\ncolumns = 'p'", "columns must contain {class}"),
        ("title = 'x'\n[submission]\nkind = 'label'\ncolumns = '{class}'", "be one column's name"),
        (
            "title = 'x'\n[metric]\nname = 'log-loss'\n[submission]\nkind = 'label'",
            "metric log-loss scores probabilities, not kind label",
        ),
        ("title = 'x'\n[submission]\nrange = [1.0, 0.0]", "low < high"),
    ],
)
def test_a_wrong_competition_is_refused_with_its_key(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path, text)


def test_a_cost_matrix_is_read_from_its_file(tmp_path):
    (tmp_path / "costs.csv").write_text(",a,b\na,0,5\nb,1,0\n")
    competition = write(tmp_path, "title='x'\n[metric]\nname='cost-matrix'\ncosts='costs.csv'")
    metric = metric_of(competition.metric_spec(["a", "b"]))
    assert metric.score(np.eye(2)[[1, 0]], np.array([0, 1])) == 3.0
    with pytest.raises(InputError, match="the classes a, c must be the columns"):
        competition.metric_spec(["a", "c"])


OWN = """title = 'x'
[metric]
name = 'metric.py:score'
greater_is_better = true
answers = 'labels'
params = { bonus = 1.0 }
[submission]
kind = 'label'
"""
SCORE = """
def score(solution, submission, row_id_column_name, bonus):
    assert (solution[row_id_column_name] == submission[row_id_column_name]).all()
    return float((solution['label'] == submission['label']).mean()) + bonus
"""


def own_metric(tmp_path, **trust):
    return metric_of(write(tmp_path, OWN).metric_spec(["walk", "run"]), **trust)


def test_ones_own_function_has_kaggles_signature_and_gets_the_classes_as_text(tmp_path):
    (tmp_path / "metric.py").write_text(SCORE)
    metric = own_metric(tmp_path, is_trusted=True)
    assert metric.score(np.eye(2)[[0, 1, 1]], np.array([0, 1, 0])) == pytest.approx(1 + 2 / 3)
    assert metric.greater_is_better


def test_somebody_elses_function_is_not_run_unless_trusted(tmp_path):
    (tmp_path / "metric.py").write_text("raise SystemExit('executed')")
    with pytest.raises(InputError, match="only with --trust"):
        own_metric(tmp_path, is_trusted=False)


def test_a_function_in_the_working_directory_is_run_until_it_is_changed(tmp_path, monkeypatch):
    (tmp_path / "metric.py").write_text(SCORE)
    monkeypatch.chdir(tmp_path)
    spec = write(tmp_path, OWN).metric_spec(["walk", "run"])
    assert metric_of(spec).greater_is_better
    (tmp_path / "metric.py").write_text(SCORE + "# changed")
    with pytest.raises(InputError, match="was changed after it scored"):
        metric_of(spec)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", "there is no function 'score'"),
        ("x = 1 / 0", "cannot be run: ZeroDivisionError"),
        ("def score(a, b, c, bonus): return float('nan')", "must return a finite number"),
        ("def score(a, b, c, bonus): raise KeyError('y')", "score failed on 1 rows: KeyError"),
    ],
)
def test_what_a_function_does_wrong_is_said_with_its_file(tmp_path, code, message):
    (tmp_path / "metric.py").write_text(code)
    spec = write(tmp_path, OWN).metric_spec(["walk", "run"])
    with pytest.raises(InputError, match=rf"metric\.py: .*{message}"):
        metric_of(spec, is_trusted=True).score(np.eye(2)[[0]], np.array([0]))


def sampled(tmp_path, kind, sample, metric="accuracy"):
    (tmp_path / "sample.csv").write_text(sample)
    text = f"title='x'\n[metric]\nname='{metric}'\n[submission]\nkind='{kind}'\nsample='sample.csv'"
    write(tmp_path, text)
    return DataConfig(competition=str(tmp_path))


def test_a_sample_submission_gives_header_and_order(tmp_path):
    config = sampled(tmp_path, "label", "Id,Activity\n7,walk\n3,run\n")
    form = form_of(config, ["run", "walk"])
    assert form.header == ["Id", "Activity"]
    assert form.order(["3", "7"]) == [1, 0]
    with pytest.raises(InputError, match="no row for id 8 of the test file"):
        form.order(["3", "7", "8"])


@pytest.mark.parametrize(
    "columns", ["walk,run", "p_walk,p_run", "walk_prob,run_prob", "P(walk),P(run)", "rwalkr,rrunr"]
)
def test_the_columns_of_a_sample_may_be_in_another_order_than_the_classes(tmp_path, columns):
    config = sampled(tmp_path, "probabilities", f"id,{columns}\n1,.5,.5\n", "log-loss")
    form = form_of(config, ["run", "walk"])
    answers = np.array([[0.2, 0.8]])
    cells = list(form.cells(answers))
    assert cells == [["0.8", "0.2"]]
    assert np.array_equal(form.answers(cells), answers)


@pytest.mark.parametrize("columns", ["p_walk,p_sit", "p_walk,run", "p_walk,p_run,p_sit"])
def test_columns_that_are_no_classes_are_refused(tmp_path, columns):
    names = columns.split(",")
    sample = f"id,{columns}\n1{',.5' * len(names)}\n"
    config = sampled(tmp_path, "probabilities", sample, "log-loss")
    message = f"{', '.join(names)}, must be the classes run, walk"
    with pytest.raises(InputError, match=message):
        form_of(config, ["run", "walk"])


def test_a_probability_is_that_of_the_positive_class(tmp_path):
    config = sampled(tmp_path, "probability", "id,target\n1,.5\n", "roc-auc")
    form = form_of(config, ["0", "1"])
    answers = np.array([[0.25, 0.75]])
    assert list(form.cells(answers)) == [["0.75"]]
    assert np.array_equal(form.answers([["0.75"]]), answers)


@pytest.mark.parametrize(
    ("kind", "cells", "message"),
    [
        ("label", ["sit"], "Activity must be one of run, walk, but is 'sit'"),
        ("probability", ["1.5"], r"Activity must be in \[0, 1\], but is 1.5"),
        ("probability", ["nan"], "Activity must be a finite number, but is 'nan'"),
    ],
)
def test_cells_that_break_the_form_are_named(tmp_path, kind, cells, message):
    config = sampled(tmp_path, kind, "Id,Activity\n7,x\n", "accuracy")
    (problem,) = form_of(config, ["run", "walk"]).problems(cells)
    assert re.fullmatch(message, problem)


def test_rows_must_sum_to_one_where_the_competition_says_so(tmp_path):
    text = "title='x'\n[metric]\nname='brier'\n[submission]\nsum_to_one=true"
    write(tmp_path, text)
    form = form_of(DataConfig(competition=str(tmp_path)), ["a", "b"])
    assert list(form.problems(["0.5", "0.5"])) == []
    assert list(form.problems(["0.5", "0.4"])) == ["the row must sum to 1, but is 0.9"]
