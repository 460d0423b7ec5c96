"""hypothesis strategies: codes, labels, masks and strided views as users (and adversaries) bring them.

Array contents come from a seed hypothesis draws: cheap, reproducible, and the shapes still shrink.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

SCORES = ("hamming", "overlap")
INTEGER_DTYPES = (np.int8, np.uint8, np.int16, np.int32, np.int64)
CODE_STYLES = ("random", "ties", "near", "sparse", "zeros", "ones")
# Around the widths that kernels treat specially (8, 16, 32, 64 bytes) and the ends.
CODE_BYTES = (1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 15, 16, 17, 23, 24, 31, 32, 33, 40, 63, 64, 65)
ALL_BYTES = CODE_BYTES + (100, 127, 128, 129, 255, 256, 257, 511, 512)


class Problem(NamedTuple):
    """A ranking problem; n_bits is None or the codes' true width, padding bits 0."""

    queries: np.ndarray
    database: np.ndarray
    query_labels: np.ndarray
    database_labels: np.ndarray
    score: str
    allowed: np.ndarray | None
    n_bits: int | None

    def labelled(self) -> tuple[np.ndarray, ...]:
        return self.queries, self.database, self.query_labels, self.database_labels


def seeds() -> st.SearchStrategy[int]:
    return st.integers(0, 2**32 - 1)


def make_codes(rng: np.random.Generator, n: int, n_bytes: int, style: str = "random") -> np.ndarray:
    """uint8 `(n, n_bytes)`: `ties` draws from three codes, `near` flips a bit of those, `sparse`: few 1s."""
    if style in ("zeros", "ones"):
        return np.full((n, n_bytes), 0 if style == "zeros" else 255, dtype=np.uint8)
    if style == "random":
        return rng.integers(0, 256, (n, n_bytes), dtype=np.uint8)
    if style == "sparse":
        ones = rng.random((n, 8 * n_bytes)) < 0.04
        return np.packbits(ones, axis=1, bitorder="little").reshape(n, n_bytes)
    codes = rng.integers(0, 256, (3, n_bytes), dtype=np.uint8)[rng.integers(0, 3, n)]
    if style == "near":
        at = rng.integers(0, 8 * n_bytes, n)
        codes[np.arange(n), at // 8] ^= (1 << (at % 8)).astype(np.uint8)
    return codes


def clear_padding(codes: np.ndarray, n_bits: int) -> np.ndarray:
    """The codes with all bits from n_bits on set to 0."""
    out = codes.copy()
    if n_bits % 8:
        out[:, -1] &= (1 << (n_bits % 8)) - 1
    return out


@st.composite
def code_pairs(
    draw, max_query: int = 5, max_db: int = 90, widths=CODE_BYTES
) -> tuple[np.ndarray, np.ndarray]:
    """(queries, database) of one width; zero queries happen, an empty database does not."""
    rng = np.random.default_rng(draw(seeds()))
    n_bytes = draw(st.sampled_from(widths))
    n_query, n_db = draw(st.integers(0, max_query)), draw(st.integers(1, max_db))
    database = make_codes(rng, n_db, n_bytes, draw(st.sampled_from(CODE_STYLES)))
    queries = make_codes(rng, n_query, n_bytes, draw(st.sampled_from(CODE_STYLES)))
    if draw(st.booleans()):  # queries that are in the database: distance 0 happens
        queries = database[rng.integers(0, n_db, n_query)]
    return queries, database


@st.composite
def id_labels(draw, n_query: int, n_db: int) -> tuple[np.ndarray, np.ndarray]:
    """Class ids of any integer dtype, negative and huge ones too; the two sides may differ in dtype."""
    rng = np.random.default_rng(draw(seeds()))
    kind = draw(st.sampled_from(("small", "negative", "large", "extreme")))
    if kind == "small":
        dtypes, pool = INTEGER_DTYPES, np.array([0, 1, 2])
    elif kind == "negative":
        dtypes, pool = (np.int8, np.int16, np.int32, np.int64), np.array([-100, -1, 0, 7])
    elif kind == "large":
        dtypes, pool = (np.int64,), np.array([2**31, 2**32, 2**32 + 1, 2**53 + 1, 1])
    else:
        dtypes, pool = (np.int64,), np.array([-(2**63), 2**63 - 1, 2**62, 0])
    pool = pool.astype(np.int64)
    query = pool[rng.integers(0, len(pool), n_query)].astype(draw(st.sampled_from(dtypes)))
    return query, pool[rng.integers(0, len(pool), n_db)].astype(draw(st.sampled_from(dtypes)))


@st.composite
def multi_hot_labels(draw, n_query: int, n_db: int) -> tuple[np.ndarray, np.ndarray]:
    """Multi-hot rows of bool, integer or float dtype, 1 to 200 labels; rows without a label happen."""
    rng = np.random.default_rng(draw(seeds()))
    width = draw(st.sampled_from((1, 2, 7, 8, 21, 63, 64, 65, 81, 128, 200)))
    share = draw(st.sampled_from((0.0, 0.02, 0.1, 0.5)))
    dtypes = (np.bool_, np.uint8, np.int8, np.int32, np.int64, np.float16, np.float32, np.float64)
    query = (rng.random((n_query, width)) < share).astype(draw(st.sampled_from(dtypes)))
    return query, (rng.random((n_db, width)) < share).astype(draw(st.sampled_from(dtypes)))


def labels(n_query: int, n_db: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    return st.one_of(id_labels(n_query, n_db), multi_hot_labels(n_query, n_db))


@st.composite
def allowed_masks(draw, n_query: int, n_db: int) -> np.ndarray | None:
    """None, or one of the four forms: bool or packed, for all queries or for each."""
    form = draw(st.sampled_from((None, "bool", "bool each", "packed", "packed each")))
    if form is None:
        return None
    rng = np.random.default_rng(draw(seeds()))
    share = draw(st.sampled_from((0.0, 0.1, 0.5, 0.95, 1.0)))
    mask = rng.random((n_query, n_db) if form.endswith("each") else (n_db,)) < share
    if form.startswith("bool"):
        return mask
    return np.packbits(mask, axis=-1, bitorder="little").reshape(*mask.shape[:-1], (n_db + 7) // 8)


@st.composite
def problems(draw, max_query: int = 4, max_db: int = 90, widths=CODE_BYTES) -> Problem:
    """A whole labelled ranking problem."""
    queries, database = draw(code_pairs(max_query, max_db, widths))
    query_labels, database_labels = draw(labels(len(queries), len(database)))
    n_bits = draw(st.one_of(st.none(), st.integers(8 * queries.shape[1] - 7, 8 * queries.shape[1])))
    if n_bits is not None:
        queries, database = clear_padding(queries, n_bits), clear_padding(database, n_bits)
    allowed = draw(allowed_masks(len(queries), len(database)))
    return Problem(
        queries, database, query_labels, database_labels, draw(st.sampled_from(SCORES)), allowed, n_bits
    )


def strided_views(array: np.ndarray) -> list[torch.Tensor]:
    """Tensors of equal values in awkward layouts: odd offset, wide rows, row and column steps, transposed."""
    n, m = array.shape
    plain = torch.from_numpy(np.array(array))
    flat = torch.zeros(n * m + 1, dtype=plain.dtype)
    flat[1:] = plain.reshape(-1)
    wide = torch.zeros((n, m + 3), dtype=plain.dtype)
    wide[:, 2 : m + 2] = plain
    steps = torch.zeros((2 * n, 3 * m), dtype=plain.dtype)
    steps[::2, ::3] = plain
    return [flat[1:].view(n, m), wide[:, 2 : m + 2], steps[::2, ::3], plain.t().contiguous().t()]
