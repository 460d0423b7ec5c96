"""Exact top-k at every instruction set of this machine, each forced in turn in one run, against faiss at the like level
and against the limit of the level.

    python benchmarks/bench_simd_levels.py [--quick | --full] [--dry]

Result: docs/results/bench_simd_levels.json. DSHC_SIMD=avx2 in the environment forces a level on any other program.
"""

from __future__ import annotations

import rows
from bench_hamming_topk import Job, run
from limits import BITS, Limits
from peers import set_faiss_level

import dshc_fast

# Of the bits, against the better mode of faiss, from 100 queries on and for k <= 100.
WANTED = {
    "avx512": {32: 12.0, 64: 8.0, 128: 5.0},
    "avx2": {32: 8.0, 64: 8.0, 128: 6.0, 256: 3.0},
}
MILLION = 1_000_000


def jobs(level: str, quick: bool) -> list[Job]:
    settings = [("random", 64, 100, 10), ("random", 64, 100, 100)]  # codes, bits, queries, k
    if not quick:
        settings += [
            ("random", bits, 100, k) for bits in (32, 48, 96, 128, 192, 256, 512, 1024) for k in (10, 100)
        ]
        settings += [("random", bits, 32, 100) for bits in BITS]
        settings += [("random", 64, 1000, 10), ("random", 64, 100, 1000), ("clustered", 64, 100, 100)]
    made = []
    for codes, bits, n_query, k in sorted(
        settings, key=lambda setting: (setting[0] != "random", *setting[1:])
    ):
        ratio = WANTED.get(level, {}).get(bits) if codes == "random" and n_query >= 100 and k <= 100 else None
        targets = {"faiss": ratio} if ratio else {}
        limit = "filter" if bits in BITS else "none"
        made.append(
            Job("levels", codes, bits, MILLION, n_query, k, level=level, limit=limit, targets=targets)
        )
    return made


def main() -> None:
    effort = rows.parse(__doc__, seconds=2.0)
    table = rows.Table("bench_simd_levels", "exact top-k, level by level", Limits(), effort)
    for level in dshc_fast.build_info()["simd_levels"]:
        for job in jobs(level, effort.quick):
            run(job, table)
    rows.set_level("best")
    set_faiss_level("best")
    table.save()


if __name__ == "__main__":
    main()
