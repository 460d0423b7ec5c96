"""Histograms of distances, all items and relevant ones: ours against numpy (bitwise_count and bincount), and against
the compare filter.

    python benchmarks/bench_hamming_histogram.py [--quick | --full] [--only CODES] [--dry]

numpy runs on a few of the queries, stated as `measured_part`. The counts are compared before anything is timed. Result:
docs/results/bench_hamming_histogram.json.
"""

from __future__ import annotations

import numpy as np
import rows
from code_sets import CodeSet, code_set
from limits import Limits
from peers import set_threads, words_of

import dshc_fast

N_QUERY, N_DB, PART = 1000, 50_000, 20
WALL = 1 / 7  # what eight tables and a scattered increment a pair reach of the filter


def by_numpy(data: CodeSet, n: int) -> tuple[np.ndarray, np.ndarray]:
    words = words_of(data.database)
    items, relevant = (np.empty((n, data.n_bits + 1), np.int64) for _ in range(2))
    for i, query in enumerate(words_of(data.queries)[:n]):
        distances = np.bitwise_count(words ^ query).sum(1, dtype=np.int64)
        items[i] = np.bincount(distances, minlength=data.n_bits + 1)
        inside = distances[data.database_labels == data.query_labels[i]]
        relevant[i] = np.bincount(inside, minlength=data.n_bits + 1)
    return items, relevant


def main() -> None:
    effort = rows.parse(__doc__)
    table = rows.Table("bench_hamming_histogram", "histograms of distances", Limits(), effort)
    todo = [("random", 64, 1, "best"), ("clustered", 64, 1, "best"), ("learned", 30, 1, "best")]
    if not effort.quick:
        todo += [("random", 64, 2, "best"), *(("random", bits, 1, "best") for bits in (32, 128, 256)),
                 ("dshc-310", 30, 1, "best"), ("random", 64, 1, "avx2"), ("random", 64, 1, "generic")]  # fmt: skip
    if effort.full:
        todo += [("clustered", bits, threads, "best") for bits in (32, 128, 256) for threads in (1, 2)]
    for codes, bits, threads, level in todo:
        if effort.only not in codes or (level != "best" and level not in table.limits.levels):
            continue
        data = code_set(codes, bits, N_QUERY, N_DB)
        set_threads(threads)
        rows.set_level(level)

        def ours(data=data, database=None):
            if database is not None:
                return dshc_fast.hamming_histogram(
                    data.queries, database, data.query_labels, n_bits=data.n_bits
                )
            return dshc_fast.hamming_histogram(data.queries, data.database, data.query_labels, data.database_labels,
                                               n_bits=data.n_bits)  # fmt: skip

        counted, wanted = ours(), by_numpy(data, PART)
        rows.same(counted.items[:PART], wanted[0], "numpy, items")
        rows.same(counted.relevant[:PART], wanted[1], "numpy, relevant items")
        candidates = {rows.OURS: ours, "numpy": lambda data=data: by_numpy(data, PART)}
        if hasattr(dshc_fast, "HammingDatabase"):
            prepared = dshc_fast.HammingDatabase(data.database, data.database_labels)
            candidates["ours, HammingDatabase"] = lambda prepared=prepared, run=ours: run(database=prepared)
            rows.same(counted.relevant, candidates["ours, HammingDatabase"]().relevant, "HammingDatabase")
        table.measure("histogram", {"codes": codes, "bits": bits, "n_db": N_DB, "n_query": N_QUERY,
                                    "threads": threads, "level": level}, candidates, amount=float(N_QUERY * N_DB),
                      scales={"numpy": PART / N_QUERY}, targets={"share": WALL},
                      limit=table.limit_loops("filter", bits, level, threads))  # fmt: skip
    rows.set_level("best")
    table.save()


if __name__ == "__main__":
    main()
