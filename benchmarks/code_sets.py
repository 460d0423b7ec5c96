"""The codes that the benchmarks run on, packed as `dshc_fast` packs them (bit j in byte j // 8 at position j % 8):

* random: uniform bits, the worst case of a scan: all codes differ.
* clustered: 100 random centers, every bit flipped with probability 0.05. clustered-1000: 1,000 centers.
* learned: the codes of the committed Fashion-MNIST run (docs/results/fashion-mnist-30.safetensors), 30 bits.
* dshc-310: DSHC's codebook (Luo et al., CPBC: a center and its 30 single flips for each of 10 classes, 30 bits); items
  draw a class, then one of its sub-classes, and 5 % of them are coded as another class.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from timing import RESULTS

N_CLASSES = 10


class CodeSet(NamedTuple):
    queries: np.ndarray
    database: np.ndarray
    query_labels: np.ndarray
    database_labels: np.ndarray
    n_bits: int


def _random(rng: np.random.Generator, n: int, n_bits: int) -> np.ndarray:
    words = rng.integers(0, 2**32, n * n_bits // 32, dtype=np.uint32)
    return words.view(np.uint8).reshape(n, n_bits // 8)


def _clustered(rng: np.random.Generator, n: int, n_bits: int, centers: np.ndarray) -> np.ndarray:
    codes = np.empty((n, n_bits // 8), np.uint8)
    for start in range(0, n, 1 << 18):
        part = codes[start : start + (1 << 18)]
        flips = rng.random((len(part), n_bits), dtype=np.float32) < 0.05
        part[:] = centers[rng.integers(0, len(centers), len(part))] ^ np.packbits(flips, axis=1)
    return codes


def _learned(n_query: int, n_db: int) -> CodeSet:
    from safetensors import safe_open

    with safe_open(RESULTS / "fashion-mnist-30.safetensors", "numpy") as file:
        names = ("query_codes", "database_codes", "query_labels", "database_labels")
        queries, database, query_labels, database_labels = (file.get_tensor(name) for name in names)
        n_bits = int(file.metadata()["n_bits"])
    if n_query > len(queries) or n_db > len(database):
        raise SystemExit(f"the learned codes are {len(queries)} queries and {len(database)} database items")
    return CodeSet(queries[:n_query], database[:n_db], query_labels[:n_query], database_labels[:n_db], n_bits)


def _dshc_310(rng: np.random.Generator, n_query: int, n_db: int) -> CodeSet:
    from dshc.codebooks import build

    book = build("cpbc", N_CLASSES, 30)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, N_CLASSES, n)
        coded_as = np.where(rng.random(n) < 0.05, rng.integers(0, N_CLASSES, n), labels)
        start, stop = book.class_offsets[coded_as], book.class_offsets[coded_as + 1]
        return book.codes[rng.integers(start, stop)], labels

    (queries, query_labels), (database, database_labels) = draw(n_query), draw(n_db)
    return CodeSet(queries, database, query_labels, database_labels, book.n_bits)


@lru_cache(maxsize=2)
def code_set(kind: str, n_bits: int, n_query: int, n_db: int) -> CodeSet:
    """The same codes for the same arguments; `n_bits` is what the set has where it does not choose."""
    rng = np.random.default_rng(0)
    if kind in ("learned", "dshc-310"):
        made = _learned(n_query, n_db) if kind == "learned" else _dshc_310(rng, n_query, n_db)
        if made.n_bits != n_bits:
            raise SystemExit(f"{kind} codes must have {n_bits} bits, got {made.n_bits}")
        return made
    if kind == "random":
        queries, database = _random(rng, n_query, n_bits), _random(rng, n_db, n_bits)
    else:
        centers = _random(rng, int(kind.partition("-")[2] or 100), n_bits)
        queries, database = (_clustered(rng, n, n_bits, centers) for n in (n_query, n_db))
    return CodeSet(
        queries, database, rng.integers(0, N_CLASSES, n_query), rng.integers(0, N_CLASSES, n_db), n_bits
    )
