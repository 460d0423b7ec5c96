"""Markov clustering against the walk written out with whole matrices, and on graphs whose parts are plain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_pairs import pairs_of, same_groups
from scipy import sparse

from dshc.data import markov
from dshc.data.markov import markov_clusters, numbered


def whole(graph, inflation):
    """The same with dense matrices, nothing dropped but what the module drops too; the limit's connected parts."""
    walk = np.where(graph > 0, graph, 0).astype(np.float64)
    largest = walk.max(1)
    walk += np.diag(np.where(largest > 0, largest, 1))
    walk /= walk.sum(1, keepdims=True)
    for _ in range(200):
        new = (walk @ walk) ** inflation
        new[new < 1e-3 * new.max(1, keepdims=True)] = 0
        new /= new.sum(1, keepdims=True)
        if np.abs(new - walk).max() < 1e-7:
            break
        walk = new
    return sparse.csgraph.connected_components(sparse.csr_array(walk), directed=True, connection="weak")[1]


def graph_of(labels, chords):
    graph = (labels[:, None] == labels[None, :]).astype(np.int8)
    for i, j in chords:
        graph[i, j] = graph[j, i] = 1
    np.fill_diagonal(graph, 0)
    return sparse.csr_array(graph)


def test_two_cliques_with_a_bridge_are_two():
    labels = np.repeat([0, 1], [6, 5])
    assert markov_clusters(graph_of(labels, [(5, 6)])).tolist() == labels.tolist()


def test_an_item_without_an_edge_is_a_cluster_and_the_order_is_of_first_members():
    graph = graph_of(np.array([7, 3, 7, 3, 9]), [])
    assert markov_clusters(graph).tolist() == [0, 1, 0, 1, 2]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.5, 2.0, 3.0]))
def test_the_same_as_with_whole_matrices(seed, inflation):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 40)
    graph = pairs_of(labels, known=0.8, wrong=0.03, seed=seed).known
    assert same_groups(markov_clusters(graph, inflation=inflation), whole(graph.toarray(), inflation))


@pytest.mark.parametrize("entries", [64, 1 << 20])
def test_blocks_and_products_of_either_kind_come_to_the_same(entries, monkeypatch):
    labels = np.arange(600) % 20
    graph = pairs_of(labels, known=0.6, wrong=0.002).known
    expected = markov_clusters(graph)
    assert same_groups(expected, labels)
    monkeypatch.setattr(markov, "_BLOCK_ENTRIES", entries * 600)
    monkeypatch.setattr(markov, "_KEPT", 25)
    assert np.array_equal(markov_clusters(graph), expected)


def test_only_edges_count():
    labels = np.arange(60) % 3
    known = pairs_of(labels).known
    similar = known.copy()
    similar.data[similar.data < 0] = 0
    similar.eliminate_zeros()
    assert np.array_equal(markov_clusters(known), markov_clusters(similar))


def test_no_items():
    assert markov_clusters(sparse.csr_array((0, 0), dtype=np.int8)).shape == (0,)


@pytest.mark.parametrize("inflation", [1.0, 0.5, float("nan"), float("inf")])
def test_inflation_must_be_more_than_1(inflation):
    with pytest.raises(ValueError, match="inflation must be more than 1 and finite, got"):
        markov_clusters(sparse.csr_array(np.eye(2, dtype=np.int8)), inflation=inflation)


def test_numbers_by_first_members():
    assert numbered(np.array([5, 2, 5, 0, 2])).tolist() == [0, 1, 0, 2, 1]
