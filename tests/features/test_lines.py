"""Distances to lines, against loops that anyone can check, and what features must not know."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbcomp.experiment.config import Config
from hbcomp.features.lines import (
    FAR,
    LinesConfig,
    View,
    _class_references,
    line_distances,
    nearest,
    principal_axes,
)
from hbcomp.nets.signals import SignalsConfig
from hbcomp.training.features import fit_features
from hbcomp.training.loader import put_on_device
from hbcomp.training.state import Replica

WHOLE = (View(),)


def signals(n, t=12, seed=0):
    return torch.rand(n, t, generator=torch.Generator().manual_seed(seed))


def references_of(rows, n_neighbours):
    """Prepare rows of one class that a single net knows."""
    return _class_references(rows, torch.ones(1, len(rows), dtype=torch.bool), n_neighbours)


def distances_to(references, queries, n_neighbours):
    prepared = references_of(references, n_neighbours)
    return line_distances(queries, outside(queries), prepared, n_neighbours)[0]


def fitted(config, rows, labels, n_classes, n_threads=1):
    """Fit on one net's labels, or those of several, axes from all rows."""
    labels = labels if labels.ndim == 2 else labels[None]
    return config.fit(rows, labels, torch.arange(len(rows)), n_classes, n_threads)


def outside(queries):
    return torch.full((len(queries),), -1)


def slow_distance(query, references):
    """The distance to the nearest line through two references, by projection in float64."""
    query, references = query.double().numpy(), references.double().numpy()
    found = [np.linalg.norm(query - each) for each in references]
    for a, b in itertools.combinations(references, 2):
        if (length := np.linalg.norm(b - a)) > 0:
            direction = (b - a) / length
            gap = query - a
            found.append(np.linalg.norm(gap - gap @ direction * direction))
    return min(found)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_the_distance_is_that_of_every_pair_of_references_projected_upon(seed, n_references):
    references, queries = signals(n_references, seed=seed), signals(3, seed=seed + 1)
    found = distances_to(references, queries, n_neighbours=9)
    expected = [slow_distance(query, references) for query in queries]
    np.testing.assert_allclose(found, expected, atol=1e-3)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(40, 200), st.integers(1, 5))
def test_the_search_by_groups_finds_the_nearest(seed, n_references, k):
    references, queries = signals(n_references, seed=seed), signals(7, seed=seed + 1)
    prepared = references_of(references, k)
    place = torch.empty(len(queries), prepared.columns.shape[1])
    found = nearest(queries, outside(queries), prepared, k, place)
    distances = torch.cdist(queries.double(), references.double())
    expected = distances.sort(dim=1).values[:, :k]
    np.testing.assert_allclose(distances.gather(1, found), expected, atol=1e-6)


@pytest.mark.parametrize("share", [-0.5, 0.3, 1.7])
def test_what_lies_between_or_beyond_two_references_is_near_their_class(share):
    first, second = signals(2)
    query = (first + share * (second - first))[None]
    found = distances_to(torch.stack([first, second]), query, 2)
    assert found.item() < 1e-3


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([6, 30, 80]))
def test_a_reference_is_described_as_if_it_were_none(seed, n):
    rows, labels = signals(n, seed=seed), torch.arange(n) % 3
    config = LinesConfig(views=(View(), View(difference=True)), n_neighbours=4, n_components=12)
    own = torch.tensor([n // 2])
    rows = rows[:, None]
    with_itself = fitted(config, rows, labels, 3)(rows[own], own)
    without = fitted(config, rows, labels.index_fill(0, own, -1), 3)(rows[own], outside(own))
    torch.testing.assert_close(with_itself, without, rtol=1e-3, atol=1e-3)


def test_a_class_of_one_row_has_no_distance_to_itself_and_a_finite_one_to_others():
    rows, labels = signals(5)[:, None], torch.tensor([0, 0, 0, 0, 1])
    make = fitted(LinesConfig(views=WHOLE), rows, labels, 2)
    features = make(rows, torch.arange(5))
    assert features.isfinite().all()
    assert features[0, 4, 0, 1].item() == pytest.approx(np.log(FAR + 0.05), rel=1e-5)


def test_equal_references_span_no_line():
    rows = signals(1).expand(4, -1).contiguous()
    query = signals(1, seed=1)
    found = distances_to(rows, query, 4)
    assert found.item() == pytest.approx(torch.dist(query, rows[0]).item(), rel=1e-4)


def test_a_normalised_view_knows_neither_height_nor_offset():
    beats = signals(4)[:, None]
    view = View(length=8, normalise=True)
    torch.testing.assert_close(view.of(beats), view.of(0.4 * beats + 0.2))
    assert view.of(torch.ones(1, 1, 12)).isfinite().all()


def test_a_view_of_several_channels_is_that_of_each_one_after_another():
    rows = signals(4)
    both = torch.stack([rows, rows.flip(0)], dim=1)
    view = View(length=6, difference=True, normalise=True)
    wanted = torch.cat([view.of(rows[:, None]), view.of(rows.flip(0)[:, None])], dim=1)
    assert torch.equal(view.of(both), wanted)


def test_a_view_has_its_length():
    assert View(length=5).of(signals(2)[:, None]).shape == (2, 5)
    assert View(length=5, difference=True).of(signals(2)[:, None]).shape == (2, 4)
    assert View(length=99).of(signals(2)[:, None]).shape == (2, 12)


def test_principal_axes_keep_what_differs_and_are_at_right_angles():
    plane = signals(2, t=12)
    rows = (signals(30, t=2, seed=1) @ plane + 0.5).double()
    axes = principal_axes(rows, 2)
    torch.testing.assert_close(axes.T @ axes, torch.eye(2).double())
    torch.testing.assert_close(torch.cdist(rows @ axes, rows @ axes), torch.cdist(rows, rows))


@pytest.mark.parametrize(("n_rows", "n_components"), [(12, 4), (8, 4), (8, 40), (13, 4)])
def test_axes_are_the_same_whether_rows_or_samples_are_fewer(n_rows, n_components):
    rows = signals(n_rows, t=12).double()
    centred = rows - rows.mean(0)
    n_axes = min(n_components, n_rows - 1)
    wanted = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -n_axes:]
    axes = principal_axes(rows, n_components)
    assert axes.shape == (12, min(n_components, 12))
    torch.testing.assert_close(axes.T @ axes, torch.eye(axes.shape[1]).double())
    found = axes[:, :n_axes]
    torch.testing.assert_close(found @ found.T, wanted @ wanted.T)


def test_axes_of_more_rows_than_samples_keep_their_bits():
    rows = signals(30)
    centred = (rows - rows.mean(0)).double()
    wanted = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -4:].float()
    assert torch.equal(principal_axes(rows, 4), wanted)


@pytest.mark.parametrize("n_rows", [1, 6])
def test_rows_that_do_not_differ_are_described_by_numbers(n_rows):
    rows = signals(1).expand(n_rows, -1)[:, None]
    make = fitted(LinesConfig(views=WHOLE), rows, torch.arange(n_rows) % 2, 2)
    assert make(signals(3, seed=1)[:, None], outside(range(3))).isfinite().all()


def test_there_is_a_feature_for_every_view_and_class():
    config = LinesConfig()
    rows = signals(40, t=205)[:, None]
    made = fitted(config, rows, torch.arange(40) % 4, 4)(rows[:3], torch.arange(3))
    assert made.shape == (1, 3, *config.shape((1, 205), 4)) == (1, 3, 1, 20)


def slow_features(config, rows, labels, i, n_classes):
    """One row's features for one net, its 20 nearest found by sorting, in float64."""
    found = []
    for view in config.views:
        seen = view.of(rows)
        axes = principal_axes(seen, config.n_components).double()
        projected = seen.double() @ axes
        for each in range(n_classes):
            others = [j for j in range(len(rows)) if labels[j] == each and j != i]
            others.sort(key=lambda j: torch.dist(projected[i], projected[j]).item())
            near = projected[others[: config.n_neighbours]]
            found.append(slow_distance(projected[i], near) if len(near) else FAR)
    return np.log(np.array(found) + config.floor)


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    st.sampled_from([7, 30, 90]),
    st.sampled_from([2, 3, 10]),
    st.booleans(),
)
def test_one_search_gives_the_features_of_a_search_for_each_fold(seed, n, n_folds, are_blocks):
    rows = signals(n, seed=seed)[:, None]
    rows[1] = rows[0]  # duplicates, of one class or of two
    labels = torch.tensor([0, 1, 2, 0, 1, 0, 1] * n)[:n].roll(seed)  # the last class is small
    # Folds as related rows make them hold out nearly all that a row is near to.
    fold = rows[:, 0].sum(1).argsort().argsort() * n_folds // n if are_blocks else torch.arange(n)
    of_nets = torch.stack([torch.where(fold % n_folds == f, -1, labels) for f in range(n_folds)])
    config = LinesConfig(views=(View(), View(length=6)), n_neighbours=3, n_components=8)
    found = fitted(config, rows, of_nets, 3)(rows, torch.arange(n))
    for i in (0, 1, n - 1):
        for net in (0, n_folds - 1):
            expected = slow_features(config, rows, of_nets[net], i, 3)
            np.testing.assert_allclose(found[net, i, 0], expected, atol=0.02)


def test_threads_do_not_change_the_bits():
    rows, labels = signals(300)[:, None], torch.arange(300) % 3
    one, two = (fitted(LinesConfig(), rows, labels, 3, n)(rows, torch.arange(300)) for n in (1, 2))
    assert torch.equal(one, two)


def data_with(labels=None):
    labels = np.arange(24) % 3 if labels is None else labels
    rows = signals(24).numpy()
    test = signals(5, seed=9).numpy()
    return put_on_device(rows[:, None], labels, "cpu", test[:, None], trains_on_test=True)


def features_of(config, data, *replicas):
    return fit_features(config, SignalsConfig(), data, replicas, n_threads=1)


def test_labels_of_held_out_rows_change_nothing_in_their_fold():
    folds = [torch.arange(24) % 4 != fold for fold in range(4)]
    replicas = [Replica(torch.nonzero(rows).flatten(), (0, n)) for n, rows in enumerate(folds)]
    config = LinesConfig(views=WHOLE, n_neighbours=2)
    truth = features_of(config, data_with(), *replicas).of_rows
    for position, rows in enumerate(folds):
        wrong = data_with(np.where(rows, np.arange(24) % 3, (np.arange(24) + 1) % 3))
        features = features_of(config, wrong, *replicas).of_rows
        torch.testing.assert_close(features[position], truth[position], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(features[position - 1], truth[position - 1], atol=1e-2)


def test_a_pseudo_labelled_test_row_does_not_see_itself():
    data = data_with()
    train_idx = torch.cat([torch.arange(16), torch.tensor([24, 26])])  # two of the five test rows
    taught = torch.cat([torch.arange(16) % 3, torch.tensor([0, 1])])
    config, replica = LinesConfig(views=WHOLE), Replica(train_idx, (0, 0), taught)
    fitted_ = features_of(config, data, replica)
    features = fitted_.of_test(data.signals[24:])
    assert features.min() > np.log(0.05) + 0.1  # a row that saw itself would be at distance 0
    seeing = fitted_.of_signals(data.signals[24:])
    assert seeing.min().item() == pytest.approx(np.log(0.05), abs=0.05)


def test_pseudo_labels_of_one_net_change_nothing_in_another():
    data = data_with()
    taught = torch.cat([torch.arange(16) % 3, torch.tensor([0, 1])])
    with_test = Replica(torch.cat([torch.arange(16), torch.tensor([24, 26])]), (0, 0), taught)
    without = Replica(torch.arange(16, 24), (0, 1))
    config = LinesConfig(views=WHOLE)
    both = features_of(config, data, with_test, without).of_rows
    for position, replica in enumerate([with_test, without]):
        alone = features_of(config, data, replica).of_rows[0]
        torch.testing.assert_close(both[position], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"augment": {"noise": 0.1}}, "augment"),
        ({"compute": {"models_per_process": 2}}, "models_per_process"),
    ],
)
def test_options_that_would_do_nothing_are_refused(keys, named):
    with pytest.raises(ValueError, match=named):
        Config.model_validate({"features": {"name": "lines"}, **keys})


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"samples, lines.*'line'"):
        Config.model_validate({"features": {"name": "line"}})


def test_features_are_part_of_what_a_fold_is_bound_to():
    plain, lines = Config(), Config.model_validate({"features": {"name": "lines"}})
    assert not any(key.startswith("features") for key in plain.identity())
    assert lines.identity()["features.n_neighbours"] == 20
