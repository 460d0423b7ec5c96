"""Top-k by HammingDatabase, exact, beside indexes that may miss neighbours: recall, pace, time to build, memory.

    python benchmarks/bench_approximate_indexes.py [--quick | --full] [--only TEXT] [--dry]

Peers (approximate_peers.py): faiss IndexBinaryHNSW, IndexBinaryIVF, IndexBinaryHash and IndexBinaryMultiHash, pynear's
multi-index hashing and its VP tree, which is exact. Each has several settings, from the fastest to the one that finds
the most. `pip install pynear` beside faiss; without it its rows are left out.

* recall: the share of the 10 distances returned that are no larger than the tenth of the exact search: an item at the
  same distance as the tenth nearest counts as found, whichever it is.
* queries/s of one thread: 100 calls of one query each, and one call of 100 queries (fewer where a peer is slow).
  HammingDatabase, plain and with tables (where codes lie around centers with clusters), takes turns with each peer.
* build: seconds, of one thread but where the table says two; memory: what the process grew by.

Results are kept as they come: `--only TEXT` measures the groups whose name (`clustered 64 1,000,000 faiss IVF`)
contains the text and leaves the others as they are. Writes docs/results/approximate_indexes.md and .json.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from approximate_peers import PEERS, Search
from code_sets import CodeSet, code_set
from peers import faiss_index, set_threads, versions
from timing import RESULTS, interleave, made_on, write, write_page

import dshc_fast

NAME = "approximate_indexes"
SETS = (
    ("clustered", 64, 1_000_000),
    ("clustered-1000", 64, 1_000_000),
    ("random", 64, 1_000_000),
    ("clustered", 256, 1_000_000),
    ("random", 256, 1_000_000),
    ("clustered-1000", 64, 10_000_000),
    ("random", 64, 10_000_000),
)
QUICK, DEFAULT, FULL = 1, 5, 7
K = 10
ASKED, TRIED = 100, 1000  # queries that are timed, and of which the recall is
SLOW, TOO_SLOW = 200, 20  # queries/s; a slower setting is tried on 100 queries; is the last
SCAN, TABLES = "HammingDatabase", "HammingDatabase(tables=True)"
CLUSTERS = "HammingDatabase(clusters=True)"  # where codes lie around centers
OWN = (CLUSTERS, TABLES, SCAN)  # best first


def resident() -> int:
    """Bytes of this process in memory, what was freed given back first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def built(build: Callable[[np.ndarray], object], database: np.ndarray) -> tuple[object, float, int]:
    before, begin = resident(), time.perf_counter()
    index = build(database)
    seconds = time.perf_counter() - begin
    return index, seconds, resident() - before


def one_by_one(search: Search, queries: np.ndarray) -> Callable[[], None]:
    def run() -> None:
        for i in range(len(queries)):
            search(queries[i : i + 1], K)

    return run


def recall(found: np.ndarray, wanted: np.ndarray) -> float:
    return float((found <= wanted[: len(found), -1:]).mean())


def of_ours(database: dshc_fast.HammingDatabase) -> Search:
    return lambda queries, k: dshc_fast.hamming_topk(queries, database, k).distances


class Group:
    """Ours and one peer on one set of codes."""

    def __init__(self, data: CodeSet, wanted: np.ndarray, ours: dict[str, Search], seconds: float) -> None:
        self.data, self.wanted, self.ours, self.seconds = data, wanted, ours, seconds

    def measure(self, settings: dict[str, Search]) -> dict[str, dict[str, float]]:
        """By setting: recall, queries tried, queries/s in calls of one and of many."""
        queries, rows, candidates, asked = np.ascontiguousarray(self.data.queries), {}, {}, {}
        last = False  # a setting of the peer after which the others are slower for nothing, or too slow
        for name, search in {**self.ours, **settings}.items():
            if last:
                break
            begin = time.perf_counter()
            found = search(queries[:ASKED], K)
            pace = ASKED / (time.perf_counter() - begin)
            if pace > SLOW:
                found = search(queries, K)
            rows[name] = {"recall": recall(found, self.wanted), "tried": len(found)}
            last = name not in self.ours and (rows[name]["recall"] == 1 or pace < TOO_SLOW)
            n = asked[name] = min(ASKED, max(3, int(pace / 2)))
            few = queries[:n]
            candidates[name, "one"] = one_by_one(search, few)
            candidates[name, "many"] = lambda search=search, few=few: search(few, K)
        took = interleave(candidates, rounds=5, seconds=self.seconds, least=0.01)
        for (name, calls), seconds in took.items():
            rows[name][calls] = asked[name] / seconds
        return rows


def measure_set(
    codes: str, bits: int, n_db: int, wanted_groups: list[str], seconds: float
) -> Iterator[tuple[str, dict]]:
    data = code_set(codes, bits, TRIED, n_db)
    database = np.ascontiguousarray(data.database)
    exact = faiss_index(database).search(np.ascontiguousarray(data.queries), K)[0]
    plain, *of_plain = built(dshc_fast.HammingDatabase, database)
    ours, made_with = (CLUSTERS, "clusters") if codes.startswith("clustered") else (TABLES, "tables")
    best, *of_best = built(lambda rows: dshc_fast.HammingDatabase(rows, **{made_with: True}), database)
    group = Group(data, exact, {ours: of_ours(best), SCAN: of_ours(plain)}, seconds)
    for name in wanted_groups:
        peer = PEERS[name]
        set_threads(peer.threads)
        index, *of_peer = built(peer.build, database)
        set_threads(1)
        rows = group.measure(peer.settings(index))
        if any(rows[own]["recall"] < 1 for own in group.ours):
            raise SystemExit("ours: the distances are not those of faiss IndexBinaryFlat")
        costs = {ours: of_best, SCAN: of_plain}
        for setting, row in rows.items():
            row["build_seconds"], row["bytes"] = costs.get(setting, of_peer)
        made = {"codes": codes, "bits": bits, "n_db": n_db, "made_on": made_on(), "settings": rows}
        for setting, row in rows.items():
            print(f"{codes} {bits} {n_db:,} {name}, {setting}: recall {row['recall']:.4f}, {row['one']:,.0f}/s, "
                  f"{row['many']:,.0f}/s, build {row['build_seconds']:.3g} s, {row['bytes'] / n_db:.0f} B/item",
                  flush=True)  # fmt: skip
        del index
        yield name, made


def ours_of(group: dict) -> dict[str, float]:
    """The best of ours that took turns with the peer."""
    return next(group["settings"][own] for own in OWN if own in group["settings"])


def set_lines(groups: dict[str, dict]) -> list[str]:
    """The table of one set of codes: ours first, then each peer's settings."""
    head = ["index", "setting", f"recall@{K}", "queries/s, one a call", "queries/s, 100 a call", "ours ×, one",
            "ours ×, 100", "build, s", "bytes per item"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " --: |" * (len(head) - 2)]

    def add(index: str, setting: str, row: dict, ratios: list[str], threads: str = "") -> None:
        n_db = next(iter(groups.values()))["n_db"]
        cells = [index, setting, f"{row['recall']:.4f}", f"{row['one']:,.0f}", f"{row['many']:,.0f}", *ratios,
                 f"{row['build_seconds']:.3g}{threads}", f"{row['bytes'] / n_db:.0f}"]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")

    for own in OWN:
        all_rows = [group["settings"][own] for group in groups.values() if own in group["settings"]]
        if not all_rows:
            continue
        add(
            own,
            "exact",
            {key: statistics.median(row[key] for row in all_rows) for key in all_rows[0]},
            ["", ""],
        )
    for name, group in groups.items():
        ours = ours_of(group)
        threads = f" ({PEERS[name].threads} threads)" if PEERS[name].threads > 1 else ""
        for setting, row in group["settings"].items():
            if setting not in OWN:
                add(
                    name,
                    setting,
                    row,
                    [f"{ours[calls] / row[calls]:.3g}" for calls in ("one", "many")],
                    threads,
                )
    return lines


def verdict(sets: dict[tuple, dict[str, dict]]) -> list[str]:
    """Against each peer the least factor at settings that find as much as ours, and at those that find .99 and .9."""
    lines = ["| codes | bits | items | recall of the peer at least | fastest peer, one a call | ours × "
             "| fastest, 100 a call | ours × |", "| --- |" + " --: |" * 3 + " --- | --: | --- | --: |"]  # fmt: skip
    for (codes, bits, n_db), groups in sets.items():
        for least in (1.0, 0.99, 0.9):
            cells = []
            for calls in ("one", "many"):
                factors = [(ours_of(group)[calls] / row[calls], f"{name}, {setting}".rstrip(", "))
                           for name, group in groups.items() for setting, row in group["settings"].items()
                           if setting not in OWN and row["recall"] >= least]  # fmt: skip
                factor, who = min(factors, default=(None, "none"))
                cells += [who, f"{factor:.3g}" if factor else ""]
            lines.append("| " + " | ".join([codes, str(bits), f"{n_db:,}", f"{least:g}", *cells]) + " |")
    return lines


def page_lines(groups: dict[str, dict]) -> list[str]:
    sets: dict[tuple, dict[str, dict]] = {}
    for codes, bits, n_db in SETS:
        for name in PEERS:
            if group := groups.get(group_name(codes, bits, n_db, name)):
                sets.setdefault((codes, bits, n_db), {})[name] = group
    lines = ["## At equal or better recall", "", *verdict(sets), ""]
    for (codes, bits, n_db), found in sets.items():
        lines += [f"## {n_db:,} {codes} codes of {bits} bits", "", *set_lines(found), ""]
        missing = [name for name in PEERS if name not in found]
        if missing:
            lines += [f"Not measured: {', '.join(missing)}.", ""]
    return lines


def group_name(codes: str, bits: int, n_db: int, peer: str) -> str:
    return f"{codes} {bits} {n_db:,} {peer}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the first set of codes")
    parser.add_argument("--full", action="store_true", help="also 10,000,000 codes")
    parser.add_argument(
        "--only", default="", help="groups whose name contains this; others stay as they were"
    )
    parser.add_argument("--dry", action="store_true", help="print only; write no result file")
    options = parser.parse_args()
    path = RESULTS / f"{NAME}.json"
    groups = {row["group"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}
    set_threads(1)
    has_pynear = importlib.util.find_spec("pynear") is not None
    for codes, bits, n_db in SETS[: QUICK if options.quick else FULL if options.full else DEFAULT]:
        wanted = [name for name, peer in PEERS.items() if n_db <= peer.most
                  and (has_pynear or not name.startswith("pynear"))
                  and options.only in group_name(codes, bits, n_db, name)]  # fmt: skip
        if not wanted:
            continue
        for name, row in measure_set(codes, bits, n_db, wanted, seconds=20):
            key = group_name(codes, bits, n_db, name)
            groups[key] = {"group": key, **row}
            if not options.dry:
                write(NAME, list(groups.values()), versions=versions())
        code_set.cache_clear()
    if options.dry:
        return
    made = dict.fromkeys(row["made_on"] for row in groups.values())
    write_page(
        NAME,
        "Beside approximate indexes",
        f"`python benchmarks/bench_approximate_indexes.py --full`, {'; '.join(made)}",
        "Exact top-k of `HammingDatabase` beside indexes that may miss neighbours; k = 10, one thread, medians. "
        "recall: the share of the distances returned that are no larger than the tenth of the exact search. ours ×: "
        "the pace of the best `HammingDatabase` that was measured in turn with the peer, over the peer's. A peer's "
        f"settings end with the first that finds all, or is slower than {TOO_SLOW} queries/s.",
        page_lines(groups),
    )


if __name__ == "__main__":
    main()
