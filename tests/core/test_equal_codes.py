"""Top-k and radius search of calls large enough that the kernels look for equal queries and equal codes by themselves:
answers are those of the same call cut into small ones, which are too small to be looked at."""

from __future__ import annotations

import numpy as np
import pytest

import dshc_fast

N_QUERY, N_DB, N_BYTES = 2_100, 17_000, 4


def repeating(rng: np.random.Generator, n: int, n_distinct: int) -> np.ndarray:
    distinct = rng.integers(0, 256, (n_distinct, N_BYTES), dtype=np.uint8)
    distinct[1::2] = distinct[::2] ^ np.array(
        [1, 0, 0, 0], dtype=np.uint8
    )  # near ones, so that ties hold several
    return distinct[rng.integers(0, n_distinct, n)]


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(7)
    distinct_queries = rng.integers(0, 256, (N_QUERY, N_BYTES), dtype=np.uint8)
    distinct_codes = rng.integers(0, 256, (N_DB, N_BYTES), dtype=np.uint8)
    queries, codes = repeating(rng, N_QUERY, 40), repeating(rng, N_DB, 60)
    return {
        "queries": (queries, distinct_codes),
        "database": (distinct_queries, codes),
        "both": (queries, codes),
    }


CASES = cases()


@pytest.mark.parametrize("score", ["hamming", "overlap"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_equal_codes(name: str, masked: bool, score: str) -> None:
    queries, database = CASES[name]
    allowed = np.random.default_rng(3).random(N_DB) < 0.3 if masked else None
    k, radius = 700, 12
    if score == "overlap":
        radius = 9
    nearest = dshc_fast.hamming_topk(queries, database, k, score=score, allowed=allowed)
    inside = dshc_fast.hamming_radius(queries, database, radius, score=score, allowed=allowed)
    for begin in range(0, N_QUERY, 60):
        part = slice(begin, begin + 60)
        wanted = dshc_fast.hamming_topk(queries[part], database, k, score=score, allowed=allowed)
        np.testing.assert_array_equal(nearest.indices[part], wanted.indices)
        np.testing.assert_array_equal(nearest.distances[part], wanted.distances)
        found = dshc_fast.hamming_radius(queries[part], database, radius, score=score, allowed=allowed)
        taken = slice(inside.offsets[begin], inside.offsets[begin + len(queries[part])])
        np.testing.assert_array_equal(inside.offsets[begin : begin + len(queries[part]) + 1] - inside.offsets[begin],
                                      found.offsets)  # fmt: skip
        np.testing.assert_array_equal(inside.indices[taken], found.indices)
        np.testing.assert_array_equal(inside.distances[taken], found.distances)
