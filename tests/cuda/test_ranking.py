"""CUDA kernels that rank, run on the CPU by the interpreter (simt.py) in several orders of threads and blocks.

Counts and indices are exact. Sizes lie on both sides of the kernels' tiles, and inputs begin anywhere.
"""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from callers import native, twin
from comparisons import (
    assert_same_ap,
    assert_same_array,
    assert_same_histogram,
    assert_same_radius,
    assert_same_topk,
)
from effort import deep
from hypothesis import given
from hypothesis import strategies as st
from simt_kernels import DENOMINATORS, FEW, SCORES, TIES, runs
from strategies import (
    ALL_BYTES,
    CODE_STYLES,
    Problem,
    allowed_masks,
    make_codes,
)
from tiled import tiled_pairs, tiled_problems


@pytest.mark.parametrize("score", SCORES)
@given(data=st.data(), pair=tiled_pairs(max_query=20))
def test_hamming_distance(data, pair, score: str, order: str) -> None:
    counts = runs(order, data).hamming_distance(*pair, score)
    assert_same_array(counts, oracles.counts(*pair, score), np.int32)


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_bytes", (1, 3, 4, 5, 8, 12, 16, 17, 20, 32, 33, 40, 512))
def test_hamming_distance_tiles(n_bytes: int, order: str) -> None:
    """More queries than a block takes, and items around its tile; codes that lie on 16 bytes, on a word, anywhere."""
    rng = np.random.default_rng(n_bytes)
    for n_query, n_db, offset in ((33, 1025, 0), (1, 2047, 1), (32, 2049, 2), (3, 1024, 0)):
        pair = make_codes(rng, n_query, n_bytes), make_codes(rng, n_db, n_bytes)
        for score in SCORES:
            counts = runs(order, seed=4 * n_bytes + offset).hamming_distance(*pair, score)
            assert_same_array(counts, oracles.counts(*pair, score), np.int32)


@pytest.mark.parametrize("score", SCORES)
@given(data=st.data(), pair=tiled_pairs())
def test_hamming_topk(data, pair, score: str, order: str) -> None:
    n_db = len(pair[1])
    k = data.draw(st.one_of(st.integers(1, n_db), st.sampled_from((1, n_db))), label="k")
    allowed = data.draw(allowed_masks(len(pair[0]), n_db), label="allowed")
    found = runs(order, data).hamming_topk(*pair, k, score, allowed)
    assert_same_topk(found, *oracles.topk(*pair, k, score, allowed))


@pytest.mark.parametrize("style", CODE_STYLES)
def test_hamming_topk_every_k(style: str, order: str) -> None:
    """k from 1 to n over a database of several tiles."""
    rng = np.random.default_rng(11)
    n_db = 5003
    queries, database = make_codes(rng, 2, 8, "near"), make_codes(rng, n_db, 8, style)
    queries[0] = database[17]
    distances, indices = oracles.topk(queries, database, n_db)
    for k in (1, 2, 31, 33, 128, 1024, 2500, n_db - 1, n_db):
        found = runs(order, seed=k).hamming_topk(queries, database, k)
        assert_same_topk(found, distances[:, :k], indices[:, :k], f"k={k}")


def test_hamming_topk_sorted_databases(order: str) -> None:
    """Best items last (every bound is beaten again and again) and best items first."""
    n_db = 3001
    steps = np.minimum(np.arange(n_db) // 47, 64)
    database = np.packbits(np.arange(64)[None] < steps[:, None], axis=1, bitorder="little")
    queries = np.vstack([database[-1:], database[:1], database[n_db // 2 : n_db // 2 + 1]])
    for codes in (database, database[::-1].copy()):
        for k in (1, 100, 1500):
            found = runs(order, seed=k).hamming_topk(queries, codes, k)
            assert_same_topk(found, *oracles.topk(queries, codes, k), f"k={k}")


@pytest.mark.parametrize("score", SCORES)
@given(data=st.data(), pair=tiled_pairs())
def test_hamming_radius(data, pair, score: str, order: str) -> None:
    n_bits = 8 * pair[0].shape[1]
    radius = data.draw(st.one_of(st.integers(0, n_bits + 2), st.just(10**12)), label="radius")
    allowed = data.draw(allowed_masks(len(pair[0]), len(pair[1])), label="allowed")
    found = runs(order, data).hamming_radius(*pair, radius, score, allowed)
    assert_same_radius(found, oracles.radius(*pair, radius, score, allowed))


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_bytes", (1, 5, 8, 33, *deep(*sorted({*ALL_BYTES} - {1, 5, 8, 33}))))
def test_ranking_widths(n_bytes: int, order: str) -> None:
    rng = np.random.default_rng(n_bytes)
    pair = make_codes(rng, 3, n_bytes), make_codes(rng, 150, n_bytes)
    ids = rng.integers(0, 3, 3), rng.integers(0, 3, 150)
    kernels = runs(order, seed=n_bytes)
    for score in SCORES:
        counts = oracles.counts(*pair, score)
        assert_same_array(kernels.hamming_distance(*pair, score), counts, np.int32)
        assert_same_topk(kernels.hamming_topk(*pair, 40, score), *oracles.topk(*pair, 40, score))
        middle = int(np.median(counts))
        assert_same_radius(kernels.hamming_radius(*pair, middle, score), oracles.radius(*pair, middle, score))
        expected = oracles.histogram(*pair, *ids, score)
        assert_same_histogram(kernels.hamming_histogram(*pair, *ids, score), expected)


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_query", (1, 7, 8, 9, 16, 17, 33, 130))
def test_many_queries(n_query: int, order: str) -> None:
    rng = np.random.default_rng(n_query)
    pair = make_codes(rng, n_query, 8, "near"), make_codes(rng, 300, 8, "near")
    ids = rng.integers(0, 3, n_query), rng.integers(0, 3, 300)
    kernels = runs(order, seed=n_query)
    assert_same_array(kernels.hamming_distance(*pair), oracles.counts(*pair, "hamming"), np.int32)
    assert_same_topk(kernels.hamming_topk(*pair, 7), *oracles.topk(*pair, 7))
    assert_same_radius(kernels.hamming_radius(*pair, 3), oracles.radius(*pair, 3))
    assert_same_histogram(kernels.hamming_histogram(*pair, *ids), oracles.histogram(*pair, *ids))


@pytest.mark.parametrize(
    ("n_query", "n_db", "n_bytes"), [(9, 20_000, 4), *deep((1, 40_003, 8), (150, 2600, 5), (2, 20_001, 70))]
)
def test_many_tiles(n_query: int, n_db: int, n_bytes: int, order: str) -> None:
    """So many items that a block takes several tiles of them, one after the other."""
    rng = np.random.default_rng(n_query)
    pair = make_codes(rng, n_query, n_bytes, "near"), make_codes(rng, n_db, n_bytes, "near")
    ids = rng.integers(0, 3, n_query).astype(np.int32), rng.integers(0, 3, n_db).astype(np.int32)
    kernels, options = runs(order, seed=n_query), {"ties": "index", "k": n_db // 3}
    assert_same_topk(kernels.hamming_topk(*pair, 700), *oracles.topk(*pair, 700))
    allowed = rng.random(n_db) < 0.5
    middle = int(np.median(oracles.counts(*pair, "overlap")))
    assert_same_radius(
        kernels.hamming_radius(*pair, middle, "overlap", allowed),
        oracles.radius(*pair, middle, "overlap", allowed),
    )
    assert_same_histogram(kernels.hamming_histogram(*pair, *ids), oracles.histogram(*pair, *ids))
    first = (pair[0][:9], pair[1], ids[0][:9], ids[1])
    expected = native("average_precision", "cpu", *first, **options)
    assert_same_ap(kernels.average_precision(*pair, *ids, **options)[:9], expected)


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize(("n_query", "n_bytes"), [(600, 3), *deep((40, 72))])
def test_many_chunks_of_queries(n_query: int, n_bytes: int, order: str) -> None:
    """So many queries that one call launches several times, its workspace used again."""
    rng = np.random.default_rng(n_query)
    pair = make_codes(rng, n_query, n_bytes, "near"), make_codes(rng, 40, n_bytes, "near")
    ids, kernels = (rng.integers(0, 3, n_query), rng.integers(0, 3, 40)), runs(order, seed=1)
    assert_same_topk(kernels.hamming_topk(*pair, 9), *oracles.topk(*pair, 9))
    assert_same_radius(kernels.hamming_radius(*pair, 3), oracles.radius(*pair, 3))
    assert_same_histogram(kernels.hamming_histogram(*pair, *ids), oracles.histogram(*pair, *ids))
    for ties in TIES:
        found = kernels.average_precision(*pair, *ids, ties=ties)
        assert_same_ap(found, twin("average_precision", *pair, *ids, ties=ties))


def test_more_than_16_bits_of_items(order: str) -> None:
    """All 70,001 items tied, then one better at the very end: no 16-bit counter, no lost last tile."""
    n_db = 70_001
    database, query, kernels = np.zeros((n_db, 4), np.uint8), np.full((1, 4), 255, np.uint8), runs(order)
    found = kernels.hamming_topk(query, database, n_db)
    assert_same_topk(found, np.full((1, n_db), 32), np.arange(n_db)[None], "all tied")
    database[-1] = 1
    assert_same_topk(kernels.hamming_topk(query, database, 3), [[28, 32, 32]], [[70_000, 0, 1]])
    ids = np.zeros(1, np.int32), np.ones(n_db, np.int32)
    items, relevant = kernels.hamming_histogram(query, database, *ids)
    assert items[0, 28] == 1 and items[0, 32] == n_db - 1 and items.sum() == n_db and not relevant.any()


# ---- metrics ----


@given(data=st.data(), problem=tiled_problems())
def test_hamming_histogram(data, problem: Problem, order: str) -> None:
    options = problem.score, problem.n_bits, problem.allowed
    found = runs(order, data).hamming_histogram(*problem.labelled(), *options)
    assert_same_histogram(found, oracles.histogram(*problem.labelled(), *options))


@pytest.mark.parametrize("ties", TIES)
@given(data=st.data(), problem=tiled_problems(max_query=3))
def test_average_precision(data, ties: str, problem: Problem, order: str) -> None:
    k = data.draw(st.one_of(st.none(), st.integers(1, len(problem.database) + 3)), label="k")
    options = {
        "k": k,
        "ties": ties,
        "denominator": data.draw(st.sampled_from(DENOMINATORS)),
        "score": problem.score,
        "allowed": problem.allowed,
    }
    found = runs(order, data).average_precision(*problem.labelled(), **options)
    assert_same_ap(found, twin("average_precision", *problem.labelled(), **options))


@pytest.mark.parametrize("n_relevant", (1, 40, 700, 1999, 2000))
def test_a_cut_through_a_large_tie(n_relevant: int, order: str) -> None:
    """So many relevant items in the tie that the cut parts that the lanes sum over their number in several steps."""
    rng = np.random.default_rng(n_relevant)
    database = np.repeat(np.array([[1], [7], [15]], np.uint8), (150, 2000, 40), axis=0)
    ids = np.concatenate((rng.integers(0, 2, 150), np.arange(2000) < n_relevant, rng.integers(0, 2, 40)))
    at = rng.permutation(len(ids))
    data = np.zeros((1, 1), np.uint8), database[at], np.ones(1, np.int64), ids[at].astype(np.int64)
    for k in (151, 152, 190, 1150, 2120, 2149):
        found = runs(order, seed=k).average_precision(*data, k=k)
        assert_same_ap(found, native("average_precision", "cpu", *data, k=k))


@pytest.mark.parametrize("share", (1.0, 0.6))
@pytest.mark.parametrize("n_bytes", (3, 8, 12, 16, 64))
def test_relevant_items_at_every_distance(n_bytes: int, share: float, order: str) -> None:
    """More ties with relevant items than a warp has lanes, all of them or some."""
    rng = np.random.default_rng(n_bytes)
    counts = np.repeat(np.arange(8 * n_bytes + 1), 3)
    codes = oracles.pack(np.arange(8 * n_bytes) < counts[:, None])
    ids = (rng.random(len(counts)) < share).astype(np.int64)
    data = np.zeros((2, n_bytes), np.uint8), codes, np.array([1, 0]), ids
    for ties in ("expected", "best", "worst"):
        for k in (None, len(counts) // 2):
            found = runs(order, seed=4 * n_bytes).average_precision(*data, k=k, ties=ties)
            assert_same_ap(found, native("average_precision", "cpu", *data, k=k, ties=ties))


def test_padding_bits_fall_into_the_last_column(order: str) -> None:
    """A count beyond n_bits happens only where the check is off; every item is counted once."""
    queries, database = np.zeros((1, 2), np.uint8), np.array([[0, 0], [255, 255], [1, 0]], np.uint8)
    ids = np.zeros(1, np.int32), np.array([0, 0, 1], np.int32)
    items, relevant = runs(order).hamming_histogram(queries, database, *ids, n_bits=9)
    assert items.tolist() == [[1, 1, *[0] * 7, 1]] and relevant.tolist() == [[1, *[0] * 8, 1]]
