"""HammingDatabase(tables=True): the answers of a scan, to the bit, whether the tables are asked or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backends import LEVEL, SIMD_LEVELS
from callers import twin
from comparisons import assert_same_radius
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ops_table import same_answer
from strategies import CODE_BYTES, allowed_masks, code_pairs, make_codes, seeds
from table_cases import assert_as_scanned, clustered

import dshc_fast
from dshc_fast import HammingDatabase, _tables

WIDE = (40, 64, 65, 128)


@pytest.mark.property
@pytest.mark.parametrize("how", ["always", "automatic"])
@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_like_a_scan(how: str, data: st.DataObject) -> None:
    """Codes random, repeated, near each other or of few ones; k to n; any radius; masks of all forms."""
    queries, database = data.draw(code_pairs(max_query=40, widths=[n for n in CODE_BYTES if n <= 9]))
    n, n_bits = len(database), 8 * database.shape[1]
    k, radius = data.draw(st.integers(1, n)), data.draw(st.integers(0, n_bits + 2))
    allowed = data.draw(allowed_masks(len(queries), n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tables, "use", how)
        assert_as_scanned(queries, database, k, radius, allowed, tables=True)


@pytest.mark.property
@settings(max_examples=examples(60), deadline=None)
@given(seed=seeds(), n_bytes=st.sampled_from([n for n in CODE_BYTES if n > 8] + list(WIDE)))
def test_long_codes(seed: int, n_bytes: int) -> None:
    """Near neighbours: far ones of long codes are more look-ups than a test can wait for."""
    rng = np.random.default_rng(seed)
    database, centers = clustered(rng, int(rng.integers(1, 300)), n_bytes, 4, 4 / (8 * n_bytes))
    if rng.random() < 0.3:
        database = database[rng.integers(0, max(1, len(database) // 8), len(database))]
    queries = np.concatenate([database[:3], centers])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tables, "use", "always")
        with_tables = HammingDatabase(database, tables=True)
        own = np.resize(database[:3], (3, n_bytes))
        assert same_answer(
            dshc_fast.hamming_topk(own, with_tables, 1), dshc_fast.hamming_topk(own, database, 1)
        )
        for radius in (0, 3, int(rng.integers(4, 20))):
            assert_same_radius(
                dshc_fast.hamming_radius(queries, with_tables, radius),
                twin("hamming_radius", queries, database, radius),
            )


@pytest.mark.parametrize("n_bytes", (1, 2, 3, 4, 5, 7, 8))
def test_every_k_and_radius(n_bytes: int, always: None) -> None:
    rng = np.random.default_rng(n_bytes)
    for database in (make_codes(rng, 24, n_bytes), make_codes(rng, 24, n_bytes, "ties")):
        queries = np.concatenate([database[:2], make_codes(rng, 2, n_bytes)])
        for k in range(1, 25):
            assert_as_scanned(queries, database, k, min(8 * n_bytes, 3 * k), tables=True)


@pytest.mark.parametrize("kind", ("clustered", "random", "repeated"))
@pytest.mark.parametrize("n_bytes", (4, 6, 8, 16, 32))
def test_many_items(kind: str, n_bytes: int, use: str, threads) -> None:
    """Enough that tables are asked without being forced to; scouts, groups, threads, every instruction set."""
    rng = np.random.default_rng(n_bytes)
    n = 30_000
    database, centers = clustered(rng, n, n_bytes, 300, 0.03)
    if kind == "random" and use == "automatic":
        database = make_codes(rng, n, n_bytes)
    if kind == "repeated":
        database = database[rng.integers(0, n // 6, n)]
    queries = np.concatenate(
        [database[:70], centers[:20], make_codes(rng, 10, n_bytes)[: 10 * (use == "automatic")]]
    )
    prepared = HammingDatabase(database, tables=True)
    assert (prepared.n_distinct is not None) == (kind == "repeated")
    for n_query in (1, 9, len(queries)):
        for name, arguments in (("hamming_topk", (10,)), ("hamming_radius", (2,)), ("hamming_radius", (6,))):
            function = getattr(dshc_fast, name)
            expected = function(queries[:n_query], database, *arguments)
            for count in (1, 3):
                torch.set_num_threads(count)
                assert same_answer(function(queries[:n_query], prepared, *arguments), expected), (name, count)
    for level in SIMD_LEVELS:
        dshc_fast.set_simd_level(level)
        assert same_answer(dshc_fast.hamming_radius(queries, prepared, 6), expected)
    dshc_fast.set_simd_level(LEVEL)


def test_a_mixed_call(use: str) -> None:
    """Queries that the tables answer among queries that are scanned, each in its place."""
    rng = np.random.default_rng(0)
    near, centers = clustered(rng, 40_000, 8, 2000, 0.02)
    database = np.concatenate([near, make_codes(rng, 40_000, 8)])
    queries = np.concatenate([centers[:300], make_codes(rng, 100, 8)])
    if use == "always":
        queries = queries[:320]
    queries = queries[rng.permutation(len(queries))]
    prepared = HammingDatabase(database, tables=True)
    assert same_answer(
        dshc_fast.hamming_topk(queries, prepared, 5), dshc_fast.hamming_topk(queries, database, 5)
    )
    for radius in (1, 8):
        assert same_answer(
            dshc_fast.hamming_radius(queries, prepared, radius),
            dshc_fast.hamming_radius(queries, database, radius),
        )


def test_other_ops_and_scores(use: str) -> None:
    """Tables are for the Hamming distance; metrics and the overlap are as without."""
    rng = np.random.default_rng(1)
    codes, ids = make_codes(rng, 500, 8, "near"), rng.integers(0, 4, 500)
    plain, prepared = HammingDatabase(codes, ids), HammingDatabase(codes, ids, tables=True)
    for name, arguments in (("hamming_distance", ()), ("hamming_topk", (9,)), ("hamming_radius", (20,))):
        for score in ("hamming", "overlap"):
            function = getattr(dshc_fast, name)
            both = (function(codes[:7], given, *arguments, score=score) for given in (plain, prepared))
            assert same_answer(*both)
    for name in ("hamming_histogram", "average_precision", "mean_average_precision", "retrieval_curves"):
        function = getattr(dshc_fast, name)
        assert same_answer(*(function(codes[:7], given, ids[:7]) for given in (plain, prepared)))


def test_masks_of_each_query(use: str) -> None:
    rng = np.random.default_rng(2)
    codes = make_codes(rng, 400, 5, "near")
    allowed = rng.random((6, 400)) < 0.5
    assert_as_scanned(codes[:6], codes, 30, 6, allowed, tables=True)
    assert_as_scanned(codes[:6], codes, 30, 6, np.zeros(400, bool), tables=True)
