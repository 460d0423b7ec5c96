"""mAP@all of 10,000 queries against 50,000 codes of 64 bits, one thread: ours against the usual numpy
evaluation.

    python benchmarks/bench_average_precision.py [--codes random|learned] [--slice N]

With --slice the numpy evaluation, which is linear in the queries, runs on some of them only and its time is
scaled; ours always runs whole. The results are compared before anything is timed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse

import numpy as np
import torch
from limits import Limits
from timing import RESULTS, interleave, machine, write
from usual_map import usual_mean_average_precision

import dshc_fast

N_QUERY, N_DB, N_BITS, N_CLASSES = 10_000, 50_000, 64, 10


def random_codes() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (N_QUERY, N_BITS // 8), dtype=np.uint8),
            rng.integers(0, 256, (N_DB, N_BITS // 8), dtype=np.uint8),
            rng.integers(0, N_CLASSES, N_QUERY), rng.integers(0, N_CLASSES, N_DB), N_BITS)  # fmt: skip


def learned_codes() -> tuple[np.ndarray, ...]:
    from safetensors import safe_open

    with safe_open(RESULTS / "fashion-mnist-30.safetensors", "numpy") as file:
        names = ("query_codes", "database_codes", "query_labels", "database_labels")
        return *(file.get_tensor(name) for name in names), int(file.metadata()["n_bits"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codes", choices=("random", "learned"), default="random")
    parser.add_argument("--slice", type=int, default=10_000, help="queries that the numpy evaluation runs on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    queries, database, query_labels, database_labels, n_bits = (
        random_codes() if options.codes == "random" else learned_codes()
    )
    n_query, n_db = len(queries), len(database)
    part = min(options.slice, n_query)

    signs = [
        dshc_fast.unpack_codes(codes, n_bits, signed=True).astype(np.float32)
        for codes in (queries[:part], database)
    ]

    def usual() -> float:
        return usual_mean_average_precision(*signs, query_labels[:part], database_labels)

    def ours(ties: str, n: int) -> float:
        return dshc_fast.mean_average_precision(
            queries[:n], database, query_labels[:n], database_labels, ties=ties
        )

    # numpy's order inside ties is its own, so equality is not to be had; the bounds of all orders hold it.
    bounds = ours("worst", part), ours("best", part)
    if not bounds[0] <= usual() <= bounds[1]:
        raise SystemExit(
            f"the numpy evaluation gives {usual()}, outside the bounds {bounds} of all tie orders"
        )

    limits = Limits().measure()
    times = interleave({"usual": usual, "expected": lambda: ours("expected", n_query),
                        "index": lambda: ours("index", n_query)}, rounds=5)  # fmt: skip
    usual_seconds = times["usual"] * n_query / part
    about = machine()
    print(f"{about['processor']}, {about['simd_level']}, one thread, {about['date']}")
    print(f"mAP@all, {n_query} queries, {n_db} database, {n_bits} bits, {options.codes} codes")
    if limits:
        print(f"limit of one thread: filter {limits['filter'] / 1e9:.1f} G pairs/s")
    print(f"{'':22}{'seconds':>9}{'G pairs/s':>11}{'share of filter':>17}{'times usual':>13}")
    rows = []
    for name, seconds in (("usual numpy", usual_seconds), ("ours, ties=expected", times["expected"]),
                          ("ours, ties=index", times["index"])):  # fmt: skip
        pace = n_query * n_db / seconds
        share = pace / limits["filter"] if limits else None
        print(
            f"{name:22}{seconds:9.3f}{pace / 1e9:11.2f}{share or float('nan'):17.3f}{usual_seconds / seconds:13.1f}"
        )
        rows.append({"candidate": name, "codes": options.codes, "n_query": n_query, "n_db": n_db, "bits":
        n_bits,
                     "threads": 1, "seconds": seconds, "pairs_per_second": pace, "share_of_filter": share,
                     "times_usual": usual_seconds / seconds})  # fmt: skip
    print("wrote", write(f"bench_average_precision-{options.codes}", rows, limits=limits, usual_slice=part))


if __name__ == "__main__":
    main()
