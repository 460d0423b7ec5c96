"""One thread against two, for every ranking op and for few queries over many codes.

    python benchmarks/two_threads.py [--only TEXT] [--rounds N] [--dry]

Both take turns in one process, each after 0.1 s of the same untimed, because threads of the turn before may still spin.
Writes docs/results/two-threads.json and two-threads.md. Targets: 1.7 times the pace of one thread from 100 queries on;
for fewer queries over 10,000,000 codes, more than one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from code_sets import code_set
from obvious import time_text
from timing import interleave, machine, write, write_page

import dshc_fast

TARGET, MANY = 1.7, 10_000_000


class Row(NamedTuple):
    op: str
    size: str
    run: Callable[[], Any]
    target: float


def rows() -> Iterator[Row]:
    for n_bits, n_db in ((64, MANY), (256, MANY // 4)):
        for n_query in (1, 4, 16, 24, 40, 100):
            codes = code_set("random", n_bits, n_query, n_db)
            target = TARGET if n_query >= 100 else 1.0
            yield Row("hamming_topk", f"{n_query} x {n_db:,}, {n_bits} bits, k 10",
                      lambda c=codes: dshc_fast.hamming_topk(c.queries, c.database, 10), target)  # fmt: skip
    for n_query, k in ((1000, 10), (100, 100), (100, 5000), (1, 5000)):
        codes = code_set("random", 64, n_query, 1_000_000)
        yield Row("hamming_topk", f"{n_query:,} x 1,000,000, 64 bits, k {k:,}",
                  lambda c=codes, k=k: dshc_fast.hamming_topk(c.queries, c.database, k),
                  TARGET if n_query >= 100 else 1.0)  # fmt: skip
    codes = code_set("random", 64, 100, 1_000_000)
    yield Row("hamming_radius", "100 x 1,000,000, 64 bits, radius 16",
              lambda c=codes: dshc_fast.hamming_radius(c.queries, c.database, 16), TARGET)  # fmt: skip
    outputs = np.random.default_rng(0).standard_normal((100, 64), dtype=np.float32)
    for n_query in (1, 100):
        yield Row("asymmetric_topk", f"{n_query} x 1,000,000, 64 bits, k 10",
                  lambda x=outputs[:n_query], c=codes: dshc_fast.asymmetric_topk(x, c.database, 10),
                  TARGET if n_query >= 100 else 1.0)  # fmt: skip
    for n_bits in (64, 256):
        codes = code_set("clustered", n_bits, 1000, 50_000)
        inputs = codes.queries, codes.database, codes.query_labels, codes.database_labels
        size = f"1,000 x 50,000, {n_bits} bits"
        yield Row("hamming_histogram", size, lambda x=inputs: dshc_fast.hamming_histogram(*x), TARGET)
        for ties in ("expected", "index"):
            yield Row("mean_average_precision", f"{size}, ties {ties}",
                      lambda x=inputs, t=ties: dshc_fast.mean_average_precision(*x, ties=t), TARGET)  # fmt: skip
        yield Row("hamming_distance", f"100 x 50,000, {n_bits} bits",
                  lambda x=inputs: dshc_fast.hamming_distance(x[0][:100], x[1]), TARGET)  # fmt: skip


def with_threads(threads: int, run: Callable[[], Any]) -> Callable[[], Any]:
    def call() -> Any:
        torch.set_num_threads(threads)
        return run()

    return call


def measured(row: Row, rounds: int) -> dict[str, object]:
    runs = {str(threads): with_threads(threads, row.run) for threads in (1, 2)}
    seconds = interleave(runs, rounds=rounds, seconds=4, warm=0.1, least=0.003)
    return {"op": row.op, "size": row.size, "seconds": seconds, "gain": seconds["1"] / seconds["2"],
            "target": row.target}  # fmt: skip


def page_lines(results: list[dict]) -> list[str]:
    lines = ["| op | size | one thread | two | gain |", "| --- | --- | --: | --: | --: |"]
    for result in results:
        gain = f"{result['gain']:.2f}"
        gain = f"**{gain}**" if result["gain"] < result["target"] else gain
        cells = (
            result["op"],
            result["size"],
            *(time_text(result["seconds"][threads]) for threads in ("1", "2")),
            gain,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="rows whose op or size contains this; writes nothing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print only")
    effort = parser.parse_args()
    results = []
    for row in rows():
        if effort.only in f"{row.op} {row.size}":
            results.append(measured(row, effort.rounds))
            print(page_lines(results[-1:])[2], flush=True)
    if effort.dry or effort.only:
        return
    about = machine()
    line = (f"`python benchmarks/two_threads.py`; {about['processor']}, {about['cores']} cores, {about['simd_level']}, "
            f"{about['date']}, commit {about['commit']}")  # fmt: skip
    short = sum(line.endswith("** |") for line in page_lines(results))
    note = (f"In bold what stays below its target: {TARGET} from 100 queries on, 1 below; {short} of {len(results)} "
            "rows.")  # fmt: skip
    print("wrote", write("two-threads", results))
    write_page("two-threads", "Two threads against one", line, note, page_lines(results))


if __name__ == "__main__":
    main()
