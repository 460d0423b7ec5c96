"""Jobs: asymmetric_topk and hamming_pairs, each against what a user would type in torch on the device."""

from __future__ import annotations

import torch
from torch import Tensor

import dshc_fast
from gpu import oracle
from gpu.bench import Bench, Job, job, setting
from gpu.topk import CHUNK_PRODUCTS, MILLION, TORCH, signs

ASYMMETRIC, PAIRS = "Top-k of real-valued outputs", "All pairs within a radius (waits for the device)"
TORCH_OUTPUTS = "torch products, topk"
N_BITS = 64
NEAR = 1e-4  # of a distance, which torch adds in another order


def torch_asymmetric(outputs: Tensor, database_signs: Tensor, k: int) -> Tensor:
    """float32 distances (n_query, k), ascending: (|u| summed - <u, ±1>) / 2, in chunks, the best of each, of those."""
    best = None
    rows = max(k, CHUNK_PRODUCTS // len(outputs))
    for start in range(0, len(database_signs), rows):
        products = outputs @ database_signs[start : start + rows].T
        found = torch.topk(products, min(k, products.shape[1]), dim=1).values
        best = found if best is None else torch.topk(torch.cat((best, found), 1), k, dim=1).values
    return (outputs.abs().sum(1, keepdim=True) - best) / 2


def asymmetric(bench: Bench, n_query: int, n_db: int, k: int) -> None:
    of = setting(ASYMMETRIC, n_query=n_query, n_db=n_db, k=k, bits=N_BITS)
    n_query, n_db = bench.small(n_query, 8), bench.small(n_db, 3000)
    k = min(k, n_db)
    generator = torch.Generator(bench.device).manual_seed(0)
    outputs = torch.randn((n_query, N_BITS), device=bench.device, generator=generator)
    database = bench.database("random", N_BITS, n_db)
    answer = dshc_fast.asymmetric_topk(outputs, database, k)
    rows = oracle.sample(n_query, n_db)
    right = dshc_fast.asymmetric_topk(outputs[rows.to(outputs.device)].cpu(), database.cpu(), k)
    if not all(map(torch.equal, oracle.picked(tuple(answer), rows), right)):
        return bench.wrong(of.name, "differs from the CPU's answer")
    floors = bench.pair_floors(n_query, n_db, N_BITS)  # no bit is counted here
    how = {
        "amount": float(n_query) * n_db,
        "floors": {what: floors[what] for what in ("read", "operation")},
    }
    bench.measure(
        of,
        "asymmetric_topk",
        lambda: dshc_fast.asymmetric_topk(outputs, database, k),
        targets={TORCH_OUTPUTS: 1.0},
        **how,
    )
    of_database = signs(database, N_BITS).float()
    found = torch_asymmetric(outputs, of_database, k)
    if not torch.allclose(found, answer.distances, atol=NEAR * N_BITS):
        return bench.wrong(f"{of.name}: {TORCH_OUTPUTS}", "torch's distances are not near ours")
    bench.measure(of, TORCH_OUTPUTS, lambda: torch_asymmetric(outputs, of_database, k), graph=False, **how)


def torch_pairs(database_signs: Tensor, radius: int) -> Tensor:
    """int64 (n_found, 2), rows (i, j) with i < j: products of ±1 in chunks, those that are large enough."""
    n, n_bits = database_signs.shape
    found = []
    step = max(1, CHUNK_PRODUCTS // n)
    for start in range(0, n, step):
        products = database_signs[start : start + step] @ database_signs.T
        near = torch.nonzero(products >= n_bits - 2 * radius)
        near[:, 0] += start
        found.append(near[near[:, 0] < near[:, 1]])
    return torch.cat(found)


def pairs(bench: Bench, n: int, radius: int) -> None:
    of = setting(PAIRS, n_db=n, radius=radius, bits=N_BITS, codes="clustered")
    n = bench.small(n, 2000)
    database = bench.database("clustered", N_BITS, n)
    answer = dshc_fast.hamming_pairs(database, radius)
    right = dshc_fast.hamming_pairs(database.cpu(), radius)
    if not all(torch.equal(ours.cpu(), there) for ours, there in zip(answer, right, strict=True)):
        return bench.wrong(of.name, "differs from the CPU's answer")
    how = {
        "amount": n * (n - 1) / 2.0,
        "floors": bench.pair_floors(n - 1, n // 2, N_BITS, read=False),
        "graph": False,
    }
    note = f"{n:,} codes, radius {radius}: {len(answer.indices):,} pairs"
    bench.measure(
        of,
        "hamming_pairs",
        lambda: dshc_fast.hamming_pairs(database, radius),
        targets={TORCH: 1.0},
        note=note,
        **how,
    )
    of_database = signs(database, N_BITS)
    if len(torch_pairs(of_database, radius)) != len(answer.indices):
        return bench.wrong(f"{of.name}: {TORCH}", "torch finds another number of pairs")
    bench.measure(of, TORCH, lambda: torch_pairs(of_database, radius), **how)


def jobs() -> list[Job]:
    return [
        job(13, "others", asymmetric, 1024, MILLION, 100),
        job(13, "others", asymmetric, 1, 10 * MILLION, 100),
        job(13, "others", pairs, 200_000, 2),
        job(13, "others", pairs, 200_000, 8),
    ]
