"""Markov clustering: parts of a graph that a random walk hardly leaves.

Van Dongen, *Graph Clustering by Flow Simulation*, PhD thesis, Utrecht 2000. The walk's matrix is squared (expansion:
flow spreads), then every entry is raised to a power and rows sum to 1 again (inflation: strong flow grows, weak flow
dies), until nothing changes. The number of clusters is not given; more inflation makes more and smaller ones.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

__all__ = ["markov_clusters", "numbered"]

_BLOCK_ENTRIES = 1 << 23  # entries of a product that live at a time: 96 MiB with their column numbers
_LEAST = 1e-3  # flow that is less than this share of its row's largest is dropped
_KEPT = 300  # entries kept per row, the largest
_STILL = 1e-4
_MOST_STEPS = 100


def markov_clusters(graph: sparse.csr_array, *, inflation: float = 2.0) -> np.ndarray:
    """Clusters of an undirected graph, int64 ``(n,)`` from 0, numbered by their first members.

    ``graph``: symmetric ``(n, n)``, an entry more than 0 is an edge of that weight. ``inflation`` > 1. Memory: as the
    graph, then some hundred entries per item; where the walk is dense, and n at most 20,000, a float32 matrix (n, n).
    """
    if not 1 < inflation < float("inf"):
        raise ValueError(f"inflation must be more than 1 and finite, got {inflation}")
    n = graph.shape[0]
    if not n:
        return np.zeros(0, np.int64)
    walk = sparse.csr_array(graph, dtype=np.float32, copy=True)
    walk.data[walk.data < 0] = 0
    walk.eliminate_zeros()
    largest = walk.max(axis=1).toarray().ravel()
    # An item keeps as much of its flow as its strongest edge takes: without it, flow would swing to and fro.
    own = np.where(largest > 0, largest, 1).astype(np.float32), (np.arange(n), np.arange(n))
    walk = _rows_to_one(sparse.csr_array(walk + sparse.csr_array(own, shape=(n, n))))
    for _ in range(_MOST_STEPS):
        walk, moving = _step(walk, np.float32(inflation))
        if moving < _STILL:
            break
    parts = connected_components(walk, directed=True, connection="weak")[1]
    return numbered(parts)


def numbered(clusters: np.ndarray) -> np.ndarray:
    """The same clusters with numbers from 0, in the order of their first members."""
    _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse]


def _step(walk: sparse.csr_array, inflation: np.float32) -> tuple[sparse.csr_array, float]:
    """Expansion, inflation and pruning; and how far the rows are from standing still."""
    n = walk.shape[0]
    # So many entries a row of the product can have at most: no more rows at a time than there is room for.
    width = min(n, int(np.diff(walk.indptr).max(initial=1)) ** 2)
    rows = max(1, _BLOCK_ENTRIES // width)
    # Rows with many entries are multiplied as dense ones: a sparse product of theirs costs more.
    dense = walk.toarray() if walk.nnz > n * n // 32 and n <= 20_000 else None
    parts, moving = [], 0.0
    for start in range(0, n, rows):
        block = walk[start : start + rows]
        product = block @ walk if dense is None else sparse.csr_array(block.toarray() @ dense)
        product.data **= inflation
        part = _rows_to_one(_pruned(product))
        squares = np.add.reduceat(part.data**2, part.indptr[:-1])
        moving = max(moving, float((np.maximum.reduceat(part.data, part.indptr[:-1]) - squares).max()))
        parts.append(part)
    return sparse.vstack(parts, format="csr"), moving


def _pruned(product: sparse.csr_array) -> sparse.csr_array:
    """Without entries that are small beside the largest of their row, and without all but its ``_KEPT`` largest."""
    counts = np.diff(product.indptr)
    least = np.maximum.reduceat(product.data, product.indptr[:-1]) * np.float32(_LEAST)
    for row in np.flatnonzero(counts > _KEPT):
        entries = product.data[product.indptr[row] : product.indptr[row + 1]]
        least[row] = max(least[row], np.partition(entries, len(entries) - _KEPT)[len(entries) - _KEPT])
    product.data[product.data < np.repeat(least, counts)] = 0
    product.eliminate_zeros()
    return product


def _rows_to_one(matrix: sparse.csr_array) -> sparse.csr_array:
    """Every row divided by its sum; no row is empty, for each item keeps flow of its own."""
    sums = np.add.reduceat(matrix.data, matrix.indptr[:-1])
    matrix.data /= np.repeat(sums, np.diff(matrix.indptr))
    return matrix
