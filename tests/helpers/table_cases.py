"""Codes that substring tables find quickly, and searches through tables or clusters against a scan."""

from __future__ import annotations

import numpy as np
from callers import twin
from comparisons import assert_same_radius, assert_same_topk
from ops_table import same_answer
from strategies import make_codes

import dshc_fast


def clustered(
    rng: np.random.Generator, n: int, n_bytes: int, n_centers: int, p: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Codes around random centers, and the centers."""
    centers = make_codes(rng, n_centers, n_bytes)
    flips = np.packbits(rng.random((n, 8 * n_bytes)) < p, axis=1)
    return centers[rng.integers(0, n_centers, n)] ^ flips, centers


def assert_as_scanned(
    queries: np.ndarray,
    database: np.ndarray,
    k: int,
    radius: int,
    allowed: np.ndarray | None = None,
    **made_with: bool,
) -> None:
    """A database made with tables or clusters, against the twin and against plain arrays."""
    prepared = dshc_fast.HammingDatabase(database, **made_with)
    found = dshc_fast.hamming_topk(queries, prepared, k, allowed=allowed)
    assert_same_topk(found, *twin("hamming_topk", queries, database, k, allowed=allowed))
    assert same_answer(found, dshc_fast.hamming_topk(queries, database, k, allowed=allowed))
    within = dshc_fast.hamming_radius(queries, prepared, radius, allowed=allowed)
    assert_same_radius(within, twin("hamming_radius", queries, database, radius, allowed=allowed))
    assert same_answer(within, dshc_fast.hamming_radius(queries, database, radius, allowed=allowed))
