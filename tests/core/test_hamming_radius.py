"""hamming_radius: all within a radius, ordered like top-k."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from callers import both, native
from comparisons import assert_same_array, assert_same_radius
from hypothesis import given
from hypothesis import strategies as st
from strategies import ALL_BYTES, SCORES, allowed_masks, code_pairs, make_codes, seeds, strided_views

import dshc_fast


def test_by_hand() -> None:
    queries = np.array([[0b0000], [0b1111]], np.uint8)
    database = np.array([[0b0011], [0b0001], [0b1100], [0b0001], [0b1111]], np.uint8)
    found = dshc_fast.hamming_radius(queries, database, 2)
    assert found.offsets.tolist() == [0, 4, 7]
    assert found.indices.tolist() == [1, 3, 0, 2, 4, 0, 2]
    assert found.distances.tolist() == [1, 1, 2, 2, 0, 2, 2]
    found = dshc_fast.hamming_radius(queries, database, 2, score="overlap")
    assert found.offsets.tolist() == [0, 0, 3]
    assert found.indices.tolist() == [4, 0, 2] and found.distances.tolist() == [4, 2, 2]


@pytest.mark.parametrize("score", SCORES)
@given(data=st.data(), pair=code_pairs())
def test_random(data, pair, score: str, backend) -> None:
    n_bits = 8 * pair[0].shape[1]
    radius = data.draw(st.one_of(st.integers(0, n_bits + 2), st.integers(n_bits // 2 - 4, n_bits // 2 + 4)))
    allowed = data.draw(allowed_masks(len(pair[0]), len(pair[1])), label="allowed")
    radius = max(radius, 0)
    expected = oracles.radius(*pair, radius, score, allowed)
    for who, found in both("hamming_radius", backend.device, *pair, radius, score=score, allowed=allowed):
        assert_same_radius(found, expected, f"{who} radius={radius}")


@pytest.mark.parametrize("n_bytes", ALL_BYTES)
def test_widths(n_bytes: int, backend) -> None:
    rng = np.random.default_rng(n_bytes)
    queries, database = make_codes(rng, 3, n_bytes), make_codes(rng, 90, n_bytes)
    for score, radius in (("hamming", 4 * n_bytes), ("overlap", 2 * n_bytes)):
        found = native("hamming_radius", backend.device, queries, database, radius, score=score)
        assert_same_radius(found, oracles.radius(queries, database, radius, score), score)


@pytest.mark.parametrize("radius", (0, 16, 17, 255, 256, 2**31 - 1, 2**31, 2**40, 2**63 - 1))
def test_beyond_the_width(radius: int, backend) -> None:
    """More than n_bits is legal: all for hamming, none for overlap; overlap 0 is all."""
    rng = np.random.default_rng(1)
    queries, database = make_codes(rng, 3, 2), make_codes(rng, 40, 2)
    for score in SCORES:
        found = native("hamming_radius", backend.device, queries, database, radius, score=score)
        assert_same_radius(found, oracles.radius(queries, database, radius, score), f"{score} {radius}")
        n_found = {"hamming": 120 if radius >= 16 else None, "overlap": 120 if radius == 0 else None}[score]
        if n_found is not None:
            assert found.offsets[-1] == n_found


@pytest.mark.parametrize("style", ("ties", "near", "random"))
def test_large_database(style: str, backend) -> None:
    rng = np.random.default_rng(2)
    queries, database = make_codes(rng, 3, 8, "near"), make_codes(rng, 5003, 8, style)
    queries[0] = database[5002]
    for radius in (0, 2, 20, 32, 64):
        for score in SCORES:
            found = native("hamming_radius", backend.device, queries, database, radius, score=score)
            assert_same_radius(found, oracles.radius(queries, database, radius, score), f"{score} {radius}")


def test_many_queries(backend) -> None:
    rng = np.random.default_rng(3)
    queries, database = make_codes(rng, 301, 4), make_codes(rng, 150, 4)
    found = native("hamming_radius", backend.device, queries, database, 12)
    assert_same_radius(found, oracles.radius(queries, database, 12))


@given(data=st.data(), pair=code_pairs(), seed=seeds(), score=st.sampled_from(SCORES))
def test_relations(data, pair, seed: int, score: str, backend) -> None:
    """A prefix of top-k; nested radii; XOR mask; permuted bits; zero bytes; merged shards."""
    queries, database = pair
    n_bits, n_db, rng = 8 * queries.shape[1], len(database), np.random.default_rng(seed)
    radius = data.draw(st.integers(0, n_bits), label="radius")

    def search(q, d, r=radius):
        return native("hamming_radius", backend.device, q, d, r, score=score)

    whole = search(queries, database)
    ranked = native("hamming_topk", backend.device, queries, database, n_db, score=score)
    for q, (start, stop) in enumerate(zip(whole.offsets[:-1], whole.offsets[1:], strict=True)):
        assert_same_array(
            whole.indices[start:stop], ranked.indices[q, : stop - start], np.int64, "top-k prefix"
        )
        assert_same_array(
            whole.distances[start:stop], ranked.distances[q, : stop - start], np.int32, "top-k prefix"
        )
        outside = ranked.distances[q, stop - start :]
        assert (outside > radius).all() if score == "hamming" else (outside < radius).all()
    if score == "hamming":
        mask = rng.integers(0, 256, queries.shape[1], dtype=np.uint8)
        assert_same_radius(search(queries ^ mask, database ^ mask), whole, "XOR mask")
    order = rng.permutation(n_bits)
    assert_same_radius(
        search(*[oracles.pack(oracles.bits(c)[:, order]) for c in pair]), whole, "permuted bits"
    )
    assert_same_radius(search(*[np.pad(c, ((0, 0), (0, 9))) for c in pair]), whole, "zero bytes")
    cut = data.draw(st.integers(1, n_db), label="cut")
    if cut < n_db:
        first, second = search(queries, database[:cut]), search(queries, database[cut:])
        sizes = np.diff(first.offsets) + np.diff(second.offsets)
        assert_same_array(np.diff(whole.offsets), sizes, np.int64, "shards")


@given(pair=code_pairs(), which=st.integers(0, 3))
def test_strides(pair, which: int, backend) -> None:
    queries, database = pair
    radius = 4 * queries.shape[1]
    views = strided_views(queries)[which], strided_views(database)[3 - which]
    found = native("hamming_radius", backend.device, *views, radius)
    assert_same_radius(found, oracles.radius(queries, database, radius))


def test_edges(device: str) -> None:
    empty = native("hamming_radius", device, np.empty((0, 3), np.uint8), np.zeros((4, 3), np.uint8), 2)
    assert_same_radius(empty, ([0], [], []), "zero queries")
    nothing = native("hamming_radius", device, np.zeros((3, 1), np.uint8), np.full((2, 1), 255, np.uint8), 7)
    assert_same_radius(nothing, ([0, 0, 0, 0], [], []), "nothing inside")
    masked = native(
        "hamming_radius",
        device,
        np.zeros((1, 1), np.uint8),
        np.zeros((2, 1), np.uint8),
        8,
        allowed=np.zeros(2, bool),
    )
    assert_same_radius(masked, ([0, 0], [], []), "nothing allowed")
