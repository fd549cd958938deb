"""Related rows: planted ones are found and grouped, others are not, and caps are kept."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hbcomp.data import related_rows
from hbcomp.data.related_rows import Links, find_links, spread, unite
from hbcomp.system.errors import InputError

N, T = 40, 24
SINE = 0.01
seeds = st.integers(0, 2**32 - 1)


def random_rows(seed, n=N):
    return np.random.default_rng(seed).normal(size=(n, T)).astype(np.float32)


def links_of(signals, n_neighbours=N):
    return find_links(signals, n_neighbours, 0.01 * spread(signals), SINE)


def partition(group_of_row, order=None):
    """Return the groups as sets of rows; `order[i]` is the row that stands at place i."""
    order = range(len(group_of_row)) if order is None else order
    groups = {}
    for row, group in zip(order, group_of_row, strict=True):
        groups.setdefault(group, set()).add(row)
    return {frozenset(group) for group in groups.values()}


def with_interpolated(signals, share=0.3):
    """Return the rows and a last one between the first two."""
    return np.vstack([signals, (1 - share) * signals[0] + share * signals[1]]).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_independent_random_rows_are_not_linked(seed):
    links = links_of(random_rows(seed))
    assert (len(links.pairs), links.n_near, links.n_interpolated) == (0, 0, 0)
    assert unite(links, N, N).group_of_row.tolist() == list(range(N))


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.05, 0.95))
def test_a_planted_interpolated_row_is_grouped_with_its_parents(seed, share):
    signals = with_interpolated(random_rows(seed), share)
    links = links_of(signals)
    assert links.n_interpolated == 1
    assert {tuple(pair) for pair in links.pairs.tolist()} == {(0, N), (1, N)}
    assert partition(unite(links, N + 1, N).group_of_row) >= {frozenset({0, 1, N})}


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0, 1e-3))
def test_a_planted_duplicate_is_grouped_with_its_original(seed, noise):
    signals = random_rows(seed)
    copy = signals[:1] + np.float32(noise)
    links = links_of(np.vstack([signals, copy]))
    assert (links.n_near, links.n_interpolated, links.pairs.tolist()) == (1, 0, [[0, N]])


def test_an_exact_duplicate_is_found_at_distance_0():
    signals = random_rows(0)
    links = find_links(np.vstack([signals, signals[:1]]), N, 0.0, SINE)
    assert (links.pairs.tolist(), links.lengths.tolist()) == ([[0, N]], [0.0])


def test_what_lies_beyond_its_parents_is_not_interpolated():
    signals = random_rows(0)
    beyond = signals[0] + 0.5 * (signals[0] - signals[1])
    links = links_of(np.vstack([signals, beyond[None]]))
    # The first row now lies between the other two, and is interpolated.
    assert {tuple(pair) for pair in links.pairs.tolist()} == {(0, 1), (0, N)}


def test_an_interpolated_row_whose_parent_is_no_near_neighbour_is_not_found():
    rng = np.random.default_rng(0)
    signals = with_interpolated(random_rows(0), 0.1)
    crowd = signals[-1] + 0.5 * rng.normal(size=(3, T)).astype(np.float32)
    signals = np.vstack([signals, crowd])
    assert links_of(signals).n_interpolated == 1
    assert links_of(signals, n_neighbours=3).n_interpolated == 0


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_order_of_the_rows_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    signals = np.vstack([with_interpolated(random_rows(seed)), random_rows(seed)[5:6] + 1e-3])
    order = rng.permutation(len(signals))
    groups, shuffled = (
        unite(links_of(rows), len(rows), 3).group_of_row for rows in (signals, signals[order])
    )
    assert partition(groups) == partition(shuffled, order.tolist())


def test_chunks_do_not_change_the_links(monkeypatch):
    signals = np.vstack([with_interpolated(random_rows(1)), random_rows(1)[5:9] + np.float32(1e-3)])
    whole = links_of(signals)
    monkeypatch.setattr(related_rows, "CHUNK", 7)
    parts = links_of(signals)
    assert len(whole.pairs) == 6
    assert np.array_equal(whole.pairs, parts.pairs)
    np.testing.assert_allclose(whole.lengths, parts.lengths, rtol=1e-12)


@st.composite
def some_links(draw):
    """Return links among 12 rows, each once, the shortest first."""
    ends = st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda ends: ends[0] < ends[1])
    pairs = draw(st.lists(ends, unique=True, max_size=30))
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Links(array, np.arange(len(pairs), dtype=np.float64), n_near=0, n_interpolated=0)


@settings(max_examples=50, deadline=None)
@given(some_links())
def test_without_a_cap_groups_are_the_connected_components(links):
    groups = unite(links, 12, 12)
    first, second = links.pairs.T
    graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(12, 12))
    _, component = connected_components(graph, directed=False)
    assert partition(groups.group_of_row.tolist()) == partition(component.tolist())
    assert (len(groups.cut), groups.n_split) == (0, 0)


@settings(max_examples=50, deadline=None)
@given(some_links(), st.integers(1, 12))
def test_no_group_is_above_the_cap_and_every_link_between_groups_is_counted(links, max_size):
    groups = unite(links, 12, max_size)
    assert groups.sizes.max() <= max_size
    assert groups.sizes.sum() == 12
    group = groups.group_of_row
    between = [pair for pair in links.pairs.tolist() if group[pair[0]] != group[pair[1]]]
    assert groups.cut.tolist() == between
    assert groups.n_split == len({row for pair in between for row in pair})
    # Nothing was cut that had room.
    for first, second in between:
        assert groups.sizes[group[first]] + groups.sizes[group[second]] > max_size


def test_the_shortest_link_is_kept_where_the_cap_allows_one():
    links = Links(np.array([[1, 2], [0, 1]]), np.array([0.1, 0.2]), n_near=2, n_interpolated=0)
    groups = unite(links, 3, 2)
    assert (groups.group_of_row.tolist(), groups.cut.tolist()) == ([0, 1, 1], [[0, 1]])


def test_the_spread_is_the_root_mean_squared_distance_from_the_mean():
    signals = random_rows(0)
    distances = np.linalg.norm(signals - signals.mean(axis=0), axis=1)
    assert spread(signals) == pytest.approx(np.sqrt((distances**2).mean()))


def test_labels_cannot_be_read():
    assert "labels" not in inspect.signature(find_links).parameters
    assert "labels" not in inspect.signature(unite).parameters


def test_a_single_row_is_refused():
    with pytest.raises(InputError, match="at least 2 rows to relate, but got 1"):
        links_of(random_rows(0, n=1))
