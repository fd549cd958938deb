"""A cross-validation from arrays is the command's: same bits, same folder, same errors."""

import json
import logging

import numpy as np
import pytest
from commands import few_trials, run_hbcomp
from notebook_rows import CLASSES, TINY, make_arrays

import hbcomp
from hbcomp.competitions.load import load_data
from hbcomp.data.dataset import DataConfig
from hbcomp.scoring.choice import cross_fitted_answers
from hbcomp.scoring.metrics import ACCURACY

X, Y, T, _ = make_arrays()
SMALL = {"n_folds": 2, "overrides": TINY}


def fold_times(run):
    return {path: path.stat().st_mtime_ns for path in run.glob("experiments/*/folds/*")}


def test_arrays_and_their_folder_and_the_command_give_the_same_bits(here):
    one = hbcomp.cross_validate(X, Y, T, run="one", **SMALL)
    two = hbcomp.cross_validate("experiments/one/data", run="two", **SMALL)
    words = [f"{key}={json.dumps(value)}" for key, value in TINY.items()]
    sets = [word for each in ["folds.n_folds=2", *words] for word in ("--set", each)]
    line = ["cv", "resnet", "--competition", "experiments/one/data", "--name", "three", *sets]
    done = run_hbcomp([*line, "--set", "folds.seeds=[0]"], here)
    assert done.returncode == 0, done.stderr
    three = hbcomp.cross_validate("experiments/one/data", run="three", **SMALL)
    for other in (two, three):
        assert np.array_equal(one.oof_probs, other.oof_probs)
        assert np.array_equal(one.test_probs, other.test_probs)
        assert (one.score, one.standard_error) == (other.score, other.standard_error)
    files = [(here / f"submissions/{name}.csv").read_bytes() for name in ("one", "three")]
    assert files[0] == files[1] == one.submit(here / "sub.csv").read_bytes()


def test_commands_go_on_with_a_run_that_began_with_arrays(here):
    first = hbcomp.cross_validate(X, Y, T, run="mine", **SMALL)
    for words in (["cv", "mine"], ["verify", "mine"], ["predict", "mine", "--out", "again.csv"]):
        done = run_hbcomp(words, here, prepare=few_trials)
        assert done.returncode == 0, done.stderr
    assert (here / "again.csv").read_bytes() == (here / "submissions/mine.csv").read_bytes()
    assert first.page.exists()


def test_the_result_is_what_its_probabilities_say(here):
    result = hbcomp.cross_validate(X, Y, T, **SMALL)
    assert result.classes.tolist() == CLASSES.tolist()
    assert np.array_equal(CLASSES[result.labels], Y)
    answers = cross_fitted_answers(
        result.rule, ACCURACY, result.oof_probs, result.labels, result.fold_of_row
    )
    hits = answers.argmax(axis=1) == result.labels
    assert result.score == hits.mean()
    assert np.isclose(result.standard_error, hits.std(ddof=1) / len(X) ** 0.5)
    assert np.array_equal(result.predicted, CLASSES[result.test_probs.argmax(axis=1)])
    assert result.test_ids.tolist() == [*map(str, range(len(T)))]
    assert f"{result.score:.4f}" in repr(result)


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(60) % 3 * 7 - 7,
        np.arange(60) % 3 * 1.0,
        np.arange(60) % 2 == 0,
        np.array(["b", "a", "ä"] * 20, dtype=object),
    ],
    ids=["ints", "floats", "bools", "objects"],
)
def test_labels_of_any_kind_come_back_as_they_were(here, labels):
    result = hbcomp.cross_validate(X, labels, T, **SMALL)
    assert np.array_equal(result.classes, np.unique(labels))
    assert np.array_equal(result.classes[result.labels], labels)
    assert set(result.predicted) <= set(labels)


def test_channels_missing_values_groups_and_ids_reach_the_rows(here):
    signals = np.stack([X, X[:, ::-1]], axis=1)
    signals[3, 0, 5:] = np.nan
    groups, ids = np.arange(60) // 6, [f"row-{n}" for n in range(60)]
    hbcomp.cross_validate(signals, Y, groups=groups, ids=ids, run="mine", **SMALL)
    train, test = load_data(DataConfig(competition="experiments/mine/data"))
    assert test is None
    assert np.array_equal(train.signals, signals.astype(np.float32), equal_nan=True)
    assert (train.ids.tolist(), train.groups.tolist()) == (ids, [*map(str, groups)])
    result = hbcomp.cross_validate(signals, Y, groups=groups, ids=ids, run="mine", **SMALL)
    assert all(len({*result.fold_of_row[groups == each]}) == 1 for each in groups)
    assert len(result.answers) == 0


def test_the_same_call_reads_what_is_finished_and_other_arguments_make_another_run(here):
    first = hbcomp.cross_validate(X, Y, T, **SMALL)
    before = fold_times(here)
    again = hbcomp.cross_validate(X, Y, T, **SMALL)
    assert fold_times(here) == before
    assert (again.run, again.score) == (first.run, first.score)
    others = [
        hbcomp.cross_validate(X, Y, T, **{**SMALL, "seeds": [1]}),
        hbcomp.cross_validate(X, Y, T, metric="log-loss", **SMALL),
        hbcomp.cross_validate(-X, Y, **SMALL),
    ]
    assert len({first.run, *(each.run for each in others)}) == 4


def test_the_callback_gets_every_fold_as_soon_as_it_is_stored(here):
    seen = []

    def stop(done):
        seen.append(done)
        assert (here / f"experiments/mine/folds/{done.seed}-{done.fold}").is_dir()
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        hbcomp.cross_validate(X, Y, T, run="mine", callback=stop, **SMALL)
    assert len(fold_times(here)) == 1
    result = hbcomp.cross_validate(X, Y, T, run="mine", callback=seen.append, **SMALL)
    assert [(each.seed, each.fold, each.n_trained, each.n_pending) for each in seen] == [
        (0, 0, 1, 2),
        (0, 1, 1, 1),
    ]
    for each in seen:
        held_out = result.fold_of_row == each.fold
        hits = result.oof_probs[held_out].argmax(axis=1) == result.labels[held_out]
        assert (each.n_rows, each.score) == (held_out.sum(), hits.mean())


@pytest.mark.long("worker processes import everything")
def test_the_callback_hears_of_folds_that_workers_train(here):
    seen = []
    hbcomp.cross_validate(X, Y, T, callback=seen.append, jobs=2, **SMALL)
    assert [each.n_trained for each in seen] == [1, 2]
    assert {each.fold for each in seen} == {0, 1}


def test_a_blend_of_results_is_that_of_the_command(here):
    runs = [hbcomp.cross_validate(X, Y, T, **{**SMALL, "seeds": [seed]}) for seed in (0, 1)]
    blend = hbcomp.blend(runs, method="mean", calibration="none")
    assert np.allclose(blend.test_probs, (runs[0].test_probs + runs[1].test_probs) / 2)
    assert hbcomp.blend([each.run for each in runs], run="named").report.kind == "blend"
    words = ["blend", *(each.run for each in runs), "--name", "b", "--method", "mean"]
    done = run_hbcomp([*words, "--calibration", "none"], here, prepare=few_trials)
    assert done.returncode == 0, done.stderr
    submitted = blend.submit(here / "sub.csv")
    assert submitted.read_bytes() == (here / "submissions/b.csv").read_bytes()
    with pytest.raises(hbcomp.InputError, match="at least one experiment"):
        hbcomp.blend([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": X[0]}, r"X must be numbers of shape \(n, t\) or \(n, c, t\), but is float64"),
        ({"X": X.astype(str)}, "X must be numbers"),
        ({"X": [[1, 2], [3]]}, "inhomogeneous|X must hold numbers"),
        (
            {"X": np.where(np.arange(60)[:, None] == 5, 1e300, X)},
            "X: values must be finite in float32.* row 5",
        ),
        ({"y": Y[:-1]}, r"y must have the shape \(60,\), but has \(59,\)"),
        ({"y": None}, "y must have the shape"),
        ({"y": X[:, 0]}, "y must hold classes, but holds numbers that are not whole"),
        ({"y": np.where(np.arange(60) == 7, np.nan, 1.0)}, "every row must have a label.* row 7"),
        ({"y": np.zeros(60)}, "there must be 2 to"),
        ({"y": np.array(["1", "01", "2"] * 20)}, "equal as numbers"),
        ({"y": np.array(["1", 1, 2] * 20, dtype=object)}, "labels of one kind"),
        ({"ids": [0] * 60}, "ids must be unique"),
        ({"groups": np.zeros(3)}, r"groups must have the shape \(60,\)"),
        ({"groups": [None] * 60}, "groups must not be empty"),
        ({"X_test": X[:, :5]}, "time steps"),
        ({"metric": "accurracy"}, "metric.name must be one of"),
        ({"metric": {"name": "metric.py:score", "answers": "labels"}}, "greater_is_better"),
        ({"metric": {"name": "cost-matrix", "costs": "costs.csv"}}, "needs a file"),
        ({"preset": "restnet"}, "no such experiment, did you mean resnet"),
        ({"overrides": {"train.n_epoch": 3}}, "unknown key train.n_epoch, did you mean"),
        ({"overrides": {"train.lr": -1}}, "train.lr: Input should be greater than 0"),
        ({"run": "a/b"}, "an experiment's name must be letters"),
        ({"n_folds": 40}, "n_folds|fold"),
    ],
)
def test_wrong_input_is_a_value_error_and_nothing_is_left(here, change, message):
    given = {"X": X, "y": Y, **SMALL, **change}
    with pytest.raises(ValueError, match=message) as raised:
        hbcomp.cross_validate(given.pop("X"), given.pop("y"), **given)
    if "inhomogeneous" not in str(raised.value):  # which is numpy's own
        assert isinstance(raised.value, hbcomp.InputError)
    assert not [path for path in here.rglob("*") if path.is_file() and path.name != "run.lock"]


def test_a_run_keeps_its_arrays_unless_others_are_forced_on_it(here):
    first = hbcomp.cross_validate(X, Y, T, run="mine", **SMALL)
    kept = {path.name for path in (here / "experiments/mine/data").iterdir()}
    with pytest.raises(hbcomp.InputError, match="this run has other arrays; choose another run="):
        hbcomp.cross_validate(-X, Y, T, run="mine", **SMALL)
    assert {path.name for path in (here / "experiments/mine/data").iterdir()} == kept
    other = hbcomp.cross_validate(-X, Y, T, run="mine", force=True, **SMALL)
    assert not np.array_equal(first.oof_probs, other.oof_probs)
    assert len(list((here / "experiments/mine/data").iterdir())) == len(kept)


def test_a_folder_says_everything_itself(here):
    with pytest.raises(hbcomp.InputError, match=r"competition.toml says y, metric; leave them out"):
        hbcomp.cross_validate("mine", Y, metric="accuracy")
    with pytest.raises(hbcomp.InputError, match=r"mine: neither a folder with a competition.toml"):
        hbcomp.cross_validate("mine")


def test_a_notebook_prints_nothing_and_logs_what_commands_print(here, capfd, caplog):
    with caplog.at_level(logging.INFO, logger="hbcomp"):
        doubled = np.concatenate([X, X[:3]])
        hbcomp.cross_validate(doubled, np.concatenate([Y, Y[:3]]), T, verbose=False, **SMALL)
    assert capfd.readouterr() == ("", "")
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "3 of 63 training rows repeat the signal of another" in warnings
    assert any(each.getMessage().startswith("out of fold:") for each in caplog.records)


def test_bars_are_shown_on_a_screen_if_asked_for(here, monkeypatch, capfd):
    from hbcomp.system.command import console

    monkeypatch.setattr(console, "_force_terminal", True)
    hbcomp.cross_validate(X, Y, T, run="mine", verbose=False, **SMALL)
    assert capfd.readouterr() == ("", "")
    hbcomp.cross_validate(X, Y, T, run="other", **SMALL)
    assert "all folds" in capfd.readouterr().err
