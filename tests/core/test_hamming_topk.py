"""hamming_topk: sorted by (distance, index), whatever the ties, tilings and masks."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from callers import both, native
from comparisons import assert_same_array, assert_same_topk
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    ALL_BYTES,
    CODE_STYLES,
    SCORES,
    allowed_masks,
    code_pairs,
    make_codes,
    seeds,
    strided_views,
)

import dshc_fast


def test_by_hand() -> None:
    queries = np.array([[0b0000], [0b1111]], np.uint8)
    database = np.array([[0b0011], [0b0001], [0b1100], [0b0001], [0b1111]], np.uint8)
    found = dshc_fast.hamming_topk(queries, database, 3)
    assert found.distances.tolist() == [[1, 1, 2], [0, 2, 2]]
    assert found.indices.tolist() == [[1, 3, 0], [4, 0, 2]]
    found = dshc_fast.hamming_topk(queries, database, 4, score="overlap")
    assert found.distances.tolist() == [[0, 0, 0, 0], [4, 2, 2, 1]]
    assert found.indices.tolist() == [[0, 1, 2, 3], [4, 0, 2, 1]]


def test_by_hand_allowed() -> None:
    queries, database = np.array([[0]], np.uint8), np.array([[1], [0], [3]], np.uint8)
    allowed = np.array([True, False, True])
    found = dshc_fast.hamming_topk(queries, database, 3, allowed=allowed)
    assert found.distances.tolist() == [[1, 2, 2**31 - 1]] and found.indices.tolist() == [[0, 2, -1]]
    found = dshc_fast.hamming_topk(queries, database, 3, score="overlap", allowed=np.array([0b101], np.uint8))
    assert found.distances.tolist() == [[0, 0, -1]] and found.indices.tolist() == [[0, 2, -1]]


@pytest.mark.parametrize("score", SCORES)
@given(data=st.data(), pair=code_pairs())
def test_random(data, pair, score: str, backend) -> None:
    k = data.draw(st.integers(1, len(pair[1])), label="k")
    allowed = data.draw(allowed_masks(len(pair[0]), len(pair[1])), label="allowed")
    expected = oracles.topk(*pair, k, score, allowed)
    for who, found in both("hamming_topk", backend.device, *pair, k, score=score, allowed=allowed):
        assert_same_topk(found, *expected, who)


@pytest.mark.parametrize("n_bytes", ALL_BYTES)
def test_widths(n_bytes: int, backend) -> None:
    rng = np.random.default_rng(n_bytes)
    queries, database = make_codes(rng, 3, n_bytes), make_codes(rng, 150, n_bytes)
    for score in SCORES:
        for k in (1, 10, 150):
            found = native("hamming_topk", backend.device, queries, database, k, score=score)
            assert_same_topk(found, *oracles.topk(queries, database, k, score), f"{score} k={k}")


@pytest.mark.parametrize("style", CODE_STYLES)
@pytest.mark.parametrize("score", SCORES)
def test_every_k_regime(style: str, score: str, backend) -> None:
    """k from 1 to n over a database of several tiles; k is always a prefix of n."""
    rng = np.random.default_rng(11)
    n_db = 5003
    queries, database = make_codes(rng, 3, 8, "near"), make_codes(rng, n_db, 8, style)
    queries[0] = database[17]
    distances, indices = oracles.topk(queries, database, n_db, score)
    for k in (1, 2, 15, 16, 17, 64, 100, 128, 1000, 1024, 2048, 2500, n_db - 1, n_db):
        found = native("hamming_topk", backend.device, queries, database, k, score=score)
        assert_same_topk(found, distances[:, :k], indices[:, :k], f"k={k}")


@pytest.mark.parametrize("score", SCORES)
def test_sorted_databases(score: str, backend) -> None:
    """Best items last (every bound is beaten again and again) and best items first."""
    n_db = 3001
    steps = np.minimum(np.arange(n_db) // 47, 64)
    database = np.packbits(np.arange(64)[None] < steps[:, None], axis=1, bitorder="little")
    queries = np.vstack([database[-1:], database[:1], database[n_db // 2 : n_db // 2 + 1]])
    for codes in (database, database[::-1].copy()):
        for k in (1, 100, 1500):
            found = native("hamming_topk", backend.device, queries, codes, k, score=score)
            assert_same_topk(found, *oracles.topk(queries, codes, k, score), f"k={k}")


def test_more_than_16_bits_of_items(backend) -> None:
    """All 70,001 items tied, then one better at the very end: no 16-bit counter, no lost last tile."""
    database = np.zeros((70_001, 4), np.uint8)
    query = np.full((1, 4), 255, np.uint8)
    found = native("hamming_topk", backend.device, query, database, 70_001)
    assert_same_topk(found, np.full((1, 70_001), 32), np.arange(70_001)[None], "all tied")
    database[-1] = 1
    found = native("hamming_topk", backend.device, query, database, 3)
    assert_same_topk(found, [[28, 32, 32]], [[70_000, 0, 1]], "last is best")


def test_many_queries(backend) -> None:
    """More queries than one thread's share or one tile of queries."""
    rng = np.random.default_rng(5)
    queries, database = make_codes(rng, 333, 8), make_codes(rng, 200, 8)
    found = native("hamming_topk", backend.device, queries, database, 7)
    assert_same_topk(found, *oracles.topk(queries, database, 7))


@given(data=st.data(), pair=code_pairs(max_db=200), seed=seeds(), score=st.sampled_from(SCORES))
def test_relations(data, pair, seed: int, score: str, backend) -> None:
    """Prefix of a larger k, XOR mask, permuted bits, zero bytes, permuted database, merged shards."""
    queries, database = pair
    n_db, rng = len(database), np.random.default_rng(seed)
    k = data.draw(st.integers(1, n_db), label="k")

    def search(q, d, count):
        return native("hamming_topk", backend.device, q, d, count, score=score)

    whole = search(queries, database, k)
    everything = search(queries, database, n_db)
    assert_same_topk(whole, everything.distances[:, :k], everything.indices[:, :k], "prefix")
    if score == "hamming":
        mask = rng.integers(0, 256, queries.shape[1], dtype=np.uint8)
        assert_same_topk(search(queries ^ mask, database ^ mask, k), *whole, "XOR mask")
    order = rng.permutation(8 * queries.shape[1])
    mixed = [oracles.pack(oracles.bits(codes)[:, order]) for codes in pair]
    assert_same_topk(search(*mixed, k), *whole, "permuted bits")
    wide = [np.pad(codes, ((0, 0), (0, 3))) for codes in pair]
    assert_same_topk(search(*wide, k), *whole, "zero bytes")

    shuffle = rng.permutation(n_db)
    moved = search(queries, database[shuffle], n_db)
    assert_same_array(moved.distances, everything.distances, np.int32, "permuted database")
    assert_same_array(np.sort(shuffle[moved.indices], axis=1), np.sort(everything.indices, axis=1), np.int64)

    cut = data.draw(st.integers(0, n_db), label="cut")
    parts = [(0, database[:cut]), (cut, database[cut:])]
    answers = [(start, search(queries, part, min(k, len(part)))) for start, part in parts if len(part)]
    distances = np.concatenate([a.distances for _, a in answers], axis=1)
    indices = np.concatenate([a.indices + start for start, a in answers], axis=1)
    keys = oracles.sort_keys(distances.astype(np.int64), score)
    merged = np.lexsort((indices, keys), axis=1)[:, :k]
    assert_same_topk(
        whole, np.take_along_axis(distances, merged, 1), np.take_along_axis(indices, merged, 1), "shards"
    )


@pytest.mark.parametrize("score", SCORES)
def test_allowed_forms_agree(score: str, backend) -> None:
    """bool and packed, shared and for each query; over several tiles; none and all allowed."""
    rng = np.random.default_rng(6)
    queries, database = make_codes(rng, 4, 6, "near"), make_codes(rng, 2003, 6, "near")
    for share in (0.0, 0.001, 0.3, 1.0):
        for shape in ((2003,), (4, 2003)):
            mask = rng.random(shape) < share
            packed = np.packbits(mask, axis=-1, bitorder="little")
            for k in (1, 40, 2003):
                expected = oracles.topk(queries, database, k, score, mask)
                for form in (mask, packed, torch.from_numpy(mask)):
                    found = native(
                        "hamming_topk", backend.device, queries, database, k, score=score, allowed=form
                    )
                    assert_same_topk(found, *expected, f"share={share} shape={shape} k={k}")


def test_allowed_strided(backend) -> None:
    rng = np.random.default_rng(7)
    queries, database = make_codes(rng, 5, 3), make_codes(rng, 83, 3)
    mask = rng.random((5, 83)) < 0.4
    expected = oracles.topk(queries, database, 9, "hamming", mask)
    views = strided_views(mask) + strided_views(np.packbits(mask, axis=1, bitorder="little"))
    for view in views:
        found = native("hamming_topk", backend.device, queries, database, 9, allowed=view)
        assert_same_topk(found, *expected, str(view.stride()))
    row = torch.zeros((1, 83), dtype=torch.bool).expand(5, 83)
    assert (native("hamming_topk", backend.device, queries, database, 9, allowed=row).indices == -1).all()


def test_allowed_padding_never_adds_items(backend) -> None:
    """Set bits past the last item are refused or ignored; no item 10 of 10 ever appears."""
    queries, database = np.zeros((2, 2), np.uint8), np.zeros((10, 2), np.uint8)
    try:
        found = native(
            "hamming_topk", backend.device, queries, database, 10, allowed=np.array([0, 255], np.uint8)
        )
    except ValueError:
        return
    assert found.indices.tolist() == [[8, 9] + [-1] * 8] * 2


@given(pair=code_pairs(), which=st.integers(0, 3))
def test_strides(pair, which: int, backend) -> None:
    queries, database = pair
    views = strided_views(queries)[3 - which], strided_views(database)[which]
    k = min(5, len(database))
    assert_same_topk(native("hamming_topk", backend.device, *views, k), *oracles.topk(queries, database, k))


def test_edges(device: str) -> None:
    empty = native("hamming_topk", device, np.empty((0, 3), np.uint8), np.zeros((4, 3), np.uint8), 2)
    assert_same_topk(empty, np.empty((0, 2)), np.empty((0, 2)), "zero queries")
    one = native("hamming_topk", device, np.array([[5]], np.uint8), np.array([[6]], np.uint8), 1)
    assert_same_topk(one, [[2]], [[0]], "n = 1")
