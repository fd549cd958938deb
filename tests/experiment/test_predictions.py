import csv
import re
from dataclasses import replace

import numpy as np
import pytest

from hbcomp.competitions.submission_form import plain_form
from hbcomp.data.dataset import Dataset
from hbcomp.data.splits import FoldsConfig, make_folds
from hbcomp.data.synthetic import make_rows
from hbcomp.data.tables import read_values, write_values
from hbcomp.experiment.predictions import (
    FoldResult,
    Predictions,
    assemble,
    check_aligned,
    have_same_folds,
    mean_probs,
    sampled_rows,
    write_probs_csv,
)
from hbcomp.submissions.files import check_submission, submission_bytes
from hbcomp.system.errors import InputError

SEEDS = (0, 7)


@pytest.fixture
def train():
    return make_rows(n=40, t=8, k=3)


@pytest.fixture
def test():
    return make_rows(n=9, t=8, k=3, seed=1)


@pytest.fixture
def folds_of_seed(train):
    return {seed: make_folds(FoldsConfig(n_folds=3, seeds=SEEDS), train, seed) for seed in SEEDS}


def random_results(folds_of_seed, n_test=9, k=3):
    rng = np.random.default_rng(0)
    return [
        FoldResult(
            seed=seed,
            fold=fold,
            valid_idx=folds.valid_idx(fold),
            valid_probs=rng.dirichlet(np.ones(k), len(folds.valid_idx(fold))).astype(np.float32),
            test_probs=rng.dirichlet(np.ones(k), n_test).astype(np.float32) if n_test else None,
        )
        for seed, folds in folds_of_seed.items()
        for fold in range(folds.n_folds)
    ]


def test_out_of_fold_is_the_mean_over_seeds_and_test_the_mean_over_all_nets(
    train, test, folds_of_seed
):
    results = random_results(folds_of_seed)
    predictions = assemble(train, test, folds_of_seed, results)
    for row in range(train.n_rows):
        of_row = [r.valid_probs[r.valid_idx == row][0] for r in results if row in r.valid_idx]
        assert len(of_row) == len(SEEDS)
        np.testing.assert_allclose(predictions.oof_probs[row], np.mean(of_row, axis=0), rtol=1e-6)
    expected = np.mean([result.test_probs for result in results], axis=0)
    np.testing.assert_allclose(predictions.test_probs, expected, rtol=1e-6)


def test_the_order_in_which_folds_finish_does_not_change_a_bit(train, test, folds_of_seed):
    results = random_results(folds_of_seed)
    forwards = assemble(train, test, folds_of_seed, results)
    backwards = assemble(train, test, folds_of_seed, results[::-1])
    assert np.array_equal(forwards.oof_probs, backwards.oof_probs)
    assert np.array_equal(forwards.test_probs, backwards.test_probs)


def test_applying_the_nets_again_sums_in_the_same_order(train, test, folds_of_seed):
    results = random_results(folds_of_seed)
    predictions = assemble(train, test, folds_of_seed, results)
    again = mean_probs([result.test_probs for result in results])
    assert np.array_equal(predictions.test_probs, again)


def test_without_a_test_file_the_test_part_is_empty(train, folds_of_seed):
    results = random_results(folds_of_seed, n_test=0)
    predictions = assemble(train, None, folds_of_seed, results)
    assert predictions.test_probs.shape == (0, 3)
    assert len(predictions.test_ids) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda results: results[1:], "seed 0 fold 0 is missing"),
        (lambda results: [*results, results[2]], "seed 0 fold 2 is double"),
        (
            lambda results: [*results, _renamed(results[0], seed=3)],
            "seed 3 fold 0 is unknown",
        ),
        (
            lambda results: [
                _renamed(results[0], fold=1),
                _renamed(results[1], fold=0),
                *results[2:],
            ],
            "seed 0 fold 0 holds other rows than its fold; seed 0 fold 1 holds other rows",
        ),
    ],
    ids=["missing", "double", "unknown", "swapped"],
)
def test_an_incomplete_set_of_results_is_refused(train, test, folds_of_seed, change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        assemble(train, test, folds_of_seed, change(random_results(folds_of_seed)))


def _renamed(result, seed=None, fold=None):
    return replace(
        result,
        seed=result.seed if seed is None else seed,
        fold=result.fold if fold is None else fold,
    )


def test_predictions_survive_the_disk(tmp_path, train, test, folds_of_seed):
    predictions = assemble(train, test, folds_of_seed, random_results(folds_of_seed))
    predictions.save(tmp_path / "p.npz")
    again = Predictions.load(tmp_path / "p.npz")
    for name, array in vars(predictions).items():
        assert np.array_equal(array, getattr(again, name)), name
    assert again.fingerprint == predictions.fingerprint


def test_test_rows_are_kept_by_fold_as_means_over_the_seeds(train, test, folds_of_seed):
    results = random_results(folds_of_seed)
    of_fold = assemble(train, test, folds_of_seed, results).test_probs_of_fold
    for fold, kept in enumerate(of_fold):
        alone = [each.test_probs for each in results if each.fold == fold]
        assert kept == pytest.approx(np.mean(alone, axis=0), abs=1e-6)
    assert assemble(train, test, folds_of_seed, results).test_probs == pytest.approx(
        of_fold.mean(axis=0), abs=1e-6
    )


@pytest.mark.parametrize(("n_rows", "n_kept"), [(1, 1), (7, 7), (20_000, 20_000), (50_001, 20_000)])
def test_at_most_20_000_test_rows_are_kept_evenly_spaced_and_each_once(n_rows, n_kept):
    rows = sampled_rows(n_rows)
    assert (len(rows), len(set(rows)), rows[0]) == (n_kept, n_kept, 0)
    assert rows[-1] == n_rows - 1
    assert set(np.diff(rows)) <= {n_rows // n_kept, -(-n_rows // n_kept)}


def test_rows_by_fold_of_other_test_rows_are_refused(tmp_path, train, test, folds_of_seed):
    predictions = assemble(train, test, folds_of_seed, random_results(folds_of_seed))
    fewer = predictions.test_probs_of_fold[:, 1:]
    replace(predictions, test_probs_of_fold=fewer).save(tmp_path / "p.npz")
    with pytest.raises(InputError, match="test_probs_of_fold has"):
        Predictions.load(tmp_path / "p.npz")


def test_experiments_on_other_rows_are_refused_with_who_differs_where(train, test, folds_of_seed):
    results = random_results(folds_of_seed)
    predictions = assemble(train, test, folds_of_seed, results)
    others = {
        "b": replace(predictions, train_fingerprint="x"),
        "c": replace(predictions, train_fingerprint="x", test_fingerprint=""),
    }
    check_aligned({"a": predictions, "same": predictions})
    with pytest.raises(InputError) as error:
        check_aligned({"a": predictions, **others})
    assert str(error.value) == (
        "all experiments must have the same rows in the same order: b was made on other train "
        "rows than a; c was made on other train rows than a; c was made on other test rows than a"
    )


def test_folds_are_the_same_when_every_row_is(train, test, folds_of_seed):
    predictions = assemble(train, test, folds_of_seed, random_results(folds_of_seed))
    moved = replace(predictions, fold_of_row=predictions.fold_of_row[::-1])
    assert have_same_folds({"a": predictions, "b": replace(predictions)})
    assert not have_same_folds({"a": predictions, "b": predictions, "c": moved})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; has the run finished"),
        (b"PK nonsense", "not the predictions of a run"),
    ],
)
def test_unreadable_predictions_are_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(InputError, match=f"p.npz: {message}"):
        Predictions.load(tmp_path / "p.npz")


def test_a_pickle_in_place_of_predictions_is_refused(tmp_path):
    np.savez(tmp_path / "p.npz", train_ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="not the predictions of a run"):
        Predictions.load(tmp_path / "p.npz")


@pytest.mark.parametrize("columns", [[], ["label"], ["label", "fold"]])
def test_probabilities_in_csv_read_back_to_the_bit(tmp_path, columns):
    probs = np.random.default_rng(0).random((50, 3))
    others = [np.arange(50) % 3] * len(columns)
    write_probs_csv(tmp_path / "oof.csv", np.arange(50).astype(str), probs, *others)
    with (tmp_path / "oof.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", *columns, "prob_0", "prob_1", "prob_2"]
    n_others = 1 + len(columns)
    assert [row[:n_others] for row in rows[:2]] == [["0"] * n_others, ["1"] * n_others]
    assert np.array_equal(np.array([row[n_others:] for row in rows], dtype=float), probs)


def test_an_id_with_line_ends_comes_back_from_every_table(tmp_path):
    ids = np.array(["a\rb", "c\r\nd", "e\nf"])
    probs = np.full((3, 2), 0.5)
    write_probs_csv(tmp_path / "oof.csv", ids, probs, np.array([0, 1, 0]), np.array([0, 1, 0]))
    assert read_values(tmp_path / "oof.csv", "fold", ids) == ["0", "1", "0"]
    (tmp_path / "a.csv").write_bytes(submission_bytes(ids, probs, plain_form(probs.shape[1])))
    assert check_submission(tmp_path / "a.csv", ids).ids.tolist() == ids.tolist()
    beats = Dataset(ids, np.eye(3, dtype=np.float32), np.array([0, 1, 0]))
    write_values(tmp_path / "groups.csv", "group", np.array([5, 5, 6]), beats.ids)
    assert read_values(tmp_path / "groups.csv", "group", ids) == ["5", "5", "6"]
