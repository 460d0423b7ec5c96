"""The other exact searches, each called as its users call it, on prepared data: an index, or vectors of -1 and 1, is
made once, outside the timing.

A peer is a function of k that returns the distances of each query, ascending.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

import numpy as np
import torch

import dshc_fast

try:
    import faiss
except ImportError:
    raise SystemExit("the benchmarks need faiss: pip install '.[bench]'") from None

FAISS = ("faiss heap", "faiss counting")
SLOW = (
    "usearch",
    "numpy",
    "torch",
)  # 5 to 50 times slower than faiss at k = 10: fewer queries, smaller databases
Search = Callable[[int], np.ndarray]


def words_of(codes: np.ndarray) -> np.ndarray:
    """The codes as the widest unsigned integers they divide into, (n, words)."""
    codes = np.ascontiguousarray(codes)
    return codes.view(np.uint64 if codes.shape[1] % 8 == 0 else np.uint32)


def versions() -> dict[str, str]:
    found = {"faiss": faiss.__version__, "numpy": np.__version__, "torch": torch.__version__}
    for name in ("usearch", "pynear"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return found


def set_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)


FAISS_LEVELS = {"avx512": "AVX512_VPOPCNT", "avx2": "AVX2", "neon": "ARM_NEON", "generic": "NONE"}
_BEST_FAISS_LEVEL = faiss.SIMDConfig.get_level() if hasattr(faiss, "SIMDConfig") else None


def set_faiss_level(level: str) -> None:
    """The level of faiss that is like one of ours, or its best; before 1.15 faiss has one level for a process."""
    if _BEST_FAISS_LEVEL is None:
        return
    name = f"SIMDLevel_{FAISS_LEVELS.get(level, '')}"
    faiss.SIMDConfig.set_level(getattr(faiss, name) if hasattr(faiss, name) else _BEST_FAISS_LEVEL)


def faiss_index(database: np.ndarray) -> faiss.IndexBinaryFlat:
    index = faiss.IndexBinaryFlat(8 * database.shape[1])
    index.add(np.ascontiguousarray(database))
    return index


def _faiss(queries: np.ndarray, database: np.ndarray, allowed: np.ndarray | None) -> dict[str, Search]:
    index, queries = faiss_index(database), np.ascontiguousarray(queries)

    def selector(mask: np.ndarray) -> faiss.SearchParameters:
        return faiss.SearchParameters(sel=faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little")))

    if allowed is None or allowed.ndim == 1:
        chosen = [selector(allowed)] if allowed is not None else [None]
        parts = [queries]
    else:  # one call a query: a selector holds for a whole call
        chosen = [selector(mask) for mask in allowed]
        parts = [queries[i : i + 1] for i in range(len(queries))]

    def search(k: int, use_heap: bool) -> np.ndarray:
        index.use_heap = use_heap
        found = [index.search(part, k, params=params)[0] for part, params in zip(parts, chosen, strict=True)]
        return found[0] if len(found) == 1 else np.concatenate(found)

    return {"faiss heap": lambda k: search(k, True), "faiss counting": lambda k: search(k, False)}


def _usearch(queries: np.ndarray, database: np.ndarray, threads: int) -> Search:
    from usearch.index import MetricKind, ScalarKind, search

    def run(k: int) -> np.ndarray:
        found = search(
            database, queries, k, MetricKind.Hamming, exact=True, dtype=ScalarKind.B1, threads=threads
        )
        return np.asarray(found.distances).reshape(len(queries), -1)

    return run


def _numpy(queries: np.ndarray, database: np.ndarray) -> Search:
    query_words, words = words_of(queries), words_of(database)
    planes = [np.ascontiguousarray(words[:, w]) for w in range(words.shape[1])]

    def run(k: int) -> np.ndarray:
        result = np.empty((len(queries), k), np.int32)
        for i, query in enumerate(query_words):
            distances = np.bitwise_count(planes[0] ^ query[0]).astype(
                np.uint16 if len(planes) > 3 else np.uint8
            )
            for plane, word in zip(planes[1:], query[1:], strict=True):
                distances += np.bitwise_count(plane ^ word)
            nearest = np.argpartition(distances, k - 1)[:k] if k < len(distances) else np.arange(k)
            result[i] = np.sort(distances[nearest])
        return result

    return run


def _torch(queries: np.ndarray, database: np.ndarray) -> Search:
    n_bits = 8 * database.shape[1]  # bfloat16 holds every product of up to 256 bits exactly
    signs = [torch.from_numpy(dshc_fast.unpack_codes(np.ascontiguousarray(codes), n_bits, signed=True))
             .to(torch.bfloat16) for codes in (queries, database)]  # fmt: skip

    def run(k: int) -> np.ndarray:
        products = torch.topk(signs[0] @ signs[1].T, k, dim=1).values
        return ((n_bits - products.float()) / 2).to(torch.int32).numpy()

    return run


def searches(names: tuple[str, ...], queries: np.ndarray, database: np.ndarray, threads: int,
             allowed: np.ndarray | None = None) -> dict[str, Search]:  # fmt: skip
    """The named peers, prepared. Only faiss takes `allowed` (a bool mask, of all or of each query)."""
    made: dict[str, Search] = {}
    if set(FAISS) & set(names):
        made |= {name: run for name, run in _faiss(queries, database, allowed).items() if name in names}
    if "usearch" in names:
        made["usearch"] = _usearch(queries, database, threads)
    if "numpy" in names:
        made["numpy"] = _numpy(queries, database)
    if "torch" in names:
        made["torch"] = _torch(queries, database)
    return made
