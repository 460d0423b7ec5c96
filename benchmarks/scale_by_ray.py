"""What Ray's part costs and gains, measured on this machine: merging by the holders, by a tree of actors, hedged
requests, and a service by Ray Serve. benchmarks/scale.py asks for it and writes the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from load_service import CLIENTS, K, load, over_http, started
from timing import median_seconds

from dshc import HashIndex
from dshc.cluster import ShardedIndex, merge_topk
from dshc.cluster.merging import Merge
from dshc.storage import CodeFile

WIDTH, BITS = 8, 64
NODE = {"num_cpus": 1, "object_store_memory": 200 << 20}
ASKED = ((1, 10), (64, 10), (64, 100), (64, 1000))
"""Queries and k of a question."""
STOPPED = 0.1  # seconds that a holder stands still,
EVERY = 1.0  # so often on average
HEDGE = 0.95
SERVED = 1_000_000


def measured(seconds: float = 4.0) -> dict[str, list[dict[str, Any]]]:
    """All of it."""
    with tempfile.TemporaryDirectory() as folder, nodes() as (cluster, address):
        found = {"hedged": hedged(Path(folder), address, seconds)}
        found["served"] = served(Path(folder), address, seconds - 2)
        while len(cluster.worker_nodes) < 4:
            cluster.add_node(wait=True, **NODE)
        found["grouped"] = grouped(Path(folder), address)
        found["tree"] = trees(address)
    return found


@contextlib.contextmanager
def nodes() -> Iterator[tuple[Any, str]]:
    """A head node and two for work, all on this machine."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False}
    )
    try:
        for _ in range(2):
            cluster.add_node(wait=True, **NODE)
        yield cluster, cluster.address
    finally:
        cluster.shutdown()


def random_codes(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, WIDTH), dtype=np.uint8)


def shards(folder: Path, n_shards: int, n: int) -> list[Path]:
    return [
        CodeFile(random_codes(n, shard), BITS).save(folder / f"{n_shards}x{n}" / f"{shard:02}.safetensors")
        for shard in range(n_shards)
    ]


def milliseconds(run: Callable[[], object], rounds: int = 50) -> float:
    return 1000 * median_seconds(run, rounds)


def grouped(folder: Path, address: str) -> list[dict[str, Any]]:
    """A question to 64 shards on 4 nodes: each shard's answer sent and merged here, and one answer of each node."""
    rows, queries = [], random_codes(64, 99)
    with ShardedIndex(address, shards(folder, 64, 1000)) as index:
        holders = index._holders
        for n_query, k in ASKED:
            merge = Merge("topk", dict(enumerate(index.starts[:-1].tolist())), k)
            questions = dict.fromkeys(range(64), (queries[:n_query], k, "hamming", None))

            def apart(questions: Any = questions, merge: Merge = merge) -> Any:
                found = holders.ask("topk", questions)
                return merge.joined([merge.lifted(place, answer) for place, answer in found.items()])

            def together(questions: Any = questions, merge: Merge = merge) -> Any:
                return merge.joined(list(holders.ask("topk", questions, merge).values()))

            for one, two in zip(apart(), together(), strict=True):
                np.testing.assert_array_equal(one, two)
            row = {"n_query": n_query, "k": k, "apart_ms": milliseconds(apart)}
            row |= {"together_ms": milliseconds(together), "merge_ms": _merge_ms(4, n_query, k)}
            rows.append(row)
            print(row, flush=True)
    return rows


def _merge_ms(n: int, n_query: int, k: int) -> float:
    rng = np.random.default_rng(0)
    answers = [
        (
            np.sort(rng.integers(0, 20, (n_query, k)), axis=1).astype(np.int32),
            np.arange(k)[None].repeat(n_query, 0) + place * k,
        )
        for place in range(n)
    ]
    return milliseconds(lambda: merge_topk(answers, k), 7)


def trees(address: str) -> list[dict[str, Any]]:
    """What one more level of actors costs: answers that come straight, and through an actor that merges them; nine
    that are merged here, and by three actors. Beside that the time to merge here what 9, 81 and 1,024 nodes answer."""
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")

    @ray.remote(num_cpus=0)
    class Node:
        def __init__(self) -> None:
            self.kept: dict[tuple[int, int], Any] = {}

        def answer(self, n_query: int, k: int) -> Any:
            if (n_query, k) not in self.kept:
                self.kept[n_query, k] = np.zeros((n_query, k), np.int32), np.zeros((n_query, k), np.int64)
            return self.kept[n_query, k]

        def merge(self, k: int, *answers: Any) -> Any:
            return answers[0] if len(answers) == 1 else merge_topk(answers, k)

    leaves, inner = [Node.remote() for _ in range(9)], [Node.remote() for _ in range(3)]
    rows = []
    for n_query, k in ASKED:

        def straight(n: int, n_query: int = n_query, k: int = k) -> Any:
            return merge_topk(ray.get([leaf.answer.remote(n_query, k) for leaf in leaves[:n]]), k)

        def through(n: int, n_query: int = n_query, k: int = k) -> Any:
            answers = [leaf.answer.remote(n_query, k) for leaf in leaves[:n]]
            groups = [answers[start : start + 3] for start in range(0, n, 3)]
            merged = [one.merge.remote(k, *group) for one, group in zip(inner, groups, strict=False)]
            return merge_topk(ray.get(merged), k)

        row: dict[str, Any] = {"n_query": n_query, "k": k}
        for n in (1, 9):
            row[f"straight_{n}"] = milliseconds(lambda n=n: straight(n))
            row[f"through_{n}"] = milliseconds(lambda n=n: through(n))
        for n in (9, 81, 1024):
            row[f"merge_{n}"] = _merge_ms(n, n_query, k) if n * n_query * k <= 1 << 23 else None
        rows.append(row)
        print(row, flush=True)
    ray.shutdown()
    return rows


def hedged(folder: Path, address: str, seconds: float) -> list[dict[str, Any]]:
    """Questions one after the other, while now and then a holder stands still (SIGSTOP), and while none does."""
    rows, query, paths = [], random_codes(1, 99), shards(folder, 8, 100_000)
    for is_stopped in (False, True):
        for name, more in (
            ("one holder", {}),
            ("two holders", {"copies": 2}),
            ("two holders, hedged", {"copies": 2, "hedge": HEDGE}),
        ):
            with ShardedIndex(address, paths, **more) as index:
                want = index.search(query, 10)
                holders, waits = index._holders, []
                for _ in range(50):
                    index.search(query, 10)
                before = holders.n_hedged
                with stopping(holders) if is_stopped else contextlib.nullcontext():
                    end = time.perf_counter() + seconds
                    while (start := time.perf_counter()) < end:
                        found = index.search(query, 10)
                        waits.append(time.perf_counter() - start)
                        np.testing.assert_array_equal(found.indices, want.indices)
                more_asked = (holders.n_hedged - before) / (2 * len(waits))
            row = {"name": name, "stopped": is_stopped, "n": len(waits), "more_asked": more_asked}
            row |= {f"p{q:g}": float(np.percentile(waits, q)) * 1000 for q in (50, 95, 99, 99.9)}
            rows.append(row)
            print(row, flush=True)
    return rows


@contextlib.contextmanager
def stopping(holders: Any) -> Iterator[None]:
    """One of the holders stands still for STOPPED seconds, at random times that are EVERY seconds apart on average."""
    numbers = [
        holders._ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
        for actor in holders._actors.values()
    ]
    ended, rng = threading.Event(), random.Random(0)

    def stop() -> None:
        while not ended.wait(rng.expovariate(1 / (EVERY - STOPPED))):
            number = rng.choice(numbers)
            os.kill(number, signal.SIGSTOP)
            time.sleep(STOPPED)
            os.kill(number, signal.SIGCONT)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def served(folder: Path, address: str, seconds: float) -> list[dict[str, Any]]:
    """`dshc serve` of one index in one process, and of four shards on two nodes by Ray Serve, which waits so long for
    searches to come together."""
    paths = shards(folder, 4, SERVED // 4)
    codes = np.concatenate([CodeFile.load(path).codes for path in paths])
    with HashIndex.create(folder / "index", bits=BITS) as index:
        index.add(codes)
        queries = random_codes(1000, 99)
        right = index.search(queries, K).distances.tolist()
    one = [sys.executable, "-m", "dshc", "serve", str(folder / "index"), "--port", "0", "--threads", "1"]
    many = [sys.executable, "-m", "dshc", "serve", str(paths[0].parent), "--port", "0", "--cluster", address]
    services = {"one process": one}
    services |= {f"by Ray Serve, --batch-ms {ms}": [*many, "--batch-ms", str(ms)] for ms in (0, 2, 5, 10)}
    rows = []
    for name, command in services.items():
        with started(command) as place:
            for n_clients in CLIENTS:
                waits, wrong = asyncio.run(load(over_http(place, queries), right, n_clients, seconds))
                assert not wrong, f"{name}: {wrong} answers are others than the index has"
                row = {"service": name, "clients": n_clients, "per_second": len(waits) / seconds}
                row |= {f"p{q}_ms": float(np.percentile(waits, q)) * 1000 for q in (50, 99)}
                rows.append(row)
                print(row, flush=True)
    return rows


def page(rows: dict[str, Any]) -> list[str]:
    """The tables."""
    lines = ["", "## Measured: merging by the holders", ""]
    lines += [
        "A question to 64 shards of 1,000 codes on 4 nodes. A node sends the answer of each of its shards, or one in "
        "which it has merged them. All nodes are on this machine.",
        "",
        "| queries | k | each shard's answer sent | one of each node | of that the merge of the four |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['n_query']} | {row['k']} | {row['apart_ms']:.1f} ms | {row['together_ms']:.1f} ms | "
        f"{row['merge_ms']:.2f} ms |"
        for row in rows["grouped"]
    ]
    lines += ["", "## Measured: a tree of actors that merge", ""]
    lines += [
        "Actors answer at once with arrays of the size of an answer, so that it is Ray that takes the time. Straight: "
        "who asks gets the answers and merges them. Through: actors of a level between them merge three each. Then the "
        "time that who asks needs to merge the answers of so many nodes.",
        "",
        "| queries | k | 1 straight | 1 through | 9 straight | 9 through | merge of 9 | of 81 | of 1,024 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    names = ("straight_1", "through_1", "straight_9", "through_9", "merge_9", "merge_81", "merge_1024")
    lines += [
        f"| {row['n_query']} | {row['k']} | "
        + " | ".join("" if row[name] is None else f"{row[name]:.2f} ms" for name in names)
        + " |"
        for row in rows["tree"]
    ]
    lines += ["", "## Measured: hedged requests", ""]
    lines += [
        "One query after the other to 8 shards of 100,000 codes on 2 nodes. Standing still: one of the two holders, at "
        f"random, is stopped for {STOPPED * 1000:.0f} ms every {EVERY:g} s on average. Hedged: the second holder is "
        f"asked after the {HEDGE} quantile of the last answers' times. Milliseconds; of the questions to a node so "
        "many more were asked.",
        "",
        "| holders of a shard | standing still | queries | p50 | p95 | p99 | p99.9 | questions more |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['name']} | {'now and then' if row['stopped'] else 'none'} | {row['n']:,} | {row['p50']:.1f} | "
        f"{row['p95']:.1f} | {row['p99']:.1f} | {row['p99.9']:.1f} | {row['more_asked']:.1%} |"
        for row in rows["hedged"]
    ]
    lines += ["", "## Measured: a service by Ray Serve", ""]
    lines += [
        f"{SERVED:,} codes; a request asks for the ten nearest of one. One index in one process, and four shards on "
        "two nodes, everything on this machine, the clients too. Searches a second, and in brackets the milliseconds "
        "that half of the requests, and 99 of 100, waited at most.",
        "",
        "| service | " + " | ".join(f"{n} client{'s' * (n > 1)}" for n in CLIENTS) + " |",
        "| --- |" + " --- |" * len(CLIENTS),
    ]
    by_name: dict[str, list[str]] = {}
    for row in rows["served"]:
        by_name.setdefault(row["service"], []).append(
            f"{row['per_second']:,.0f} ({row['p50_ms']:.1f}, {row['p99_ms']:.1f})"
        )
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in by_name.items()]
    return lines
