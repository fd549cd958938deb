"""The page of mistakes and the command that writes it, on planted mistakes."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from commands import run_hbcomp
from finished_experiments import K, N, probs_for, write_experiment, write_files

from hbcomp.analysis import mistakes_page as page
from hbcomp.analysis.mistakes import examine, losses_of
from hbcomp.analysis.scored_rows import ScoredRows
from hbcomp.data.synthetic import make_rows
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.recipe import BlendRecipe, write_recipe
from hbcomp.experiment.report import oof_answers
from hbcomp.scoring.calibration import CALIBRATIONS
from hbcomp.scoring.combinations import Arithmetic
from hbcomp.scoring.decision import Half
from hbcomp.scoring.metrics import MetricConfig, MetricSpec, make_metric
from hbcomp.scoring.row_metrics import RowMetric

TINY = [
    *("net.widths=[4]", "net.strides=[2]", "net.hidden=8", "train.n_epochs=1"),
    *("folds.n_folds=2", "folds.seeds=[0,1]", "compute.device=cpu", "compute.n_threads=1"),
    *("data.train=train.csv", "data.test=test.csv"),
]
PER_ROW = 20_000 / N  # what a cost of 1 adds to the score
METRICS = {
    name: make_metric(MetricConfig(name=name), [str(label) for label in range(K)])
    for name in ("abs-sum", "log-loss", "accuracy", "macro-f1", "macro-roc-auc")
}


def numbers_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def label_issues_in(folder):
    with (folder / "label_issues.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# --- findings ---------------------------------------------------------------------------------


def findings_of(beats, probs, models=None, name="a", rule="", folds=None, metric="abs-sum"):
    predictions = Predictions(
        train_ids=beats.ids,
        labels=beats.known_labels,
        fold_of_row=np.arange(beats.n_rows) % 5 if folds is None else folds,
        oof_probs=probs,
        test_ids=beats.ids[:0],
        test_probs=probs[:0],
        train_fingerprint=beats.fingerprint,
        test_fingerprint="",
    )
    models = models or {name: probs}
    scored = ScoredRows(name, METRICS[metric], rule or METRICS[metric].rules[0], predictions)
    return examine(scored, models, beats.signals, 0.5)


@pytest.fixture
def beats():
    return make_rows(n=N, t=16, k=K)


def test_a_row_beside_the_predicted_class_and_a_row_beside_its_own_are_told_apart(beats):
    labels = beats.known_labels
    one, other, lost = (int(np.flatnonzero(labels == 0)[place]) for place in (0, 1, 2))
    signals = beats.signals.copy()
    signals[one] = signals[np.flatnonzero(labels == 1)[-1]]
    signals[lost] = 50.0
    predicted = labels.copy()
    predicted[[one, other, lost]] = 1
    probs = 0.1 + 0.7 * np.eye(K)[predicted]
    found = findings_of(replace(beats, signals=signals), probs)
    assert dict(zip(found.wrong.rows.tolist(), found.wrong.types.tolist(), strict=True)) == {
        one: "like the other class",
        other: "like their own class",
        lost: "unlike both classes",
    }
    scores = {each.name: each.score * N for each in found.what_ifs}
    assert scores == pytest.approx(
        {
            "every label issue were a wrong label": 0.0,
            "0 predicted as 1 were right": 0.0,
            **{f"wrong rows {error_type} were right": 4.0 for error_type in found.wrong.types},
        }
    )


@pytest.mark.parametrize(
    ("metric", "rule"),
    [
        *[("abs-sum", rule) for rule in ("half", "raw", "tuned")],
        *[("log-loss", rule) for rule in ("raw", "temperature")],
        ("accuracy", "argmax"),
        *[("macro-f1", rule) for rule in ("argmax", "class weights")],
        ("macro-roc-auc", "raw"),
    ],
)
def test_each_what_if_is_the_score_of_its_answers_and_none_is_worse(beats, metric, rule):
    rng = np.random.default_rng(0)
    models = {name: rng.dirichlet(np.ones(K), N) for name in "abc"}
    found = findings_of(
        beats, np.mean(list(models.values()), axis=0), models, rule=rule, metric=metric
    )
    scored, scorer = found.scored, METRICS[metric]
    sign = 1 if scorer.greater_is_better else -1
    for each in found.what_ifs:
        is_of_other_answers = each.name.startswith("each row")
        assert is_of_other_answers or sign * (each.score - scored.score) >= -1e-9
    for error_type in ("like the other class", "like their own class"):
        answers = scored.answers.copy()
        rows = found.wrong.rows[found.wrong.types == error_type]
        answers[rows] = np.eye(K)[scored.labels[rows]]
        (what_if,) = (each for each in found.what_ifs if f"wrong rows {error_type}" in each.name)
        assert what_if.score == scorer.score(answers, scored.labels)
        assert what_if.n_rows == len(rows)
    has_floor = any("best weights" in each.name for each in found.what_ifs)
    assert has_floor == (metric == "abs-sum")


@pytest.mark.parametrize("metric", METRICS)
def test_no_choice_of_a_model_for_each_row_beats_the_best_model_of_each_row(beats, metric):
    rng = np.random.default_rng(0)
    models = {name: rng.dirichlet(np.ones(K), N) for name in "abc"}
    found = findings_of(beats, models["a"], models, metric=metric)
    best = next(each.score for each in found.what_ifs if "best model" in each.name)
    scorer, rule = METRICS[metric], METRICS[metric].rules[0]
    scored = found.scored
    answers = np.stack(
        [
            oof_answers(scorer, replace(scored.predictions, oof_probs=probs), rule)
            for probs in models.values()
        ]
    )
    for _ in range(50):
        mixed = answers[rng.integers(0, 3, N), np.arange(N)]
        score = scorer.score(mixed, scored.labels)
        assert score <= best if scorer.greater_is_better else score >= best
    if isinstance(scorer, RowMetric):
        of_rows = [scorer.contributions(each, scored.labels) for each in answers]
        wanted = np.max(of_rows, axis=0) if scorer.greater_is_better else np.min(of_rows, axis=0)
        assert best == pytest.approx(wanted.mean())


@pytest.mark.parametrize("metric", METRICS)
def test_a_confusion_loses_what_the_score_gains_without_it(beats, metric):
    rng = np.random.default_rng(1)
    found = findings_of(beats, rng.dirichlet(np.ones(K), N), metric=metric)
    scored, scorer = found.scored, METRICS[metric]
    sign = 1 if scorer.greater_is_better else -1
    for cell in found.cells:
        is_in = (scored.labels == cell.truth) & (scored.predicted == cell.predicted)
        answers = scored.answers.copy()
        answers[is_in] = np.eye(K)[scored.labels[is_in]]
        gain = sign * (scorer.score(answers, scored.labels) - scored.score)
        assert cell.loss / N == pytest.approx(gain, abs=1e-9)
    if isinstance(scorer, RowMetric):
        whole = losses_of(scored).mean()
        assert whole == pytest.approx(1 - scored.score if sign == 1 else scored.score)


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_the_metric_and_its_direction(beats, tmp_path):
    found = findings_of(beats, probs_for(beats.known_labels, 5), metric="macro-f1")
    page.write(tmp_path / "p.html", found, beats.signals)
    text = (tmp_path / "p.html").read_text()
    assert "macro-f1 (higher is better)" in text
    assert "abs-sum" not in text
    assert "do not quite add up" in text
    assert "-0.0000" not in text


def test_without_any_mistake_there_is_a_page_that_says_so(beats, tmp_path):
    found = findings_of(beats, probs_for(beats.known_labels, 0))
    page.write(tmp_path / "p.html", found, beats.signals)
    text = (tmp_path / "p.html").read_text()
    assert "Every row is predicted right" in text
    assert "0 rows are label issues" in text
    numbers = page.numbers(found)
    assert (numbers["n_wrong"], numbers["n_label_issues"], numbers["far_distance"]) == (0, 0, None)
    assert {each["score"] for each in numbers["what_if"]} == {0.0}


def test_where_all_rows_are_wrong_nothing_is_far_and_the_numbers_are_finite(beats, tmp_path):
    found = findings_of(beats, probs_for(beats.known_labels, N))
    assert "unlike both classes" not in found.wrong.types
    assert len(found.right.rows) == 0
    page.write(tmp_path / "p.html", found, beats.signals)
    assert "no right rows set a bound" in (tmp_path / "p.html").read_text()
    json.dumps(page.numbers(found), allow_nan=False)


def test_a_class_without_rows_in_other_folds_has_no_distance_and_the_page_is_written(
    beats, tmp_path
):
    labels = beats.known_labels
    folds = np.where(labels == 1, 0, np.arange(N) % 3)
    found = findings_of(beats, probs_for(labels, 12), folds=folds)
    is_alone = labels[found.wrong.rows] == 1
    assert np.array_equal(np.isinf(found.wrong.own), is_alone)
    assert is_alone.any()
    page.write(tmp_path / "p.html", found, beats.signals)
    json.dumps(page.numbers(found), allow_nan=False)


def test_names_and_ids_of_markup_are_only_text(beats, tmp_path):
    hostile = "<script>alert(1)</script>"
    ids = np.array([f"{hostile}{row}" for row in range(N)])
    found = findings_of(replace(beats, ids=ids), probs_for(beats.known_labels, 3), name=hostile)
    page.write(tmp_path / "p.html", found, beats.signals)
    text = (tmp_path / "p.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;2" in text


# --- the command ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A working directory with a, b and c, the blend of a and b, and a run of two seeds."""
    folder = tmp_path_factory.mktemp("made")
    write_files(folder)
    write_experiment(folder, "a", n_wrong=6)
    write_experiment(folder, "b", n_wrong=4)
    write_experiment(folder, "c", n_wrong=6, start=2)
    _, report = write_experiment(
        folder, "both", n_wrong=6, kind="blend", base_models={"a": 0.5, "b": 0.5}
    )
    recipe = BlendRecipe(
        base_models=("a", "b"),
        metric=MetricSpec.model_validate_json(json.dumps(report["metric"])),
        method="mean",
        combination=Arithmetic(weights=(0.5, 0.5)),
        calibration=CALIBRATIONS["none"](np.eye(2), np.array([0, 1])),
        rule_name="half",
        rule=Half(),
        fingerprints=("a", "b"),
    )
    write_recipe(folder / "experiments/both/recipe.json", recipe)
    settings = [word for each in TINY for word in ("--set", each)]
    numbers_of(run_hbcomp(["cv", "quickstart", *settings, "--name", "nets"], folder))
    return folder


@pytest.fixture(scope="module")
def of_both(made):
    """What the command says of the blend, and what it writes, by the file's name."""
    numbers = numbers_of(run_hbcomp(["mistakes", "both"], made, draws=True))
    return numbers, {name: (made / numbers[name]).read_bytes() for name in ("page", "label_issues")}


def test_a_blend_is_judged_by_its_base_models(made, of_both):
    numbers, written = of_both
    assert numbers["models"] == ["a", "b"]
    assert (numbers["n_wrong"], numbers["score"]) == (6, pytest.approx(12 * PER_ROW))
    assert sum(cell["loss"] for cell in numbers["cells"]) == pytest.approx(12 * PER_ROW)
    left = {each["name"]: each["score"] for each in numbers["what_if"]}
    assert left["every label issue were a wrong label"] == pytest.approx(4 * PER_ROW)
    assert left["each row had its best model's answer"] == pytest.approx(8 * PER_ROW)
    assert left["each row had its best weights, threshold 0.5"] == pytest.approx(8 * PER_ROW)
    text = written["page"].decode()
    assert all(f'id="{name}"' in text for name in ("distances", "margins", "label-issues"))
    labels = Predictions.load(made / "experiments/both/predictions.npz").labels
    wanted = [(str(row), str(labels[row]), str((labels[row] + 1) % K)) for row in range(4)]
    found = list(csv.DictReader(io.StringIO(written["label_issues"].decode())))
    assert [(row["id"], row["label"], row["predicted"]) for row in found] == wanted
    assert [float(row["least_probability"]) for row in found] == pytest.approx([0.8] * 4)


def test_further_experiments_must_agree_too_and_the_bound_holds(made):
    assert numbers_of(run_hbcomp(["mistakes", "both", "c"], made))["models"] == ["a", "b", "c"]
    assert [row["id"] for row in label_issues_in(made / "experiments/both")] == ["2", "3"]
    numbers = numbers_of(run_hbcomp(["mistakes", "b", "--min-prob", "0.85"], made))
    assert (numbers["models"], numbers["n_label_issues"]) == (["b"], 0)
    text = (made / "experiments/b/label_issues.csv").read_text()
    assert text == "id,label,predicted,least_probability\n"


def test_a_run_is_judged_by_the_nets_of_each_seed_and_stays_verified(made):
    numbers = numbers_of(run_hbcomp(["mistakes", "nets"], made))
    assert numbers["models"] == ["seed 0", "seed 1"]
    run = made / "experiments/nets"
    of_seed = np.zeros((2, N, K))
    for seed, fold in np.ndindex(2, 2):
        with np.load(run / f"folds/{seed}-{fold}/result.npz") as arrays:
            of_seed[seed, arrays["valid_idx"]] = arrays["valid_probs"]
    predictions = Predictions.load(run / "predictions.npz")
    assert np.allclose(of_seed.mean(axis=0), predictions.oof_probs)
    predicted = of_seed.argmax(axis=2)
    is_issue = (of_seed.max(axis=2) > 0.5).all(axis=0) & (predicted[0] == predicted[1])
    is_issue &= predicted[0] != predictions.labels
    ids = {row["id"] for row in label_issues_in(run)}
    assert ids == set(predictions.train_ids[is_issue].tolist())
    assert numbers_of(run_hbcomp(["verify", "nets"], made))["n_failed"] == 0


def test_the_same_command_writes_the_same_bytes(made, of_both):
    numbers, names = of_both
    calls = []
    for _ in range(2):
        assert numbers_of(run_hbcomp(["mistakes", "both"], made, draws=True)) == numbers
        calls.append([(made / numbers[name]).read_bytes() for name in names])
    assert calls[0] == calls[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent"], "report.json: no such file; has the experiment finished?"),
        (["a", "both"], "both is a blend; name its base models instead"),
        (["both", "a"], "a is named 2 times"),
        (["a", "--min-prob", "0.4"], "0.5 <= min_prob < 1 must hold"),
        (["odd"], "its rule 'of its own' cannot be cross-fitted here"),
        (["a", "other"], "other was made on other train rows than a"),
    ],
)
def test_what_cannot_be_examined_is_one_line(made, words, message):
    if "odd" in words and not (made / "experiments/odd").exists():
        write_experiment(made, "odd", chosen={"name": "of its own", "rule": {"kind": "half"}})
    if "other" in words and not (made / "experiments/other").exists():
        predictions, _ = write_experiment(made, "other")
        path = made / "experiments/other/predictions.npz"
        replace(predictions, train_fingerprint="other").save(path)
    done = run_hbcomp(["mistakes", *words], made)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert message in line


def test_a_run_that_another_process_holds_is_left_alone(made):
    with locked(RunFolder(made / "experiments/a")):
        done = run_hbcomp(["mistakes", "a"], made)
    assert (done.returncode, "another process is working on this run" in done.stderr) == (2, True)


def test_without_the_data_the_command_says_which_file_is_missing(made, tmp_path):
    write_files(tmp_path)
    write_experiment(tmp_path, "a")
    (tmp_path / "train.csv").unlink()
    done = run_hbcomp(["mistakes", "a"], tmp_path)
    assert (done.returncode, "train.csv" in done.stderr) == (2, True)
