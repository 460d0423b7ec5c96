"""Ranking problems whose sizes lie at the edges of the CUDA kernels' tiles."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from simt_kernels import EDGES
from strategies import CODE_STYLES, SCORES, Problem, allowed_masks, clear_padding, labels, make_codes, seeds

WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 24, 31, 32, 33, 64, 65)


@st.composite
def tiled_pairs(draw, max_query: int = 9, widths=WIDTHS) -> tuple[np.ndarray, np.ndarray]:
    """(queries, database): few items, or a number at the edge of a tile."""
    rng = np.random.default_rng(draw(seeds()))
    n_bytes, n_query = draw(st.sampled_from(widths)), draw(st.integers(0, max_query))
    n_db = draw(st.one_of(st.integers(1, 90), st.sampled_from(EDGES)))
    database = make_codes(rng, n_db, n_bytes, draw(st.sampled_from(CODE_STYLES)))
    queries = make_codes(rng, n_query, n_bytes, draw(st.sampled_from(CODE_STYLES)))
    if draw(st.booleans()):
        queries = database[rng.integers(0, n_db, n_query)]
    return queries, database


@st.composite
def tiled_problems(draw, max_query: int = 5) -> Problem:
    queries, database = draw(tiled_pairs(max_query))
    query_labels, database_labels = draw(labels(len(queries), len(database)))
    n_bits = draw(st.one_of(st.none(), st.integers(8 * queries.shape[1] - 7, 8 * queries.shape[1])))
    if n_bits is not None:
        queries, database = clear_padding(queries, n_bits), clear_padding(database, n_bits)
    allowed = draw(allowed_masks(len(queries), len(database)))
    return Problem(
        queries, database, query_labels, database_labels, draw(st.sampled_from(SCORES)), allowed, n_bits
    )
