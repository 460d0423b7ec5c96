"""Top-k and radius search with so many queries that they filter by bit planes where the CPU can: against numpy, and
each SIMD level against the others. A plane has 512, 256 or 128 items."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import ranking_cases
import torch
from backends import LEVEL, SIMD_LEVELS
from comparisons import assert_same_radius, assert_same_topk
from effort import deep, examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import CODES, MASKS, Case, build_case

import dshc_fast

ALL_BYTES = (*range(1, 18), 20, 24, 25, 31, 32, 33, 45, 64, 96, 121)
FEW_BYTES = (1, 3, 4, 7, 8, 9, 12, 16, 17, 24, 32, 33, 64, 121)
ASKED = ("random", "in the database", "beside it", "repeated")


@pytest.fixture(autouse=True)
def restored(threads) -> Iterator[None]:
    yield
    dshc_fast.set_simd_level(LEVEL)


def every_way() -> Iterator[str]:
    for level in SIMD_LEVELS:
        dshc_fast.set_simd_level(level)
        for count in (1, 3):
            torch.set_num_threads(count)
            yield f"{level}, {count} threads"


def check(case: Case, ks: tuple[int, ...], radii: tuple[int, ...]) -> None:
    options = {"score": case.score, "allowed": case.allowed}
    for k in ks:
        expected = ranking_cases.topk(case, k)
        for way in every_way():
            found = dshc_fast.hamming_topk(case.queries, case.database, k, **options)
            assert_same_topk(found, *expected, f"{way}, k = {k}, {case}")
    for radius in radii:
        expected = ranking_cases.radius(case, radius)
        for way in every_way():
            found = dshc_fast.hamming_radius(case.queries, case.database, radius, **options)
            assert_same_radius(found, expected, f"{way}, radius = {radius}, {case}")


@pytest.mark.parametrize("score", ("hamming", "overlap"))
@pytest.mark.parametrize("n_bytes", (*FEW_BYTES, *deep(*sorted({*ALL_BYTES} - {*FEW_BYTES}))))
def test_lengths(n_bytes: int, score: str) -> None:
    rng = np.random.default_rng(n_bytes)
    n_db = 3003
    for form in (None, "shared", "each packed"):
        case = build_case(rng, 150, n_db, n_bytes, "random", score=score, form=form)
        check(case, (1, 10, 300, n_db), (2 * n_bytes, 4 * n_bytes))


@settings(max_examples=examples(80))
@given(data=st.data())
def test_random(data) -> None:
    """All code styles and masks; databases that end anywhere in a block of planes."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    n_db = int(rng.integers(600, 6000))
    case = build_case(
        rng,
        int(rng.choice((7, 8, 15, 16, 31, 32, 47, 48, 49, 64, 97, 129, 200))),
        n_db,
        int(rng.choice((4, 8, 16, 24, 32, 64, int(rng.integers(1, 33))))),
        str(rng.choice(CODES)),
        str(rng.choice(ASKED)),
        form=MASKS[int(rng.integers(0, len(MASKS)))],
    )
    radius = int(np.quantile(case.counts, rng.choice((0.001, 0.1))))
    check(case, (int(rng.choice((1, 10, 100, n_db // 4))),), (radius,))


@pytest.mark.parametrize("n_bytes", (4, 8, 16, 24, 32, *deep(48, 64, 96)))
def test_every_radius(n_bytes: int) -> None:
    """Codes at all distances of a query; each radius is a constant of its own in the planes."""
    rng = np.random.default_rng(n_bytes)
    bits = 8 * n_bytes
    queries = rng.integers(0, 256, (60, n_bytes), dtype=np.uint8)
    ranks = rng.permuted(np.tile(np.arange(bits), (1100, 1)), axis=1)
    flips = np.packbits(ranks < rng.permutation(1100)[:, None] % (bits + 1), axis=1)
    database = queries[rng.integers(0, len(queries), 1100)] ^ flips
    counts = ranking_cases.popcounts(queries, database, "hamming")
    assert len(np.unique(counts)) == bits + 1
    may = np.ones(counts.shape, dtype=bool)
    case = Case(queries, database, "hamming", None, may, counts, "every distance")
    check(case, (), tuple(range(bits + 1)))


@pytest.mark.parametrize("n_bytes", (4, 8, 11, 16, 24, 32))
@pytest.mark.parametrize("k", (1, 70, 1000))
def test_large(n_bytes: int, k: int) -> None:
    """Wide groups, shards, bounds guessed from a sample; the levels against each other."""
    rng = np.random.default_rng(n_bytes)
    n_db, n_query = 600_011 * 8 // n_bytes, 70
    database = rng.integers(0, 256, (n_db, n_bytes), dtype=np.uint8)
    database[::3] = database[rng.integers(0, 200, len(database[::3]))]
    queries = ranking_cases.flip(rng, database[rng.integers(0, n_db, n_query)], 2)
    first = None
    for way in every_way():
        found = dshc_fast.hamming_topk(queries, database, k)
        first = first or found
        assert_same_topk(found, *first, f"{way}, {n_bytes} bytes, k = {k}")
