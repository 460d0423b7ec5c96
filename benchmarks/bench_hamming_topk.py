"""Exact top-k of 100 queries against 1,000,000 codes of 64 bits, one thread: ours against
faiss.IndexBinaryFlat.

    python benchmarks/bench_hamming_topk.py

faiss runs in both its modes (heap, its default, and counting). Distances are compared before anything is timed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from limits import Limits
from timing import interleave, machine, write

import dshc_fast

try:
    import faiss
except ImportError:
    raise SystemExit("bench_hamming_topk: faiss is not installed; pip install '.[bench]'") from None

N_QUERY, N_DB, N_BITS = 100, 1_000_000, 64


def random_codes(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 256, (n, N_BITS // 8), dtype=np.uint8)


def clustered_codes(rng: np.random.Generator, n: int, centers: np.ndarray) -> np.ndarray:
    """Every bit of a random center flipped with probability 0.05."""
    flips = np.packbits(rng.random((n, N_BITS)) < 0.05, axis=1)
    return centers[rng.integers(0, len(centers), n)] ^ flips


def main() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    about, limits = machine(), Limits().measure()
    print(
        f"{about['processor']}, {about['simd_level']}, one thread, faiss {faiss.__version__}, {about['date']}"
    )
    print(f"{N_QUERY} queries, {N_DB} database, {N_BITS} bits; G pairs/s (search and selection)")
    if limits:
        print(f"limit of one thread: filter {limits['filter'] / 1e9:.1f}, count {limits['count'] / 1e9:.1f}")
    print(
        f"{'codes':10}{'k':>6}{'ours':>8}{'faiss heap':>12}{'faiss count':>13}{'times better faiss':>20}"
        f"{'share of filter':>17}"
    )
    rng = np.random.default_rng(0)
    centers = random_codes(rng, 100)
    rows = []
    for entropy, make in (("random", lambda n: random_codes(rng, n)),
                          ("clustered", lambda n: clustered_codes(rng, n, centers))):  # fmt: skip
        database, queries = make(N_DB), make(N_QUERY)
        heap, count = faiss.IndexBinaryFlat(N_BITS), faiss.IndexBinaryFlat(N_BITS)
        count.use_heap = False
        heap.add(database)
        count.add(database)
        for k in (10, 100, 1000):
            ours = dshc_fast.hamming_topk(queries, database, k)
            for index in (heap, count):
                if not np.array_equal(index.search(queries, k)[0], ours.distances):
                    raise SystemExit(f"distances differ from faiss at k = {k}, {entropy} codes")
            times = interleave({
                "ours": lambda k=k, q=queries, d=database: dshc_fast.hamming_topk(q, d, k),
                "faiss heap": lambda k=k, q=queries, i=heap: i.search(q, k),
                "faiss count": lambda k=k, q=queries, i=count: i.search(q, k),
            })  # fmt: skip
            pace = {name: N_QUERY * N_DB / seconds for name, seconds in times.items()}
            ratio = pace["ours"] / max(pace["faiss heap"], pace["faiss count"])
            share = pace["ours"] / limits["filter"] if limits else None
            print(
                f"{entropy:10}{k:6}{pace['ours'] / 1e9:8.2f}{pace['faiss heap'] / 1e9:12.2f}"
                f"{pace['faiss count'] / 1e9:13.2f}{ratio:20.1f}{share or float('nan'):17.3f}"
            )
            rows.append(
                {
                    "codes": entropy,
                    "k": k,
                    "n_query": N_QUERY,
                    "n_db": N_DB,
                    "bits": N_BITS,
                    "threads": 1,
                    "pairs_per_second": pace,
                    "times_better_faiss": ratio,
                    "share_of_filter": share,
                }
            )
    print("wrote", write("bench_hamming_topk", rows, limits=limits, faiss=faiss.__version__))


if __name__ == "__main__":
    main()
