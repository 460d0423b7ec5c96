"""Substring tables (multi-index hashing) against a scan, and against faiss's hash indexes.

    python benchmarks/bench_substring_tables.py [--quick | --full] [--only SECTION] [--dry]

`ours` is HammingDatabase(tables=True), which chooses for itself whether to look up or to scan; `scan` is the same
without tables. faiss: IndexBinaryMultiHash with as many hashes of as many bits as our tables and the flips that find
all within the radius, and IndexBinaryHash of log2(n) bits with as many flips as the radius; top-k of IndexBinaryFlat in
both of its ways. All answers are compared before anything is timed. Prints queries per second; writes
docs/results/substring_tables.md and .json.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import rows
from code_sets import CodeSet, code_set
from peers import faiss, faiss_index, set_threads, versions
from timing import interleave, made_on, write, write_page

import dshc_fast

# codes, bits, database, queries of a call
SETS = (
    ("clustered", 64, 1_000_000, (1, 10, 100, 1000)),
    ("clustered-1000", 64, 1_000_000, (1, 10, 100, 1000)),
    ("random", 64, 1_000_000, (1, 10, 100, 1000)),
    ("random", 256, 1_000_000, (1, 100)),
    ("clustered", 256, 1_000_000, (1, 100)),
    ("random", 64, 10_000_000, (1, 100)),
    ("random", 64, 100_000_000, (1, 100)),
)
QUICK, DEFAULT, FULL = 3, 6, 7
RADII = {64: (2, 4, 8), 256: (4, 20)}
K = 10
MOST_HASHED = 1_000_000  # codes that faiss's hash maps are made of
MOST_ASKED = 100  # queries of a call of faiss


def ways_of_faiss(data: CodeSet, n_tables: int) -> dict[str, Callable[[np.ndarray, int], tuple]]:
    if len(data.database) > MOST_HASHED:
        return {}
    database = np.ascontiguousarray(data.database)
    n_bits = 8 * database.shape[1]
    multi = faiss.IndexBinaryMultiHash(n_bits, n_tables, n_bits // n_tables)
    single = faiss.IndexBinaryHash(n_bits, round(math.log2(len(database))))
    multi.add(database)
    single.add(database)

    def by_multi(queries: np.ndarray, radius: int) -> tuple:
        multi.nflip = radius // n_tables
        return multi.range_search(queries, radius + 1)

    def by_single(queries: np.ndarray, radius: int) -> tuple:
        single.nflip = radius
        return single.range_search(queries, radius + 1)

    return {"faiss MultiHash": by_multi, "faiss Hash": by_single}


def compare(
    ours: dshc_fast.HammingRadius, limits: np.ndarray, distances: np.ndarray, indices: np.ndarray
) -> None:
    """faiss's radius excludes; its answers come in no order."""
    rows.same(ours.offsets, limits.astype(np.int64), "faiss, number of answers")
    query = np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
    order = np.lexsort((indices, distances, query))
    rows.same(ours.distances, distances[order].astype(np.int32), "faiss, distances")
    rows.same(ours.indices, indices[order], "faiss, indices")


class Results:
    def __init__(self, seconds: float, rounds: int) -> None:
        self.seconds, self.rounds = seconds, rounds
        self.rows: list[dict[str, object]] = []

    def measure(
        self, setting: dict[str, object], candidates: dict[str, Callable[[], object]], n_query: int
    ) -> None:
        took = interleave(candidates, rounds=self.rounds, seconds=self.seconds, least=0.01)
        pace = {name: n_query / seconds for name, seconds in took.items()}
        self.rows.append({**setting, "queries_per_second": pace})
        print(", ".join(f"{key} {value}" for key, value in setting.items()) + ": "
              + ", ".join(f"{name} {value:,.0f}/s" for name, value in pace.items()), flush=True)  # fmt: skip


def measure_set(results: Results, codes: str, bits: int, n_db: int, calls: tuple[int, ...], only: str) -> str:
    data = code_set(codes, bits, max(calls), n_db)
    plain = dshc_fast.HammingDatabase(data.database)
    begin = time.perf_counter()
    ours = dshc_fast.HammingDatabase(data.database, tables=True)
    made = time.perf_counter() - begin
    begin = time.perf_counter()
    dshc_fast.HammingDatabase(data.database, tables=ours.tables)
    adopted = time.perf_counter() - begin
    n_tables = len(ours.tables["items"])
    note = (f"{n_db:,} {codes} codes of {bits} bits: {n_tables} tables, {ours.nbytes / n_db:.0f} bytes per item, "
            f"{plain.nbytes / n_db:.0f} without them; made in {made:.3g} s, "
            f"taken over from arrays, each entry looked at, in {adopted:.3g} s.")  # fmt: skip
    print(note)
    flat = faiss_index(data.database) if n_db <= MOST_HASHED and only in "top-k" else None
    hashed = ways_of_faiss(data, n_tables) if only in "radius" else {}
    for n_query in calls:
        queries = np.ascontiguousarray(data.queries[:n_query])
        about = {"codes": codes, "bits": bits, "n_db": n_db, "n_query": n_query}
        if only in "top-k" and n_db <= MOST_HASHED:
            answer = dshc_fast.hamming_topk(queries, plain, K)
            rows.same(answer.indices, dshc_fast.hamming_topk(queries, ours, K).indices, "tables")
            candidates = {"ours": lambda queries=queries: dshc_fast.hamming_topk(queries, ours, K),
                          "scan": lambda queries=queries: dshc_fast.hamming_topk(queries, plain, K)}  # fmt: skip
            for use_heap in (True, False) if n_query <= MOST_ASKED else ():

                def search(queries: np.ndarray = queries, use_heap: bool = use_heap) -> object:
                    flat.use_heap = use_heap
                    return flat.search(queries, K)

                rows.same(answer.distances, search()[0], "faiss, distances")
                candidates["faiss heap" if use_heap else "faiss counting"] = search
            results.measure({"search": f"k = {K}", **about}, candidates, n_query)
        for radius in RADII[bits] if only in "radius" else ():
            answer = dshc_fast.hamming_radius(queries, plain, radius)
            rows.same(answer.indices, dshc_fast.hamming_radius(queries, ours, radius).indices, "tables")
            candidates = {
                "ours": lambda queries=queries, r=radius: dshc_fast.hamming_radius(queries, ours, r),
                "scan": lambda queries=queries, r=radius: dshc_fast.hamming_radius(queries, plain, r),
            }
            for name, way in hashed.items() if n_query <= MOST_ASKED else ():
                if name == "faiss Hash" and radius > 4:
                    continue  # tens of thousands of hash maps' entries for each query
                compare(answer, *way(queries, radius))
                candidates[name] = lambda queries=queries, r=radius, way=way: way(queries, r)
            answers = f"{len(answer.indices) / n_query:.3g}"
            results.measure({"search": f"radius {radius}", **about, "answers": answers}, candidates, n_query)
    return note


def page_lines(results: Results, notes: list[str]) -> list[str]:
    names = ("ours", "scan", "faiss MultiHash", "faiss Hash", "faiss heap", "faiss counting")
    head = ["codes", "bits", "items", "queries", "search", "answers", *names, "× scan"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" + " --: |" * (len(head) - 1)]
    for row in results.rows:
        pace = row["queries_per_second"]
        cells = [
            row["codes"],
            row["bits"],
            f"{row['n_db']:,}",
            row["n_query"],
            row["search"],
            row.get("answers", ""),
        ]
        cells += [f"{pace[name]:,.0f}" if name in pace else "" for name in names]
        lines.append("| " + " | ".join(map(str, [*cells, f"{pace['ours'] / pace['scan']:.3g}"])) + " |")
    return [
        "Queries per second, one thread, medians; n queries in one call.",
        "",
        *lines,
        "",
        *(f"* {note}" for note in notes),
    ]


def main() -> None:
    effort = rows.parse(__doc__, seconds=2.0)
    effort.seconds = min(
        effort.seconds, 2.0
    )  # the answers of a row are looked at for longer than it is timed
    set_threads(1)
    results, notes = Results(effort.seconds, effort.rounds), []
    print(made_on())
    for codes, bits, n_db, calls in SETS[: QUICK if effort.quick else FULL if effort.full else DEFAULT]:
        notes.append(measure_set(results, codes, bits, n_db, calls, effort.only))
        code_set.cache_clear()
    if effort.dry or effort.only:
        return
    write("substring_tables", results.rows, versions=versions(), notes=notes)
    write_page(
        "substring_tables",
        "Substring tables",
        f"`python benchmarks/bench_substring_tables.py{' --full' if effort.full else ''}`, {made_on()}",
        "Multi-index hashing (Norouzi, Punjani, Fleet, CVPR 2012) in `HammingDatabase(tables=True)`, which chooses for "
        "itself between look-ups and a scan, against the scan and faiss. faiss's hashes flip as many bits as find all "
        "answers.",
        page_lines(results, notes),
    )


if __name__ == "__main__":
    main()
