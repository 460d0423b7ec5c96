"""Radius search: ours against faiss's range_search, and against the compare filter.

    python benchmarks/bench_hamming_radius.py [--quick | --full] [--only SECTION] [--dry]

faiss's radius is exclusive and its answers lie in database order; ours are sorted by distance, which its are once, for
the comparison of indices and distances before anything is timed. Result: docs/results/bench_hamming_radius.json.
"""

from __future__ import annotations

import numpy as np
import rows
from code_sets import code_set
from limits import Limits
from peers import faiss_index, set_threads

import dshc_fast

# codes, bits, radius, queries, database, threads, level. Random codes: few answers, or none.
QUICK = (
    ("random", 64, 10, 100, 1_000_000, 1, "best"),
    ("random", 64, 18, 100, 1_000_000, 1, "best"),
    ("clustered", 64, 10, 100, 1_000_000, 1, "best"),
    ("learned", 30, 2, 1000, 60_000, 1, "best"),
    ("dshc-310", 30, 2, 1000, 50_000, 1, "best"),
)
DEFAULT = (
    *QUICK,
    ("random", 64, 10, 100, 1_000_000, 2, "best"),
    ("clustered", 64, 10, 100, 1_000_000, 2, "best"),
    ("random", 64, 10, 32, 10_000_000, 1, "best"),
    ("random", 32, 3, 100, 1_000_000, 1, "best"),
    ("random", 128, 30, 100, 1_000_000, 1, "best"),
    ("random", 256, 80, 100, 1_000_000, 1, "best"),
    ("clustered", 256, 40, 100, 1_000_000, 1, "best"),
    ("random", 64, 10, 32, 1_000_000, 1, "avx2"),
    ("random", 64, 10, 8, 1_000_000, 1, "generic"),
    ("random", 64, 10, 1, 1_000_000, 1, "best"),
    ("random", 64, 10, 1, 1_000_000, 2, "best"),
)
FULL = (
    *DEFAULT,
    *((codes, bits, bits // 6, 100, 1_000_000, 2, "best") for codes in ("random", "clustered")
      for bits in (32, 128, 256)),
)  # fmt: skip


def compare(
    ours: dshc_fast.HammingRadius, limits: np.ndarray, distances: np.ndarray, indices: np.ndarray
) -> None:
    rows.same(ours.offsets, limits.astype(np.int64), "faiss range_search, number of answers")
    query = np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
    order = np.lexsort((indices, distances, query))
    rows.same(ours.distances, distances[order].astype(np.int32), "faiss range_search, distances")
    rows.same(ours.indices, indices[order], "faiss range_search, indices")


def main() -> None:
    effort = rows.parse(__doc__)
    table = rows.Table("bench_hamming_radius", "radius search", Limits(), effort)
    todo = QUICK if effort.quick else FULL if effort.full else DEFAULT
    for codes, bits, radius, n_query, n_db, threads, level in todo:
        if effort.only not in codes or (level != "best" and level not in table.limits.levels):
            continue
        data = code_set(codes, bits, n_query, n_db)
        set_threads(threads)
        rows.set_level(level)
        index = faiss_index(data.database)
        queries = np.ascontiguousarray(data.queries)

        def ours(data=data, radius=radius, database=None):
            return dshc_fast.hamming_radius(
                data.queries, data.database if database is None else database, radius
            )

        def faiss(index=index, queries=queries, radius=radius):
            return index.range_search(queries, radius + 1)

        answer = ours()
        compare(answer, *faiss())
        candidates = {rows.OURS: ours, "faiss range_search": faiss}
        if hasattr(dshc_fast, "HammingDatabase"):
            prepared = dshc_fast.HammingDatabase(data.database)
            candidates["ours, HammingDatabase"] = lambda prepared=prepared, run=ours: run(database=prepared)
            rows.same(answer.indices, candidates["ours, HammingDatabase"]().indices, "HammingDatabase")
        # "At the filter's pace", where the answers are too few to matter: the share asked of top-k.
        few = len(answer.indices) < n_db * n_query * 1e-4
        table.measure("radius", {"codes": codes, "bits": bits, "n_db": n_db, "n_query": n_query, "radius": radius,
                                 "answers": len(answer.indices), "threads": threads, "level": level}, candidates,
                      amount=float(n_query * n_db), limit=table.limit_loops("filter", bits, level, threads),
                      targets={"share": 0.65} if few and codes == "random" else {})  # fmt: skip
    rows.set_level("best")
    table.save()


if __name__ == "__main__":
    main()
