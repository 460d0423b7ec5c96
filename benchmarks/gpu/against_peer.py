"""Jobs: top-k against faiss's method on a GPU (peer.py), at the sizes of the jobs in topk.py."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

import dshc_fast
from gpu.bench import Bench, Job, Setting, job, setting
from gpu.peer import WarpSelect
from gpu.topk import BATCH_QUERIES, MILLION, ONE, batch_setting

PEER = "WarpSelect (faiss's method)"
KS = (10, 100, 1000)


@functools.cache
def peer(device: str) -> WarpSelect | str:
    """Compiled once in a run."""
    return WarpSelect.build(torch.cuda.get_device_capability(device), KS)


def differs(found: tuple[Tensor, Tensor], queries: Tensor, database: Tensor, k: int) -> str:
    """Distances as ours; indices of items that lie at those distances, none twice. Ties are in no defined order."""
    distances, indices = found
    if not torch.equal(distances, dshc_fast.hamming_topk(queries, database, k).distances):
        return "the peer's distances differ from ours"
    ordered = indices.sort(1).values
    if not ((ordered[:, 0] >= 0) & (ordered[:, -1] < len(database))).all():
        return "the peer's indices are no items"
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        return "the peer gives an item twice"
    for query, row, wanted in zip(queries, indices, distances, strict=True):
        if not torch.equal(dshc_fast.hamming_distance(query[None], database[row])[0].to(torch.int32), wanted):
            return "the peer's items lie at other distances"
    return ""


def compare(bench: Bench, of: Setting, n_query: int, n_db: int, k: int, n_bits: int) -> None:
    if bench.rehearsal:
        bench.refuse(f"{of.name}: {PEER}", "it needs a GPU")
        return
    built = peer(bench.device)
    if isinstance(built, str):
        bench.refuse(f"{of.name}: {PEER}", built)
        return
    queries, database = bench.queries("random", n_bits, n_query), bench.database("random", n_bits, n_db)
    if why := differs(built.topk(queries, database, k), queries, database, k):
        return bench.wrong(f"{of.name}: {PEER}", why)
    bench.measure(of, PEER, lambda: built.topk(queries, database, k), graph=True, amount=float(n_query) * n_db,
                  floors=bench.pair_floors(n_query, n_db, n_bits, read=n_query == 1),
                  note="rebuilt from its description; ties in no defined order")  # fmt: skip


def against_peer(bench: Bench, n_db: int, k: int = 100, n_bits: int = 64) -> None:
    compare(bench, batch_setting(n_db, k, n_bits, "random"), BATCH_QUERIES, n_db, k, n_bits)


def one_against_peer(bench: Bench, n_db: int, k: int = 100) -> None:
    of = setting(ONE, n_db=n_db, n_query=1, k=k, bits=64, codes="random")
    compare(bench, of, 1, n_db, k, 64)


def jobs() -> list[Job]:
    n_db = 10 * MILLION
    made = []
    for k in KS:
        made.append(job(10, "peer", against_peer, n_db, k, n_bytes=8 * n_db))
    made.append(job(11, "peer", one_against_peer, 10 * n_db, n_bytes=80 * n_db))
    for n_bits in (32, 128, 256):
        made.append(job(12, "peer", against_peer, n_db, 100, n_bits, n_bytes=n_bits // 8 * n_db))
    return made
