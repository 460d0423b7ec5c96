"""What many codes cost on many machines: constants measured here, and what follows from them for 1e9 to 1e11 codes.

    python benchmarks/scale.py [--codes 67108864] [--without-ray] [--only scan,merge]

Measures the pace of one core over an array far larger than its caches, the bytes of an answer on the network, the time
to merge the answer of one more shard, a question to shards that Ray holds on this machine, and what merging by others,
hedging and serving there cost and gain (scale_by_ray.py). From these it computes
memory, machines, bytes and seconds for numbers of codes that no machine here holds, and simulates a tree of merges and
shards that are late. What is computed and what is assumed is said to be. Writes docs/results/scale.md. Run it with
nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scale_by_ray
import torch
from timing import RESULTS, made_on, median_seconds, write, write_page

import dshc_fast
from dshc.cluster import ShardedIndex, merge_topk
from dshc.storage import CodeFile

WIDTH, BITS = 8, 64
# A machine that is assumed, not measured: what clouds rent as a memory machine.
NODE = {"cores": 32, "gigabytes": 256, "share": 0.75, "gigabytes_per_second": 200.0, "network_gigabits": 25.0}
FAN_OUT = 32
TRIALS = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codes", type=int, default=1 << 26)
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--only", help="measure these parts, keep others: scan, answer, merge, ray, by_ray")
    given = parser.parse_args()
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], Any]] = {
        "scan": lambda: scan(given.codes),
        "answer": answers,
        "merge": merges,
        "ray": lambda: [] if given.without_ray else round_trips(),
        "by_ray": lambda: {} if given.without_ray else scale_by_ray.measured(),
    }
    rows: dict[str, Any] = {}
    if given.only:
        rows = json.loads((RESULTS / "scale.json").read_text())["rows"][0]
    rows["node"] = NODE
    for name in given.only.split(",") if given.only else parts:
        rows[name] = parts[name]()
    rows["sizes"] = sizes(rows)
    rows["late"] = late()
    write("scale", [rows])
    write_page(
        "scale", "Many codes, many machines", f"`python benchmarks/scale.py`; {made_on()}", "", page(rows)
    )


def scan(n: int) -> list[dict[str, Any]]:
    """Seconds and pace of one core over ``n`` codes of 64 bits."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (n, WIDTH), dtype=np.uint8)
    labels = np.zeros(n, np.int64)
    rows = []
    for n_query in (1, 8, 64):
        queries = rng.integers(0, 256, (n_query, WIDTH), dtype=np.uint8)
        asked = np.zeros(n_query, np.int64)
        for what, run in {
            "hamming_topk, k = 10": lambda q=queries: dshc_fast.hamming_topk(q, codes, 10),
            "hamming_topk, k = 100": lambda q=queries: dshc_fast.hamming_topk(q, codes, 100),
            "hamming_histogram": lambda q=queries, a=asked: dshc_fast.hamming_histogram(q, codes, a, labels),
        }.items():
            seconds = median_seconds(run, 3)
            row = {"what": what, "n_query": n_query, "n": n, "seconds": seconds}
            row["codes_per_second"] = n / seconds  # all queries of the batch pass over them at once
            row["comparisons_per_second"] = n * n_query / seconds
            rows.append(row)
            print(row, flush=True)
    return rows


def answers() -> list[dict[str, Any]]:
    """Bytes of what one shard answers to one query, as Ray sends it (a pickle with its buffers)."""
    rows = []
    for k in (10, 100, 1000):
        one = [_sent((np.zeros((n, k), np.int32), np.zeros((n, k), np.int64))) for n in (1, 1001)]
        rows.append({"what": f"k = {k}", "bytes": (one[1] - one[0]) / 1000, "envelope": one[0] - 12 * k})
    one = [_sent((np.zeros((n, BITS + 1), np.int64), np.zeros((n, BITS + 1), np.int64))) for n in (1, 1001)]
    rows.append(
        {"what": "histograms", "bytes": (one[1] - one[0]) / 1000, "envelope": one[0] - 16 * (BITS + 1)}
    )
    return rows


def _sent(answer: object) -> int:
    buffers: list[Any] = []
    body = pickle.dumps(answer, protocol=5, buffer_callback=buffers.append)
    return len(body) + sum(len(buffer.raw()) for buffer in buffers)


def merges() -> list[dict[str, Any]]:
    """Seconds that one more shard adds to a merge."""
    rng, rows = np.random.default_rng(0), []
    for n_query in (1, 64):
        for k in (10, 100):
            found = []
            for shard in range(1024):
                distance = np.sort(rng.integers(0, 20, (n_query, k)), axis=1).astype(np.int32)
                found.append((distance, np.arange(k)[None].repeat(n_query, 0) + shard * k))
            few, many = (median_seconds(lambda one=found[:n], k=k: merge_topk(one, k), 7) for n in (64, 1024))
            rows.append({"n_query": n_query, "k": k, "seconds": (many - few) / 960, "all_1024": many})
            print(rows[-1], flush=True)
    return rows


def round_trips() -> list[dict[str, Any]]:
    """Seconds of a question to shards of 1,000 codes, so that it is Ray and the merge that take them."""
    from ray.cluster_utils import Cluster

    rng, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for shard in range(64):
            codes = rng.integers(0, 256, (1000, WIDTH), dtype=np.uint8)
            paths.append(CodeFile(codes, BITS).save(Path(folder) / f"{shard}.safetensors"))
        query = codes[:1]

        def asked(address: str | None, n_nodes: int, n_shards: int) -> None:
            with ShardedIndex(address, paths[:n_shards]) as index:
                seconds = median_seconds(lambda: index.search(query, 10), 200)
            rows.append({"nodes": n_nodes, "shards": n_shards, "seconds": seconds})
            print(rows[-1], flush=True)

        asked(None, 0, 1)
        asked(None, 0, 64)
        node = {"num_cpus": 1, "object_store_memory": 100 << 20}
        cluster = Cluster(
            initialize_head=True, head_node_args={**node, "num_cpus": 0, "include_dashboard": False}
        )
        try:
            for n_nodes, n_shards in ((1, 1), (1, 8), (1, 64), (2, 64), (4, 64)):
                while len(cluster.worker_nodes) < n_nodes:
                    cluster.add_node(wait=True, **node)
                asked(cluster.address, n_nodes, n_shards)
        finally:
            cluster.shutdown()
    return rows


def sizes(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Computed: memory, machines, bytes and seconds, by the pace of one core times the cores, as far as memory goes."""
    found = []
    by_ray = {(row["nodes"], row["shards"]): row["seconds"] for row in rows["ray"]}
    first = per_shard = per_node = float("nan")
    if by_ray:
        first, per_shard = by_ray[1, 1], (by_ray[1, 64] - by_ray[1, 1]) / 63
        per_node = (by_ray[4, 64] - by_ray[1, 64]) / 3
    for n in (10**9, 10**10, 10**11):
        gigabytes = n * WIDTH / 1e9
        machines = int(-(-gigabytes // (NODE["gigabytes"] * NODE["share"])))
        for n_query in (1, 64):
            pace = next(
                row["codes_per_second"]
                for row in rows["scan"]
                if row["n_query"] == n_query and row["what"] == "hamming_topk, k = 10"
            )
            by_cores = pace * NODE["cores"]
            by_memory = NODE["gigabytes_per_second"] * 1e9 / WIDTH
            merge = next(r["seconds"] for r in rows["merge"] if r["n_query"] == n_query and r["k"] == 10)
            bytes_of_k10 = next(row["bytes"] for row in rows["answer"] if row["what"] == "k = 10")
            envelope = next(row["envelope"] for row in rows["answer"] if row["what"] == "k = 10")
            sent = machines * (bytes_of_k10 + envelope / n_query)  # each has merged what its shards answer
            for count in sorted({machines, 4 * machines, 16 * machines}):
                share = count / machines
                found.append(
                    {
                        "n": n,
                        "gigabytes": gigabytes,
                        "machines": count,
                        "shards": count * NODE["cores"],
                        "n_query": n_query,
                        "scan_seconds": n / count / min(by_cores, by_memory),
                        "bound": "memory" if by_memory < by_cores else "cores",
                        "bytes_per_query": sent * share,
                        "merge_seconds": merge * (NODE["cores"] + count),
                        "ray_seconds": first + per_node * (count - 1) + per_shard * (NODE["cores"] - 1),
                        "network_seconds": n_query * sent * share * 8 / (NODE["network_gigabits"] * 1e9),
                    }
                )
    return found


def late() -> list[dict[str, Any]]:
    """Simulated: a shard's time is lognormal, its median 1, and one in a hundred takes ten times as long.

    Asked all at once; all but hedged: a copy of the shard is asked too once 1.5 medians have passed; and in a tree,
    where each inner node of FAN_OUT children adds a time of its own, drawn alike at a tenth.
    """
    rng = np.random.default_rng(0)

    def times(*shape: int) -> np.ndarray:
        slow = np.where(rng.random(shape) < 0.01, 10.0, 1.0)
        return np.exp(0.2 * rng.standard_normal(shape)) * slow

    found = []
    for n in (1, 8, 32, 128, 1024, 4096):
        trials = max(200, min(TRIALS, (1 << 23) // n))
        first = times(trials, n)
        hedged = np.where(first > 1.5, np.minimum(first, 1.5 + times(trials, n)), first)
        tree, width = first, n
        while width > 1:
            groups = -(-width // FAN_OUT)
            padded = np.pad(tree, ((0, 0), (0, groups * FAN_OUT - width)))
            tree = padded.reshape(trials, groups, FAN_OUT).max(axis=2) + 0.1 * times(trials, groups)
            width = groups
        found.append(
            {
                "n_shards": n,
                "trials": trials,
                "more_requests": float((first > 1.5).mean()),
                **{
                    f"{name}_p{q}": float(np.percentile(values.max(axis=1), q))
                    for name, values in (("plain", first), ("hedged", hedged), ("tree", tree))
                    for q in (50, 99)
                },
            }
        )
    return found


def page(rows: dict[str, Any]) -> list[str]:
    lines = [
        "64-bit codes. Each table says whether it is measured, computed or simulated.",
        "",
        "## Measured: one core",
        "",
    ]
    lines += [
        "| what | queries at once | codes | seconds | codes per second | GB/s read | comparisons per second |"
    ]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows["scan"]:
        pace = row["codes_per_second"]
        lines.append(
            f"| `{row['what']}` | {row['n_query']} | {row['n']:,} | {row['seconds']:.4f} | {pace:.3g} | "
            f"{pace * WIDTH / 1e9:.1f} | {row['comparisons_per_second']:.3g} |"
        )
    lines += [
        "",
        "## Measured: bytes of an answer",
        "",
        "| answer | bytes per query and shard | per message |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {row['what']} | {row['bytes']:.0f} | {row['envelope']} |" for row in rows["answer"]]
    lines += [
        "",
        "## Measured: merging",
        "",
        "| queries | k | one more shard | 1,024 shards |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['n_query']} | {row['k']} | {row['seconds'] * 1e6:.1f} us | {row['all_1024'] * 1e3:.1f} ms |"
        for row in rows["merge"]
    ]
    if rows["ray"]:
        lines += ["", "## Measured: a question over Ray", ""]
        lines += [
            "Shards of 1,000 codes; all nodes are on this machine: it is Ray and the merge, without a network."
        ]
        lines += ["", "| nodes | shards | median of 200 |", "| --- | --- | --- |"]
        lines += [
            f"| {row['nodes'] or 'this process, no Ray'} | {row['shards']} | {row['seconds'] * 1e3:.2f} ms |"
            for row in rows["ray"]
        ]
    if rows.get("by_ray"):
        lines += scale_by_ray.page(rows["by_ray"])
    node = rows["node"]
    lines += ["", "## Computed: 1e9, 1e10, 1e11 codes", ""]
    lines += [
        f"Assumed, not measured: machines of {node['cores']} cores like the one measured, {node['gigabytes']} GB of "
        f"which codes may fill {node['share']:.0%}, {node['gigabytes_per_second']:.0f} GB/s of memory, a network of "
        f"{node['network_gigabits']:.0f} Gbit/s into the one that merges; one shard per core, k = 10, all codes in "
        "memory. "
        "Merge: each machine the answers of its shards, then one process those of the machines. The fewest machines "
        "that hold the codes, then 4 and 16 times as many. Times are of the whole batch. Ray: the "
        "question to one shard of one node above, what each more node and each more shard of a node added there; nodes "
        "shared two cores there, so that it is rather too much.",
        "",
        "| codes | memory | machines | shards | queries at once | scan | bound by | network bytes per query | network "
        "| merge | Ray |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['n']:.0e} | {row['gigabytes']:.0f} GB | {row['machines']} | {row['shards']} | {row['n_query']} | "
        f"{row['scan_seconds'] * 1e3:.1f} ms | {row['bound']} | {row['bytes_per_query']:,.0f} | "
        f"{row['network_seconds'] * 1e3:.2f} ms | {row['merge_seconds'] * 1e3:.1f} ms | "
        f"{row['ray_seconds'] * 1e3:.1f} ms |"
        for row in rows["sizes"]
    ]
    lines += ["", "## Simulated: shards that are late", ""]
    lines += [
        "In medians of one shard's time, which is lognormal (sigma 0.2) and ten times as long once in a hundred. "
        "Hedged: a copy of the shard is asked too after 1.5 medians, and the first answer counts. Tree: merges of "
        f"{FAN_OUT}, each of which adds a tenth of such a time.",
        "",
        "| shards | trials | p50 | p99 | hedged p50 | hedged p99 | requests more | tree p50 | tree p99 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['n_shards']} | {row['trials']:,} | {row['plain_p50']:.2f} | {row['plain_p99']:.2f} | "
        f"{row['hedged_p50']:.2f} | {row['hedged_p99']:.2f} | "
        f"{row['more_requests']:.1%} | {row['tree_p50']:.2f} | {row['tree_p99']:.2f} |"
        for row in rows["late"]
    ]
    return lines


if __name__ == "__main__":
    main()
