"""How many searches a second `dshc serve` answers, and how long one waits, from 1, 8 and 64 clients at once.

    python benchmarks/load_service.py [--sizes 1000000,10000000] [--seconds 5] [--rounds 3]
                                      [--services dshc,faiss,milvus,pgvector]

64-bit codes, drawn at random; a request asks for the ten nearest of one code, on a connection that stays open, and a
client sends the next one when it has its answer. `dshc` is the service, with several waits; `faiss` the same service
with faiss' `IndexBinaryFlat` in the place of `HashIndex`; `milvus` and `pgvector` are running databases, asked by their
own clients (load_peers.py). The clients run on the same machine. Writes docs/results/serve.md and its JSON, where rows
that are there already stay, but for those measured anew. Run it with nothing beside it; of --rounds measurements of a
row the one of the most searches counts, in which other work of the machine was least in the way.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from load_peers import Clients, milvus, pgvector
from timing import RESULTS, made_on, write, write_page

from dshc import HashIndex

BITS, K, CLIENTS = 64, 10, (1, 8, 64)
N_QUERIES = 1000
WARM = 1.0  # seconds that do not count
WAITS = {f"--batch-ms {ms}": ms for ms in (1, 2)}
PEERS = {"milvus": milvus, "pgvector": pgvector}
SERVICES = ("dshc", "faiss", *PEERS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000000,10000000")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--services", default=",".join(SERVICES))
    parser.add_argument("--faiss-inside", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.faiss_inside:
        serve_with_faiss(Path(given.faiss_inside[0]))
        return
    services = given.services.split(",")
    assert set(services) <= set(SERVICES), services
    for n in map(int, given.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            codes = np.random.default_rng(0).integers(0, 256, (n, BITS // 8), dtype=np.uint8)
            with HashIndex.create(Path(folder) / "index", bits=BITS) as index:
                index.add(codes)
            for service in services:
                keep(measured(service, Path(folder) / "index", codes, given.seconds, given.rounds))


def keep(measured_now: list[dict[str, Any]]) -> None:
    """Put rows among those that are there, in the place of those of the same service and number of codes; the page."""
    path = RESULTS / "serve.json"
    there = json.loads(path.read_text())["rows"] if path.exists() else []
    now = {(row["service"], row["codes"]) for row in measured_now}
    rows = [row for row in there if (row["service"], row["codes"]) not in now] + measured_now
    names = [name for service in SERVICES for name in _names(service)]
    rows.sort(key=lambda row: (row["codes"], names.index(row["service"]), row["clients"]))
    write("serve", rows)
    command = "`python benchmarks/load_service.py`, service by service"
    write_page("serve", "Searches over HTTP", f"{command}; {_made_on(rows)}", "", page(rows))


def _made_on(rows: list[dict[str, Any]]) -> str:
    """Machines and days, each with the commits that its rows were measured at."""
    commits: dict[str, list[str]] = {}
    for row in rows:
        machine, commit = row["made_on"].rsplit(" ", 1)
        commits.setdefault(machine, [])
        if commit not in commits[machine]:
            commits[machine].append(commit)
    return "; ".join(f"{machine} {', '.join(names)}" for machine, names in commits.items())


def measured(
    service: str, path: Path, codes: np.ndarray, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """A row for each number of clients, and each of the waits of the service."""
    gc.freeze()  # the clients' own pauses are not the service's
    queries = np.random.default_rng(1).integers(0, 256, (N_QUERIES, BITS // 8), dtype=np.uint8)
    with HashIndex.open(path, read_only=True) as index:
        right = index.search(queries, K).distances.tolist()
    rows = []
    if service in PEERS:
        with PEERS[service](codes, queries, K) as clients:
            return rows_of(_names(service)[0], len(codes), clients, right, seconds, rounds)
    serve = [sys.executable, "-m", "dshc", "serve", str(path), "--port", "0", "--threads", "1"]
    for name in _names(service):
        command = serve
        if service == "faiss":
            command = [sys.executable, __file__, "--faiss-inside", str(path)]
        elif name in WAITS:
            command = [*serve, "--batch-ms", str(WAITS[name])]
        with started(command) as address:
            rows += rows_of(name, len(codes), over_http(address, queries), right, seconds, rounds)
    return rows


def _names(service: str) -> list[str]:
    """What the rows of a service are called."""
    names = {"faiss": "faiss inside", "milvus": "Milvus Lite", "pgvector": "pgvector"}
    return [names[service]] if service in names else ["dshc serve", *WAITS]


def rows_of(
    name: str, n: int, clients: Clients, right: list[list[int]], seconds: float, rounds: int
) -> list[dict[str, Any]]:
    best: dict[int, list[float]] = {}
    for n_clients in CLIENTS * rounds:
        waits, wrong = asyncio.run(load(clients, right, n_clients, seconds))
        assert not wrong, f"{name}: {wrong} answers have other distances than those of the index"
        best[n_clients] = max(best.get(n_clients, []), waits, key=len)
    rows = [
        {
            "service": name,
            "codes": n,
            "clients": n_clients,
            "per_second": len(waits) / seconds,
            "p50_ms": float(np.percentile(waits, 50)) * 1000,
            "p99_ms": float(np.percentile(waits, 99)) * 1000,
            "rounds": rounds,
            "made_on": made_on(),
        }
        for n_clients, waits in best.items()
    ]
    print(*rows, sep="\n", flush=True)
    return rows


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[str]:
    """A service as a process; yields its address once it is ready."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        address = ""
        for line in process.stderr:
            event = json.loads(line)
            address = event.get("address", address)
            if event["event"] == "ready":
                break
        else:
            raise RuntimeError(f"{command} ended with {process.wait()}")
        # The log must be read, or the service waits for whoever should.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield address.rstrip("/")
    finally:
        process.terminate()
        assert process.wait(60) == 0


async def load(
    clients: Clients, right: list[list[int]], n_clients: int, seconds: float
) -> tuple[list[float], int]:
    """Seconds that each request waited, and how many answers had other distances than the index."""
    begin = time.perf_counter() + WARM
    waits: list[float] = []
    wrong = 0

    async def client(number: int) -> None:
        nonlocal wrong
        row = number * 37
        async with clients.connect() as ask:
            while (sent := time.perf_counter()) < begin + seconds:
                row = (row + 1) % len(right)
                content = await ask(row)
                now = time.perf_counter()
                if begin <= sent and now < begin + seconds:
                    waits.append(now - sent)
                if row % 10 == 0:
                    wrong += clients.distances(content) != right[row]

    await asyncio.gather(*(client(number) for number in range(n_clients)))
    return waits, wrong


def over_http(address: str, queries: np.ndarray) -> Clients:
    place = urlsplit(address)
    requests = [_request(code.tobytes().hex()) for code in queries]

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Callable[[int], Awaitable[bytes]]]:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)

        async def ask(row: int) -> bytes:
            writer.write(requests[row])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            return await reader.readexactly(length)

        yield ask
        writer.close()

    return Clients(
        connect, lambda content: [item["distance"] for item in json.loads(content)["results"][0]["items"]]
    )


def _request(code: str) -> bytes:
    body = json.dumps({"codes": [code], "k": K, "include": []}).encode()
    head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(body)}\r\n\r\n".encode() + body


def serve_with_faiss(path: Path) -> None:
    """The same service, whose index answers by faiss."""
    import faiss
    import torch

    from dshc.index.hash_index import SearchResult
    from dshc.service import Served, ServiceSettings, serve

    class FaissInside:
        """An index as the service asks it; one without removed items, whose ids count from 0 on."""

        def __init__(self, index: HashIndex) -> None:
            self._index, self._faiss = index, faiss.IndexBinaryFlat(index.n_bits)
            self._faiss.add(index.get(index.ids()).codes)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._index, name)

        def __len__(self) -> int:
            return len(self._index)

        def search(self, codes: np.ndarray, k: int) -> SearchResult:
            return SearchResult(*self._faiss.search(codes, k))

    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    served = Served(HashIndex.open(path, read_only=True))
    served.index = FaissInside(served.index)  # type: ignore[assignment]
    serve(served, ServiceSettings(port=0))


def page(rows: list[dict[str, Any]]) -> list[str]:
    """A table per size: a row per service, for each number of clients the searches a second and milliseconds."""
    lines = [
        "A request asks for the ten nearest of one 64-bit code. Searches a second, and in brackets the milliseconds",
        "that half of the requests, and 99 of 100, waited at most. The service searches in one thread; the clients",
        "share the machine with it. A tenth of the answers of each were compared with those of the index, by their",
        "distances; of several measurements the one of the most searches counts, for the machine did other work too.",
        "\\*: one measurement, which other work may have slowed down.",
        "Requests that arrive while a search runs are searched together by the next one, by faiss too.",
        "",
        "Milvus Lite (2.5, BIN_FLAT) and PostgreSQL with pgvector (a scan) run as servers of their own with the",
        "threads that they choose, asked over gRPC with requests that pymilvus made, and by psycopg. Qdrant is not",
        "among them: [its distances](https://qdrant.tech/course/beginners/module-2/distance-metrics/) are Cosine, Dot,",
        "Euclid and Manhattan, none of bits, and PyPI has its client and a library to embed, but no server.",
    ]
    for n in sorted({row["codes"] for row in rows}):
        lines += [
            "",
            f"## {n:,} codes",
            "",
            "| | " + " | ".join(_clients(n) for n in CLIENTS) + " |",
            "| --- " * 4 + "|",
        ]
        for name in dict.fromkeys(row["service"] for row in rows if row["codes"] == n):
            cells = {row["clients"]: row for row in rows if row["codes"] == n and row["service"] == name}
            mark = "\\*" if any(row["rounds"] == 1 for row in cells.values()) else ""
            lines.append(
                f"| {name}{mark} | " + " | ".join(_cell(cells[clients]) for clients in CLIENTS) + " |"
            )
        known = dict.fromkeys(row["service"] for row in rows)
        there = {row["service"] for row in rows if row["codes"] == n}
        if absent := [name for name in known if name not in there]:
            lines += ["", f"Not measured at this size: {', '.join(absent)}."]
    return lines


def _clients(n: int) -> str:
    return "1 client" if n == 1 else f"{n} clients"


def _cell(row: dict[str, Any]) -> str:
    return f"{row['per_second']:,.0f} ({row['p50_ms']:.1f}, {row['p99_ms']:.1f})"


if __name__ == "__main__":
    main()
