"""mAP of 10,000 queries against a database of 50,000 (learned codes: 60,000), one thread: ours against the usual numpy
evaluation, and against the compare filter.

    python benchmarks/bench_average_precision.py [--quick | --full] [--only CODES] [--dry] [--slice N]

The numpy evaluation, which is linear in the queries, runs on N of them (default 100) and its time is scaled, stated as
`measured_part`; ours always runs whole. Before anything is timed ties=index must equal numpy's stable sort, and
ties=expected the reference twin. Result: docs/results/bench_average_precision.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy

import argparse
import sys
import time

import numpy as np
import rows
import torch
from code_sets import CodeSet, code_set
from limits import Limits
from peers import set_threads
from usual_map import usual_mean_average_precision

import dshc_fast

N_QUERY = 10_000
TARGETS = {("random", "expected"): (40, 1 / 6), ("random", "index"): (15, 1 / 15),
           ("repeated", "expected"): (2000, None), ("repeated", "index"): (200, None)}  # fmt: skip
TWIN_QUERIES = 4


def mean_ap(data: CodeSet, n: int, k: int | None, ties: str, prepared: object = None) -> float:
    database = (data.database,) if prepared is None else (prepared,)
    labels = (data.query_labels[:n], *((data.database_labels,) if prepared is None else ()))
    return dshc_fast.mean_average_precision(
        data.queries[:n], *database, *labels, k=k, ties=ties, n_bits=data.n_bits
    )


def check(data: CodeSet, signs: list[np.ndarray], k: int | None, prepared: object) -> None:
    part = len(signs[0])
    stable = usual_mean_average_precision(*signs, data.query_labels[:part], data.database_labels, k, "stable")
    twin = dshc_fast.reference.average_precision(
        *(torch.from_numpy(np.ascontiguousarray(codes)) for codes in (data.queries[:TWIN_QUERIES], data.database)),
        *(torch.from_numpy(labels.astype(np.int64))
          for labels in (data.query_labels[:TWIN_QUERIES], data.database_labels)),
        n_bits=data.n_bits, k=k, ties="expected", denominator="retrieved", score="hamming")  # fmt: skip
    expected = float(torch.nan_to_num(twin).mean())
    for base in (None, prepared) if prepared is not None else (None,):
        for got, wanted, ties in (
            (mean_ap(data, part, k, "index", base), stable, "index"),
            (mean_ap(data, TWIN_QUERIES, k, "expected", base), expected, "expected"),
        ):
            if not abs(got - wanted) <= 1e-12 * wanted:
                raise SystemExit(f"mAP@{k or 'all'}, ties={ties}: {got}, wanted {wanted}; nothing was timed")


def run(table: rows.Table, codes: str, bits: int, k: int | None, part: int) -> None:
    n_db = 60_000 if codes == "learned" else 50_000
    data = code_set(codes, bits, N_QUERY, n_db)
    signs = [dshc_fast.unpack_codes(np.ascontiguousarray(array), bits, signed=True).astype(np.float32)
             for array in (data.queries[:part], data.database)]  # fmt: skip
    prepared = note = None
    if hasattr(dshc_fast, "HammingDatabase"):
        begin = time.perf_counter()
        prepared = dshc_fast.HammingDatabase(data.database, data.database_labels)
        note = f"HammingDatabase of {n_db:,} {codes} codes of {bits} bits: made in {time.perf_counter() - begin:.3g} s"
    check(data, signs, k, prepared)
    for ties in ("expected", "index"):
        usual_ratio, share = TARGETS["random" if codes == "random" else "repeated", ties]
        candidates = {rows.OURS: lambda ties=ties: mean_ap(data, N_QUERY, k, ties),
                      "usual numpy": lambda: usual_mean_average_precision(
                          *signs, data.query_labels[:part], data.database_labels, k)}  # fmt: skip
        if prepared is not None:
            candidates["ours, HammingDatabase"] = lambda ties=ties: mean_ap(data, N_QUERY, k, ties, prepared)
        targets = {"usual numpy": float(usual_ratio)} | ({"share": share} if share else {})
        table.measure("mAP", {"codes": codes, "bits": bits, "n_db": n_db, "n_query": N_QUERY, "k": k or "all",
                              "ties": ties, "threads": 1, "level": "best"}, candidates,
                      amount=float(N_QUERY * n_db), scales={"usual numpy": part / N_QUERY}, targets=targets, note=note,
                      limit=table.limit_loops("filter", bits, "best", 1))  # fmt: skip


def main() -> None:
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--slice", type=int, default=100)
    options, sys.argv[1:] = own.parse_known_args()
    effort = rows.parse(__doc__)
    table = rows.Table("bench_average_precision", f"mAP, {N_QUERY} queries; usual numpy on {options.slice} of them",
                       Limits(), effort)  # fmt: skip
    set_threads(1)
    for codes, bits in (("random", 64), ("random", 32), ("learned", 30), ("dshc-310", 30)):
        for k in (None,) if effort.quick else (None, 1000, 5000):
            if effort.only in codes:
                run(table, codes, bits, k, min(options.slice, N_QUERY))
    table.save()


if __name__ == "__main__":
    main()
