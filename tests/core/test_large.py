"""Sizes that small tests do not reach: indices past 2^31, and the walk that AP takes beyond 2^20 items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ranking_cases import expected_ap, popcounts

import dshc_fast


@pytest.mark.deep
def test_indices_past_31_bits() -> None:
    """2^31 + 9 codes of one byte. Untouched zero pages take no memory, so this runs on a small machine."""
    n = 2**31 + 9
    try:
        database = np.zeros((n, 1), dtype=np.uint8)
    except MemoryError:
        pytest.skip("2 GiB of address space are not to be had here")
    database[[5, n - 7, n - 1], 0] = 255, 254, 255
    queries = np.array([[255], [0]], dtype=np.uint8)
    top = dshc_fast.hamming_topk(queries, database, 4)
    assert top.indices.tolist() == [[5, n - 1, n - 7, 0], [0, 1, 2, 3]]
    assert top.distances.tolist() == [[0, 0, 1, 8], [0, 0, 0, 0]]
    ball = dshc_fast.hamming_radius(queries[:1], database, 7)
    assert ball.indices.tolist() == [5, n - 1, n - 7]


@pytest.mark.deep
@pytest.mark.parametrize("ties", ["index", "expected", "best", "worst"])
def test_average_precision_of_a_large_database(ties: str) -> None:
    n = 2**20 + 77
    rng = np.random.default_rng(1)
    database = rng.integers(0, 256, (n, 2), dtype=np.uint8)
    queries, labels = database[:3].copy(), rng.integers(0, 50, n)
    key = popcounts(queries, database, "hamming").astype(np.int64)
    for k in (None, 1000, n // 2):
        ap = dshc_fast.average_precision(queries, database, labels[:3], labels, k=k, ties=ties)
        for row in range(3):
            relevant = labels == labels[row]
            if ties == "expected":
                order = np.argsort(key[row], kind="stable")
                expected = expected_ap(relevant[order], key[row][order], k or n, "retrieved")
                assert ap[row] == pytest.approx(expected, rel=1e-12)
                continue
            inside = {"index": 0, "best": (~relevant).astype(np.int64), "worst": relevant.astype(np.int64)}[
                ties
            ]
            hits = relevant[np.argsort(2 * key[row] + inside, kind="stable")][: k or n]
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            assert ap[row] == pytest.approx(precision[hits].sum() / hits.sum(), rel=1e-12)


def test_k_is_n() -> None:
    rng = np.random.default_rng(2)
    database = rng.integers(0, 256, (300_000, 3), dtype=np.uint8)
    top = dshc_fast.hamming_topk(database[:2], database, len(database))
    distances = popcounts(database[:2], database, "hamming")
    for row in range(2):
        order = np.argsort(distances[row], kind="stable")
        assert np.array_equal(top.indices[row], order)
        assert np.array_equal(top.distances[row], distances[row][order])


def test_one_query_is_cut_into_shards() -> None:
    """One query over threads: the database is sharded and merged."""
    rng = np.random.default_rng(3)
    database = rng.integers(0, 4, (700_001, 1), dtype=np.uint8)  # ties everywhere
    labels = rng.integers(0, 3, len(database))
    threads = torch.get_num_threads()
    answers = []
    try:
        for n_threads in (1, 3, 8):
            torch.set_num_threads(n_threads)
            answers.append(
                (
                    *dshc_fast.hamming_topk(database[:1], database, 300_000),
                    *dshc_fast.hamming_radius(database[:1], database, 1),
                    *dshc_fast.hamming_histogram(database[:1], database, labels[:1], labels),
                )
            )
    finally:
        torch.set_num_threads(threads)
    for other in answers[1:]:
        for a, b in zip(answers[0], other, strict=True):
            assert np.array_equal(a, b)
