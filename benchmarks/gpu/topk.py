"""Jobs: top-k of one query and a few, of a batch in each form of the kernel, against torch; the latency of a call."""

from __future__ import annotations

import torch
from torch import Tensor

import dshc_fast
from gpu import oracle
from gpu.bench import Bench, Job, Setting, job, setting
from gpu.forms import CHOICE, for_k, form

ONE, BATCH, LATENCY = "One query to a few", "A batch", "Small calls, wall time"
TORCH = "torch ±1 fp16"
MILLION = 1_000_000
BATCH_QUERIES = 1024
CHUNK_PRODUCTS = 1 << 28  # torch's products held at a time
TORCH_PART_FROM = 50 * MILLION  # codes from which torch runs on an eighth of the queries


def few(bench: Bench, n_db: int, n_query: int, k: int = 100, kind: str = "random", n_bits: int = 64) -> None:
    of = setting(ONE, n_db=n_db, n_query=n_query, k=k, bits=n_bits, codes=kind)
    targets = {"read": 0.8} if (n_query, k) == (1, 100) and n_db >= 1000 * MILLION else {}
    n_db = bench.small(n_db, 3000)
    k = min(k, n_db)
    queries, database = bench.queries(kind, n_bits, n_query), bench.database(kind, n_bits, n_db)
    right = oracle.TopK(queries, database, k)
    forms = [name for name in for_k(bench.forms, k) if name != "rows"]
    for name in (CHOICE, *forms):
        with form(name):
            if why := right.differs(dshc_fast.hamming_topk(queries, database, k)):
                bench.wrong(f"{of.name}: {name}", why)
                continue
            bench.measure(of, name, lambda: dshc_fast.hamming_topk(queries, database, k), amount=float(n_query) * n_db,
                          floors=bench.pair_floors(n_query, n_db, n_bits), targets=targets)  # fmt: skip


def batch_setting(n_db: int, k: int, n_bits: int, kind: str) -> Setting:
    return setting(BATCH, n_db=n_db, k=k, bits=n_bits, codes=kind, n_query=BATCH_QUERIES)


def batch(bench: Bench, n_db: int, k: int = 100, n_bits: int = 64, kind: str = "random") -> None:
    of = batch_setting(n_db, k, n_bits, kind)
    n_query, n_db = bench.small(BATCH_QUERIES, 8), bench.small(n_db, 3000)
    k = min(k, n_db)
    queries, database = bench.queries(kind, n_bits, n_query), bench.database(kind, n_bits, n_db)
    floors = bench.pair_floors(n_query, n_db, n_bits, read=False)
    targets = {"popc": 0.85} if (n_bits, kind) == (64, "random") and k <= 100 else {}
    right = oracle.TopK(queries, database, k)
    first: tuple[Tensor, ...] | None = None  # of the forms that are right, to compare all queries
    for name in (CHOICE, *for_k(bench.forms, k)):
        with form(name):
            try:
                answer = tuple(dshc_fast.hamming_topk(queries, database, k))
                why = right.differs(answer)
                if not why and first is not None and not all(map(torch.equal, answer, first)):
                    why = "differs from another form that is right on the queries that were checked"
                if why:
                    bench.wrong(f"{of.name}: {name}", why)
                    continue
                first = first or answer
                bench.measure(of, name, lambda: dshc_fast.hamming_topk(queries, database, k), floors=floors,
                              amount=float(n_query) * n_db, targets=targets if name == CHOICE else {})  # fmt: skip
            except ValueError as error:
                bench.refuse(f"{of.name}: {name}", f"refused: {str(error).splitlines()[0][:120]}")


def signs(codes: Tensor, n_bits: int) -> Tensor:
    """±1 in fp16 (n, bits): every product of up to 256 bits is exact."""
    rows = max(1, CHUNK_PRODUCTS // n_bits)
    out = torch.empty((len(codes), n_bits), dtype=torch.float16, device=codes.device)
    for start in range(0, len(codes), rows):
        out[start : start + rows] = dshc_fast.unpack_codes(codes[start : start + rows], n_bits, signed=True)
    return out


def torch_topk(queries: Tensor, database: Tensor, k: int) -> Tensor:
    """int32 distances (n_query, k), ascending: products of ±1 in chunks, the best of each chunk, the best of those."""
    n_bits, best = queries.shape[1], None
    rows = max(k, CHUNK_PRODUCTS // len(queries))
    for start in range(0, len(database), rows):
        products = queries @ database[start : start + rows].T
        found = torch.topk(products, min(k, products.shape[1]), dim=1).values
        best = found if best is None else torch.topk(torch.cat((best, found), 1), k, dim=1).values
    return ((n_bits - best.float()) / 2).to(torch.int32)


def against_torch(bench: Bench, n_db: int, k: int = 100, n_bits: int = 64) -> None:
    of = batch_setting(n_db, k, n_bits, "random")
    part = 1 / 8 if n_db >= TORCH_PART_FROM else 1.0
    n_query = int(part * bench.small(BATCH_QUERIES, 8))
    n_db = bench.small(n_db, 3000)
    k = min(k, n_db)
    queries, database = bench.queries("random", n_bits, n_query), bench.database("random", n_bits, n_db)
    query_signs, database_signs = signs(queries, n_bits), signs(database, n_bits)
    ours = dshc_fast.hamming_topk(queries, database, k).distances
    if not torch.equal(torch_topk(query_signs, database_signs, k), ours):
        return bench.wrong(f"{of.name}: {TORCH}", "torch's distances differ from ours")
    bench.measure(of, TORCH, lambda: torch_topk(query_signs, database_signs, k), graph=False, part=part,
                  amount=float(n_query) / part * n_db,
                  note=f"products of {CHUNK_PRODUCTS:,} entries, torch.topk of each; ±1 made before")  # fmt: skip


def latency(bench: Bench, n_db: int) -> None:
    of = setting(LATENCY, n_db=n_db, n_query=1, k=100, bits=64, codes="random")
    n_db = bench.small(n_db, 3000)
    queries, database = bench.queries("random", 64, 1), bench.database("random", 64, n_db)

    def run() -> object:
        return dshc_fast.hamming_topk(queries, database, 100)

    for name, graph in (("eager", False), ("CUDA graph", True)):
        bench.measure(of, name, run, amount=float(n_db), timing=bench.clock.latency(run, graph=graph))


def jobs() -> list[Job]:
    made = []

    def add(step: str, importance: int, n_bytes: int, run, *sizes) -> None:
        made.append(job(importance, step, run, *sizes, n_bytes=n_bytes))

    ten, hundred, billion = 10 * MILLION, 100 * MILLION, 1000 * MILLION
    for n_db in (billion, hundred, ten):
        add("one", 10, 8 * n_db, few, n_db, 1)
        for n_query in (2, 4, 8, 16, 32, 128):
            add("more" if n_db == ten else "one", 20, 8 * n_db, few, n_db, n_query)
        add("one", 25, 8 * n_db, few, n_db, 1, 10_000)
    add("more", 90, 80 * billion, few, 10 * billion, 1)
    for n_db in (MILLION // 10, MILLION):
        add("one", 15, 0, latency, n_db)
    for n_bits in (512, 1024):  # of binary embeddings
        add("one", 22, n_bits // 8 * ten, few, ten, 1, 100, "random", n_bits)
        add("batch", 28, n_bits // 8 * ten, batch, ten, 100, n_bits)
    for n_bits in (128, 256):
        add("more", 16, n_bits // 8 * hundred, few, hundred, 1, 100, "random", n_bits)
    add("batch", 10, 8 * ten, batch, ten, 100)
    add("batch", 11, 8 * hundred, batch, hundred, 100)
    add("batch", 12, torch_bytes(ten, 64), against_torch, ten, 100)
    for n_db, step in ((ten, "batch"), (hundred, "more")):
        for k in (10, 1000, 2048, 10_000):
            add(step, 20 + (k > 2048), 8 * n_db, batch, n_db, k)
        for n_bits in (32, 128, 256):
            add(step, 25, n_bits // 8 * n_db, batch, n_db, 100, n_bits)
        for kind in ("clustered", "repeated"):
            for k in (100, 1000):
                add(step, 30, 8 * n_db, batch, n_db, k, 64, kind)
    for k in (1000, 10_000):
        add("more", 40, torch_bytes(ten, 64), against_torch, ten, k)
    for n_bits in (32, 128, 256):
        add("more", 41, torch_bytes(ten, n_bits), against_torch, ten, 100, n_bits)
    add("more", 42, torch_bytes(hundred, 64), against_torch, hundred, 100)
    return made


def torch_bytes(n_db: int, n_bits: int) -> int:
    """Vectors of ±1, and four times a chunk of products."""
    return (2 * n_bits + n_bits // 8) * n_db + 8 * CHUNK_PRODUCTS
