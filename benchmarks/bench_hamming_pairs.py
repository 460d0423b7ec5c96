"""All pairs within a radius: ours against faiss's range_search of all codes among all, and against a published figure.

    python benchmarks/bench_hamming_pairs.py [--quick | --full] [--only SECTION] [--dry]

Codes are random, a twentieth of them copies of others with up to two bits changed. faiss finds each pair from both
sides, and each code itself; it searches for a part of the codes only, as its time is that of all pairs. Before anything
is timed the rows of that part are compared, in indices and distances.

The figure is of other hardware: hammingbird (Rust) states on https://pypi.org/project/hammingbird/ that it finds all
pairs at a distance of at most 2 among 2,000,000 random codes of 256 bits in 0.312 s on an Apple M2 Pro. Result:
docs/results/bench_hamming_pairs.json, which tables.py shows in docs/results/cpu.md.
"""

from __future__ import annotations

import numpy as np
import rows
from code_sets import code_set
from limits import Limits
from peers import faiss_index, set_threads

import dshc_fast

PUBLISHED = (
    "2,000,000 x 256 bits, radius 2: hammingbird publishes 0.312 s on an Apple M2 Pro "
    "(pypi.org/project/hammingbird)"
)
FAISS_QUERIES = 200

# items, bits, radius, threads, level
QUICK = (
    (2_000_000, 256, 2, 1, "best"),
    (2_000_000, 256, 2, 2, "best"),
    (1_000_000, 64, 3, 1, "best"),
)
DEFAULT = (
    *QUICK,
    (1_000_000, 64, 3, 2, "best"),
    (1_000_000, 64, 5, 1, "best"),
    (300_000, 256, 16, 1, "best"),
    (100_000, 64, 12, 1, "best"),
    (100_000, 64, 12, 2, "best"),
    (1_000_000, 64, 3, 1, "avx2"),
    (1_000_000, 64, 3, 1, "generic"),
)
FULL = (*DEFAULT, (10_000_000, 128, 2, 1, "best"), (10_000_000, 128, 2, 2, "best"))


def with_copies(codes: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    n = len(codes) // 20
    codes = codes.copy()
    at = rng.choice(len(codes), n, replace=False)
    codes[at] = codes[rng.integers(0, len(codes), n)]
    for _ in range(2):
        bit = rng.integers(0, 8 * codes.shape[1], n)
        codes[at, bit // 8] ^= (1 << bit % 8).astype(np.uint8)
    return codes


def compare(
    ours: dshc_fast.HammingRadius,
    queries: np.ndarray,
    limits: np.ndarray,
    distances: np.ndarray,
    indices: np.ndarray,
) -> None:
    """The rows of the items `queries`, of what faiss found for them."""
    item = np.repeat(queries, np.diff(limits.astype(np.int64)))
    later = indices > item
    order = np.lexsort((indices[later], distances[later], item[later]))
    own = np.concatenate([np.arange(ours.offsets[i], ours.offsets[i + 1]) for i in queries])
    rows.same(ours.indices[own], indices[later][order], "faiss range_search, indices")
    rows.same(ours.distances[own], distances[later][order].astype(np.int32), "faiss range_search, distances")


def main() -> None:
    effort = rows.parse(__doc__)
    table = rows.Table("bench_hamming_pairs", "all pairs within a radius", Limits(), effort)
    for n, bits, radius, threads, level in QUICK if effort.quick else FULL if effort.full else DEFAULT:
        if effort.only not in str(bits) or (level != "best" and level not in table.limits.levels):
            continue
        codes = with_copies(code_set("random", bits, 1, n).database)
        set_threads(threads)
        rows.set_level(level)
        index = faiss_index(codes)
        queries = np.sort(np.random.default_rng(2).choice(n, FAISS_QUERIES, replace=False))
        few = np.ascontiguousarray(codes[queries])

        def ours(codes=codes, radius=radius):
            return dshc_fast.hamming_pairs(codes, radius)

        def faiss(index=index, few=few, radius=radius):
            return index.range_search(few, radius + 1)

        answer = ours()
        compare(answer, queries, *faiss())
        published = (n, bits, radius) == (2_000_000, 256, 2)
        row = table.measure("pairs", {"bits": bits, "n": n, "radius": radius, "pairs": len(answer.indices),
                                      "threads": threads, "level": level},
                            {rows.OURS: ours, "faiss range_search": faiss}, amount=n * (n - 1) / 2,
                            scales={"faiss range_search": FAISS_QUERIES / n},
                            note=PUBLISHED if published else None)  # fmt: skip
        print(f"    {row['seconds'][rows.OURS] * 1e3:.1f} ms"
              + (f"; {PUBLISHED}" if published else ""))  # fmt: skip
    rows.set_level("best")
    table.save()


if __name__ == "__main__":
    main()
