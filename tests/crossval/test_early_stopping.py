"""Early stopping: which rows are watched, what is kept, and that no scored label has a say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hbcomp.competitions.competition import load_competition
from hbcomp.crossval import training_data
from hbcomp.crossval.fold import FoldTask, train_folds, train_group
from hbcomp.crossval.training_data import (
    NetRows,
    TrainingData,
    load_training_data,
    rows_of_net,
    seed_of_net,
)
from hbcomp.data.splits import Folds, inner_split
from hbcomp.data.synthetic import make_rows
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.predictions import ALL
from hbcomp.experiment.stored_folds import load_fold, load_history
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch
from hbcomp.training.device import Compute
from hbcomp.training.early_stopping import EarlyStopping
from hbcomp.training.loader import NO_LABEL, put_on_device
from hbcomp.training.step import train_epochs

CPU = Compute("cpu", "fp32", 1, "tests")
SPEC = load_competition().metric_spec(["0", "1", "2"])
ROWS = make_rows(n=60, t=16, k=3, seed=3)
FOLDS = Folds(np.arange(60) % 3, 3, 0)
INNER = EarlyStopping(patience=3)


def config_of(early_stopping=INNER, **train):
    return validate(
        Config,
        {
            "net": {"widths": [4], "strides": [2], "hidden": 8},
            "train": {
                "n_epochs": 12,
                "batch_size": 8,
                "lr": 0.03,
                "ema_decay": 0.5,
                "early_stopping": early_stopping.model_dump(),
                **train,
            },
        },
        "",
    )


def task_of(fold, data, config=None):
    config = config or config_of()
    labels = data.labels.numpy()
    rows = rows_of_net(config.train.early_stopping, FOLDS, labels, FOLDS.seed, fold)
    return FoldTask(
        seed=0,
        fold=fold,
        train_idx=rows.train_idx,
        watched_idx=rows.watched_idx,
        valid_idx=FOLDS.valid_idx(fold),
        recipe=config.recipe,
        metric=SPEC,
        compute=CPU,
        n_scored=2,
    )


def data_of(labels=None):
    return put_on_device(ROWS.signals, ROWS.known_labels if labels is None else labels, "cpu")


def trained(task, data):
    """Return the epochs of a fold, which the net ends."""
    epochs = [after for (after,) in train_group([task], data, Stopwatch())]
    assert [bool(each.trained) for each in epochs] == [False] * (len(epochs) - 1) + [True]
    return epochs


def misled(*folds):
    """Return data whose rows that these folds' nets watch have wrong labels: they get worse."""
    labels = ROWS.known_labels.copy()
    for fold in folds:
        watched = rows_of_net(INNER, FOLDS, ROWS.known_labels, 0, fold).watched_idx
        labels[watched] = (ROWS.known_labels[watched] + 1) % 3
    return data_of(labels)


def same_weights(net, other):
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("counts", [[30, 30], [200, 7, 2, 1], [3, 3, 3, 3, 3]])
def test_an_inner_split_sets_a_share_of_each_class_aside(counts, share):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    is_aside = inner_split(labels, None, share, (0, 1))
    for label, n in enumerate(counts):
        n_aside = is_aside[labels == label].sum()
        assert n_aside == min(n - 1, max(1, round(share * n)))
    assert np.array_equal(is_aside, inner_split(labels, None, share, (0, 1)))
    assert not np.array_equal(is_aside, inner_split(labels, None, share, (0, 2)))


@pytest.mark.parametrize("seed", range(20))
def test_an_inner_split_of_groups_keeps_each_whole_and_every_class_on_both_sides(seed):
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 25, 300)
    labels = generator.integers(0, 3, 300)
    is_aside = inner_split(labels, groups, 0.2, (seed,))
    for group in np.unique(groups):
        assert len(set(is_aside[groups == group])) == 1
    for label in range(3):
        assert 0.1 < is_aside[labels == label].mean() < 0.3
    names = np.array([f"patient {group:02}" for group in groups])
    assert np.array_equal(is_aside, inner_split(labels, names, 0.2, (seed,)))


@pytest.mark.parametrize(
    ("labels", "groups", "what"),
    [([0, 1, 2], None, "no rows"), ([0, 0, 1, 1], ["a", "a", "b", "b"], "no whole groups")],
)
def test_rows_that_cannot_be_spared_are_not_watched_in_one_line(labels, groups, what):
    with pytest.raises(InputError, match=f"^train.early_stopping: {what} of the {len(labels)} tr"):
        inner_split(np.array(labels), groups and np.array(groups), 0.1, (0,))


def test_what_cannot_be_watched_is_refused_before_anything_is_trained(monkeypatch):
    # Two groups of each class: a fold holds out one of them, and the other must be trained on.
    train = replace(make_rows(n=8, t=8, k=2), labels=np.arange(8) % 2)
    train = replace(train, groups=np.array(list("acacbdbd")))
    monkeypatch.setattr(training_data, "load_data", lambda _: (train, None))
    config = validate(
        Config, {"folds": {"n_folds": 2}, "train": {"early_stopping": {"patience": 1}}}, ""
    )
    with pytest.raises(InputError, match="no whole groups of the"):
        load_training_data(config)


@pytest.mark.parametrize("fold", [0, 1, 2, ALL])
def test_watched_rows_are_training_rows_that_are_not_trained_on(fold):
    rows = rows_of_net(INNER, FOLDS, ROWS.known_labels, 0, fold)
    own = FOLDS.train_idx(fold) if isinstance(fold, int) else np.arange(60)
    assert rows.watched_idx is not None
    assert len(rows.watched_idx) == len(
        rows_of_net(INNER, FOLDS, ROWS.known_labels, 0, fold).watched_idx
    )
    assert not set(rows.train_idx) & set(rows.watched_idx)
    assert np.array_equal(np.sort(np.concatenate([rows.train_idx, rows.watched_idx])), own)


def test_nets_of_other_seeds_watch_other_rows():
    watched = [rows_of_net(INNER, FOLDS, ROWS.known_labels, seed, 0).watched_idx for seed in (0, 1)]
    assert not np.array_equal(*watched)


def test_without_early_stopping_all_rows_are_trained_on():
    rows = rows_of_net(EarlyStopping(), FOLDS, ROWS.known_labels, 0, 1)
    assert np.array_equal(rows.train_idx, FOLDS.train_idx(1))
    assert rows.watched_idx is None


def test_pseudo_labelled_rows_are_never_watched(monkeypatch):
    class Pseudo:
        test_idx, labels = np.array([0, 3]), np.array([1, 2])

    monkeypatch.setattr(Pseudo, "of_fold", {(0, 1): Pseudo}, raising=False)
    rows = TrainingData.rows_of_net(
        type(
            "Data",
            (),
            {
                "train": ROWS,
                "folds_of_seed": {0: FOLDS},
                "pseudo": Pseudo,
                "early_stopping": INNER,
            },
        )(),
        0,
        1,
    )
    assert isinstance(rows, NetRows)
    plain = rows_of_net(INNER, FOLDS, ROWS.known_labels, 0, 1)
    assert np.array_equal(rows.watched_idx, plain.watched_idx)
    assert rows.train_idx.tolist() == [*plain.train_idx, 60, 63]
    assert rows.train_labels.tolist() == [*ROWS.known_labels[plain.train_idx], 1, 2]


def test_labels_of_the_scored_fold_have_no_influence_on_a_net_with_an_inner_split():
    turned = ROWS.known_labels.copy()
    turned[FOLDS.valid_idx(1)] = (turned[FOLDS.valid_idx(1)] + 1) % 3
    last, other = (trained(task_of(1, data), data)[-1] for data in (data_of(), data_of(turned)))
    assert last.epoch.epoch == other.epoch.epoch
    assert same_weights(last.trained.net, other.trained.net)
    assert np.array_equal(last.trained.valid_probs, other.trained.valid_probs)


def test_labels_of_the_scored_fold_decide_where_the_scored_fold_is_watched():
    config = config_of(EarlyStopping(patience=3, watch="scored-fold"))
    turned = ROWS.known_labels.copy()
    turned[FOLDS.valid_idx(1)] = (turned[FOLDS.valid_idx(1)] + 1) % 3
    epochs, others = (
        trained(task_of(1, data, config), data) for data in (data_of(), data_of(turned))
    )
    assert [each.watched_loss for each in epochs] != [each.watched_loss for each in others]
    assert np.array_equal(task_of(1, data_of(), config).train_idx, FOLDS.train_idx(1))


def test_watched_rows_are_never_trained_on():
    data = data_of()
    task = task_of(0, data)
    epochs = trained(task, data)
    labels = ROWS.known_labels.copy()
    labels[task.watched_idx] = NO_LABEL  # the loss of such a row is an error
    unlabelled = replace(data, labels=torch.tensor(labels))
    others = train_epochs(task.recipe, unlabelled, [task.replica(data.device)], CPU)
    assert [each.epoch.loss for each in epochs] == [
        epoch.loss for _, (epoch,) in zip(epochs, others, strict=False)
    ]


def test_the_net_is_that_of_the_best_epoch_of_the_same_schedule():
    task, data = task_of(2, data_of()), misled(2)
    epochs = trained(task, data)
    losses = [each.watched_loss for each in epochs]
    best = losses.index(min(losses)) + 1
    assert len(epochs) in (best + INNER.patience, 12)
    assert best < len(epochs), "the test needs a net that is worse at its end"
    for (epoch,) in train_epochs(task.recipe, data, [task.replica(data.device)], CPU):
        assert epoch.lr == epochs[epoch.epoch - 1].epoch.lr
        if epoch.epoch == best:
            assert same_weights(epochs[-1].trained.net, epoch.net)
            break


def test_nets_that_train_together_stop_one_by_one_and_have_the_bits_of_nets_alone():
    tasks, data = [task_of(fold, data_of()) for fold in range(3)], misled(0)
    together = {}
    for epochs in train_group(tasks, data, Stopwatch()):
        for after in epochs:
            together.setdefault(after.epoch.position, []).append(after)
    assert len(together[0]) < tasks[0].n_epochs
    for position, task in enumerate(tasks):
        alone, beside = trained(task, data), together[position]
        assert [each.watched_loss for each in beside] == [each.watched_loss for each in alone]
        assert same_weights(beside[-1].trained.net, alone[-1].trained.net)


@pytest.mark.parametrize("watch", ["inner", "scored-fold"])
def test_the_features_of_a_fold_are_those_of_watched_rows_too(watch):
    config = validate(
        Config,
        {
            "net": {"name": "linear"},
            "features": {"name": "lines"},
            "train": {
                "n_epochs": 4,
                "batch_size": 8,
                "early_stopping": {"patience": 2, "watch": watch},
            },
        },
        "",
    )
    data = data_of()
    last = trained(task_of(0, data, config), data)[-1]
    assert np.isfinite(last.watched_loss)
    assert last.trained.valid_probs.shape == (20, 3)


def test_stored_folds_are_of_the_best_epoch_and_their_history_has_every_epoch(tmp_path):
    data, run, events = data_of(), RunFolder(tmp_path), []
    tasks = [task_of(fold, data) for fold in range(3)]
    compute = replace(CPU, models_per_process=3)
    train_folds(
        [replace(task, compute=compute) for task in tasks], data, run, events.append, Stopwatch()
    )
    for task in tasks:
        epochs = trained(task, data)
        history = load_history(run, 0, task.fold)
        assert history["watched_loss"].tolist() == [each.watched_loss for each in epochs]
        stored = load_fold(run, "", 0, task.fold)
        assert np.array_equal(stored.valid_probs, epochs[-1].trained.valid_probs)
        last = [event for event in events if event.fold == task.fold][-1]
        assert last.epoch + last.n_skipped == task.n_epochs
        assert last.epoch == len(epochs)


def test_a_net_has_a_seed_that_no_fold_has():
    assert seed_of_net(4, ALL) not in [seed_of_net(4, fold) for fold in range(1000)]
