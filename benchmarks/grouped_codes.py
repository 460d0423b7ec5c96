"""Top-k among the few distinct codes that a trained DSHC model emits, and the least that comparing centers first takes.

    python benchmarks/grouped_codes.py [--dry]

Each of C classes has a center and the 30 codes one bit from it, so that 10, 100 and 1,000 classes have 310, 3,100 and
31,000 distinct codes; the centers are random here. `HammingDatabase` groups equal codes, and a query is compared with
each distinct code once. Beside it, in turn:

* centers alone: the same items coded by the centers of their classes. A search that compares the centers first, and of
  the other codes only those that a bound from the centers leaves, could not take less.
* all differ: a scan of as many codes that do not repeat.

Answers of the first are compared with those of plain arrays. Writes docs/results/grouped_codes.md and .json.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import rows
from peers import set_threads
from timing import interleave, made_on, write, write_page

import dshc_fast

N_BITS = 30
KS = (10, 100, 1000)


def codebook(n_classes: int) -> np.ndarray:
    """uint32 (n_classes, N_BITS + 1): a center, then its single flips."""
    centers = np.random.default_rng(0).integers(0, 2**N_BITS, n_classes, dtype=np.uint32)
    flips = np.concatenate([[0], 1 << np.arange(N_BITS, dtype=np.uint32)]).astype(np.uint32)
    return centers[:, None] ^ flips


def as_codes(words: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(words).view(np.uint8).reshape(-1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry", action="store_true", help="print only; write no result file")
    options = parser.parse_args()
    set_threads(1)
    found = []
    for n in (1_000_000, 10_000_000):
        rng = np.random.default_rng(1)
        differ = dshc_fast.HammingDatabase(as_codes(rng.permutation(2**25)[:n].astype(np.uint32) << 5))
        for n_classes in (10, 100, 1000):
            book = codebook(n_classes)
            labels, subclasses = rng.integers(0, n_classes, n), rng.integers(0, N_BITS + 1, n)
            codes = as_codes(book[labels, subclasses])
            grouped = dshc_fast.HammingDatabase(codes)
            centers = dshc_fast.HammingDatabase(as_codes(book[labels, 0]))
            asked = as_codes(book[rng.integers(0, n_classes, 100), rng.integers(0, N_BITS + 1, 100)])
            wanted = dshc_fast.hamming_topk(asked[:8], codes, max(KS))
            got = dshc_fast.hamming_topk(asked[:8], grouped, max(KS))
            rows.same(wanted.indices, got.indices, "grouped codes")
            for n_query in (1, 100):
                for k in KS:
                    databases = {"grouped": grouped, "centers": centers, "differ": differ}
                    candidates = {name: partial(dshc_fast.hamming_topk, asked[:n_query], database, k)
                                  for name, database in databases.items()}  # fmt: skip
                    took = interleave(candidates, rounds=7, seconds=4, least=0.01)
                    row = {"n_db": n, "n_distinct": grouped.n_distinct, "n_query": n_query, "k": k, "microseconds":
                           {name: 1e6 * seconds / n_query for name, seconds in took.items()}}  # fmt: skip
                    found.append(row)
                    print(row, flush=True)
    if options.dry:
        return
    write("grouped_codes", found)
    lines = ["| distinct codes | items | queries a call | k | a query, µs | centers alone, µs | of a query | "
             "all differ, µs |", "|" + " --: |" * 8]  # fmt: skip
    for row in found:
        took = row["microseconds"]
        lines.append(f"| {row['n_distinct']:,} | {row['n_db']:,} | {row['n_query']} | {row['k']:,} | "
                     f"{took['grouped']:.3g} | {took['centers']:.3g} | {took['centers'] / took['grouped']:.2f} | "
                     f"{took['differ']:.3g} |")  # fmt: skip
    write_page(
        "grouped_codes",
        "Grouped codes",
        f"`python benchmarks/grouped_codes.py`, {made_on()}",
        "Top-k of a `HammingDatabase` whose codes repeat: C centers and the 30 codes one bit from each. One thread, "
        "medians. Centers alone: the same items coded by their centers, the least that a search could take which "
        "compares centers first. All differ: a scan of as many codes that do not repeat.",
        lines,
    )


if __name__ == "__main__":
    main()
