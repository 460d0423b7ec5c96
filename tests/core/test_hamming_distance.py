"""hamming_distance: both scores, every width."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from callers import both, native
from comparisons import assert_same_array
from hypothesis import given
from hypothesis import strategies as st
from strategies import ALL_BYTES, SCORES, code_pairs, make_codes, seeds, strided_views

import dshc_fast


def test_by_hand() -> None:
    queries = np.array([[0b00000000], [0b11111111], [0b00001111]], np.uint8)
    database = np.array([[0b00000000], [0b00000001], [0b11110000]], np.uint8)
    assert dshc_fast.hamming_distance(queries, database).tolist() == [[0, 1, 4], [8, 7, 4], [4, 3, 8]]
    overlap = dshc_fast.hamming_distance(queries, database, score="overlap")
    assert overlap.tolist() == [[0, 0, 0], [0, 1, 4], [0, 1, 0]]


@pytest.mark.parametrize("score", SCORES)
@given(pair=code_pairs())
def test_random(pair, score: str, backend) -> None:
    for who, values in both("hamming_distance", backend.device, *pair, score=score):
        assert_same_array(values, oracles.counts(*pair, score), np.int32, who)


@pytest.mark.parametrize("n_bytes", ALL_BYTES)
def test_widths(n_bytes: int, backend) -> None:
    rng = np.random.default_rng(n_bytes)
    queries, database = make_codes(rng, 5, n_bytes), make_codes(rng, 37, n_bytes)
    for score in SCORES:
        values = native("hamming_distance", backend.device, queries, database, score=score)
        assert_same_array(values, oracles.counts(queries, database, score), np.int32, score)


@pytest.mark.parametrize("n_bytes", ALL_BYTES)
def test_largest_counts(n_bytes: int, backend) -> None:
    """All bits differ (or agree): byte-wide partial sums must not overflow."""
    zeros, ones = np.zeros((3, n_bytes), np.uint8), np.full((19, n_bytes), 255, np.uint8)
    full = np.full((3, 19), 8 * n_bytes)
    assert_same_array(native("hamming_distance", backend.device, zeros, ones), full, np.int32)
    assert_same_array(native("hamming_distance", backend.device, ones[:3], ones), 0 * full, np.int32)
    overlap = native("hamming_distance", backend.device, ones[:3], ones, score="overlap")
    assert_same_array(overlap, full, np.int32)


def test_every_single_bit(backend) -> None:
    """Each of 136 bits counts once, alone."""
    codes = np.packbits(np.eye(136, dtype=bool), axis=1, bitorder="little")
    zero = np.zeros((1, 17), np.uint8)
    assert_same_array(native("hamming_distance", backend.device, codes, zero), np.ones((136, 1)), np.int32)
    overlap = native("hamming_distance", backend.device, codes, codes, score="overlap")
    assert_same_array(overlap, np.eye(136), np.int32)


@pytest.mark.parametrize("n_db", (*range(1, 40), 63, 64, 65, 127, 128, 129, 1000, 4097))
def test_database_sizes(n_db: int, backend) -> None:
    rng = np.random.default_rng(n_db)
    queries, database = make_codes(rng, 3, 8), make_codes(rng, n_db, 8)
    values = native("hamming_distance", backend.device, queries, database)
    assert_same_array(values, oracles.counts(queries, database, "hamming"), np.int32)


@given(pair=code_pairs(), seed=seeds())
def test_relations(pair, seed: int, backend) -> None:
    """One XOR mask on all codes, permuted bits, added zero bytes, swapped sides: the same distances."""
    queries, database = pair
    rng = np.random.default_rng(seed)
    plain = native("hamming_distance", backend.device, queries, database)
    mask = rng.integers(0, 256, queries.shape[1], dtype=np.uint8)
    masked = native("hamming_distance", backend.device, queries ^ mask, database ^ mask)
    assert_same_array(masked, plain, np.int32, "XOR mask")
    assert_same_array(
        native("hamming_distance", backend.device, database, queries).T if len(queries) else plain,
        plain,
        np.int32,
        "swapped",
    )
    order = rng.permutation(8 * queries.shape[1])
    mixed = [oracles.pack(oracles.bits(codes)[:, order]) for codes in pair]
    wide = [np.pad(codes, ((0, 0), (0, 5))) for codes in pair]
    for score in SCORES:
        plain = native("hamming_distance", backend.device, *pair, score=score)
        for name, other in (("bits", mixed), ("zero bytes", wide)):
            assert_same_array(
                native("hamming_distance", backend.device, *other, score=score), plain, np.int32, name
            )


@given(pair=code_pairs(), which=st.integers(0, 3))
def test_strides(pair, which: int, backend) -> None:
    queries, database = pair
    views = strided_views(queries)[which], strided_views(database)[3 - which]
    for score in SCORES:
        values = native("hamming_distance", backend.device, *views, score=score)
        assert_same_array(values, oracles.counts(queries, database, score), np.int32)


def test_zero_queries(device: str) -> None:
    values = native("hamming_distance", device, np.empty((0, 3), np.uint8), np.zeros((4, 3), np.uint8))
    assert_same_array(values, np.empty((0, 4)), np.int32)


def test_padding_bits_count(backend) -> None:
    """No n_bits here: whatever bits are set are counted."""
    queries, database = np.array([[0x80]], np.uint8), np.array([[0x01]], np.uint8)
    assert native("hamming_distance", backend.device, queries, database).tolist() == [[2]]
