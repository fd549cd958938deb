"""Where pseudo-labels come from: only nets that held out the same rows."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from torch import nn

from hbcomp.crossval.pseudo_labels import load_pseudo_labels, write_pseudo_rows
from hbcomp.data.dataset import Dataset
from hbcomp.data.splits import Folds, FoldsConfig, make_folds
from hbcomp.data.synthetic import make_rows
from hbcomp.experiment.folder import find_run
from hbcomp.experiment.predictions import ALL, FoldResult
from hbcomp.experiment.resume import (
    PSEUDO_KEY,
    SEED_KEY,
    RunRecord,
    check_resumable,
    write_run,
)
from hbcomp.experiment.stored_folds import save_fold
from hbcomp.system.errors import InputError
from hbcomp.training.pseudo import PseudoConfig

N_TEST, K = 12, 3


class Rows(NamedTuple):
    """What a source was made on."""

    train: Dataset
    test: Dataset | None = None


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data():
    test = make_rows(n=N_TEST, t=8, k=K, seed=1)
    ids = np.array([f"t{row}" for row in range(N_TEST)])
    return Rows(make_rows(n=30, t=8, k=K), replace(test, ids=ids, labels=None))


def folds_of(data, *seeds):
    return {seed: make_folds(FoldsConfig(n_folds=3), data.train, seed) for seed in seeds}


def probs_by_a_net(labels, salt=0):
    """Return test probabilities that every label a net is trained on has a say in."""
    seed = [*labels.tolist(), salt]
    return np.random.default_rng(seed).dirichlet(np.full(K, 0.1), N_TEST).astype(np.float32)


def store_source(name, data, folds_of_seed, missing=()):
    """Store a run's folds as `cv` would, with nets that remember all labels they were given."""
    run = find_run(name)
    identity = {
        "train.lr": 0.1,
        "train data": data.train.fingerprint,
        "test data": data.test.fingerprint,
        **{f"{SEED_KEY}{seed}": folds.fingerprint for seed, folds in folds_of_seed.items()},
    }
    run.path.mkdir(parents=True)
    (run.path / "config.toml").touch()
    record = RunRecord(identity=identity)
    write_run(run, record)
    for seed, folds in folds_of_seed.items():
        for fold in {0, 1, 2} - set(missing):
            given = data.train.known_labels[folds.train_idx(fold)]
            valid_idx = folds.valid_idx(fold)
            result = FoldResult(
                seed,
                fold,
                valid_idx,
                np.full((len(valid_idx), K), 1 / K, dtype=np.float32),
                probs_by_a_net(given, salt=seed),
            )
            save_fold(run, record.fold_identity(seed), result, nn.Linear(1, 1), [["epoch"], [1]])
    return identity


def load(data, folds_of_seed, *runs, min_prob=0.6):
    return load_pseudo_labels(PseudoConfig(runs=runs, min_prob=min_prob), *data, folds_of_seed)


def rows_of(pseudo, key):
    rows = pseudo.of_fold[key]
    return rows.test_idx.tolist(), rows.labels.tolist(), rows.probs.tolist()


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_no_label_of_a_fold_reaches_the_rows_of_its_net(data, fold, monkeypatch, tmp_path):
    folds = folds_of(data, 0)[0]
    found = []
    for name in ("true", "changed"):
        labels = data.train.known_labels.copy()
        if name == "changed":
            held_out = folds.valid_idx(fold)
            labels[held_out] = (labels[held_out] + 1) % K
        there = Rows(replace(data.train, labels=labels), data.test)
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        store_source("a", there, {0: folds})
        found.append(load(there, {0: folds}, "a"))
    one, other = found
    assert len(rows_of(one, (0, fold))[0])
    assert rows_of(one, (0, fold)) == rows_of(other, (0, fold))
    # The nets of the other folds saw the change, and so did the mean over all of them.
    for another in {0, 1, 2} - {fold}:
        assert rows_of(one, (0, another)) != rows_of(other, (0, another))
    assert one.of_all.probs.tolist() != other.of_all.probs.tolist()


def test_of_a_source_only_nets_of_the_same_split_speak_whatever_their_seed(data):
    first, second = folds_of(data, 0, 1).values()
    store_source("a", data, {5: first, 6: second, 7: first})
    pseudo = load(data, {0: first}, "a")
    for fold in range(3):
        given = data.train.known_labels[first.train_idx(fold)]
        mean = np.mean([probs_by_a_net(given, salt).astype(float) for salt in (5, 7)], axis=0)
        expected = np.flatnonzero(mean.max(axis=1) >= 0.6)
        assert pseudo.of_fold[0, fold].test_idx.tolist() == expected.tolist()
        assert pseudo.of_fold[0, fold].probs == pytest.approx(mean.max(axis=1)[expected])


def test_without_runs_there_are_no_pseudo_labels(data):
    assert load(data, folds_of(data, 0)) is None


def test_without_test_rows_pseudo_labels_are_refused(data):
    with pytest.raises(InputError, match="pseudo-labels are for test rows; name a file with --tes"):
        load(Rows(data.train), folds_of(data, 0), "a")


def test_every_source_that_cannot_serve_is_named_with_its_reason(data):
    split = folds_of(data, 0, 1)
    store_source("fine", data, split)
    store_source("other-folds", data, {0: split[0]})
    store_source("unfinished", data, split, missing=[1])
    others = replace(data.train, signals=data.train.signals * np.float32(0.5))
    store_source("other-beats", Rows(others, data.test), split)
    assert load(data, split, "fine") is not None
    with pytest.raises(InputError) as error:
        load(data, split, "fine", "none", "other-folds", "unfinished", "other-beats")
    assert str(error.value) == (
        "pseudo.runs: none has no trained folds (there are: fine, other-beats, other-folds, "
        "unfinished); other-folds was cross-validated over other folds than those of seed 1; "
        "unfinished has still to train 0-1 (seed-fold); "
        "unfinished has still to train 1-1 (seed-fold); "
        "other-beats was trained with other train data"
    )


def test_folds_that_only_count_alike_are_other_folds(data):
    folds = folds_of(data, 0)[0]
    store_source("a", data, {0: folds})
    turned = Folds((folds.fold_of_row + 1) % 3, 3, 0)
    with pytest.raises(InputError, match="other folds than those of seed 0"):
        load(data, {0: turned}, "a")


def test_pseudo_labels_of_a_seed_bind_the_folds_of_that_seed_alone(data):
    identity = {"train.lr": 0.1, f"{PSEUDO_KEY}0": "aa", f"{PSEUDO_KEY}1": "bb"}
    changed = {**identity, f"{PSEUDO_KEY}1": "cc"}
    before, after = RunRecord(identity=identity), RunRecord(identity=changed)
    assert before.fold_identity(0) == after.fold_identity(0)
    assert before.fold_identity(1) != after.fold_identity(1)
    run = find_run("b")
    run.path.mkdir(parents=True)
    write_run(run, before)
    fewer = RunRecord(identity={key: identity[key] for key in list(identity)[:2]})
    check_resumable(run, fewer, force=False)
    with pytest.raises(InputError, match="pseudo-labels of seed 1 was 'bb', now 'cc'"):
        check_resumable(run, after, force=False)


def test_the_record_names_every_row_of_every_net(data, tmp_path):
    split = folds_of(data, 0)
    store_source("a", data, split)
    pseudo = load(data, split, "a")
    rows_of_net = {(0, 2): pseudo.of_fold[0, 2], (7, ALL): pseudo.of_all}
    write_pseudo_rows(tmp_path / "pseudo.csv", data.test.ids, rows_of_net, data.train.classes)
    written = pd.read_csv(tmp_path / "pseudo.csv", dtype={"fold": str})
    for (seed, fold), rows in rows_of_net.items():
        part = written[(written.seed == seed) & (written.fold == str(fold))]
        assert part.id.tolist() == data.test.ids[rows.test_idx].tolist()
        assert part.label.tolist() == rows.labels.tolist()
        assert part.prob.tolist() == rows.probs.tolist()
