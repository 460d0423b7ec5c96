"""Jobs: mean average precision, histograms and radius search."""

from __future__ import annotations

import torch
from torch import Tensor

import dshc_fast
from gpu import codes, oracle
from gpu.bench import Bench, Job, job, setting

N_BITS = 64
RADIUS = "Radius search (waits for the device once)"
MILLION = 1_000_000


def labelled(bench: Bench, n_query: int, n_db: int, kind: str) -> tuple:
    sets = bench.queries(kind, N_BITS, n_query), bench.database(kind, N_BITS, n_db)
    return *sets, codes.labels(n_query, bench.device, 2), codes.labels(n_db, bench.device, 3)


def mean_ap(bench: Bench, n_query: int, n_db: int, k: int | None, ties: str, kind: str = "random") -> None:
    of = setting("mAP", n_query=n_query, n_db=n_db, k=k or "all", ties=ties, bits=N_BITS, codes=kind)
    targets = (
        {"ms": 0.8} if (n_query, n_db, k, ties, kind) == (10_000, 50_000, None, "expected", "random") else {}
    )
    n_query, n_db = bench.small(n_query, 9), bench.small(n_db, 2000)
    data = labelled(bench, n_query, n_db, kind)

    def precisions(*inputs: Tensor) -> Tensor:
        return dshc_fast.average_precision(*inputs, k=k, ties=ties, n_bits=N_BITS)

    if why := oracle.labelled_differs(precisions, data):
        return bench.wrong(of.name, why)
    mean = precisions(*data).nan_to_num(0.0).mean()
    if not torch.isclose(
        dshc_fast.mean_average_precision(*data, k=k, ties=ties, n_bits=N_BITS), mean, rtol=1e-12
    ):
        return bench.wrong(of.name, "the mean is not that of the queries' average precisions")
    bench.measure(of, "mean_average_precision",
                  lambda: dshc_fast.mean_average_precision(*data, k=k, ties=ties, n_bits=N_BITS),
                  amount=float(n_query) * n_db, targets=targets,
                  floors=bench.pair_floors(n_query, n_db, N_BITS, read=False))  # fmt: skip


def histogram(bench: Bench, n_query: int, n_db: int, kind: str = "random") -> None:
    of = setting("Histogram", n_query=n_query, n_db=n_db, bits=N_BITS, codes=kind)
    n_query, n_db = bench.small(n_query, 9), bench.small(n_db, 2000)
    data = labelled(bench, n_query, n_db, kind)
    if why := oracle.labelled_differs(
        lambda *inputs: dshc_fast.hamming_histogram(*inputs, n_bits=N_BITS), data
    ):
        return bench.wrong(of.name, why)
    bench.measure(of, "hamming_histogram", lambda: dshc_fast.hamming_histogram(*data, n_bits=N_BITS),
                  amount=float(n_query) * n_db,
                  floors=bench.pair_floors(n_query, n_db, N_BITS, read=n_query == 1))  # fmt: skip


def radius(bench: Bench, n_query: int, n_db: int, radius: int, kind: str = "random") -> None:
    of = setting(RADIUS, n_query=n_query, n_db=n_db, radius=radius, bits=N_BITS, codes=kind)
    n_query, n_db = bench.small(n_query, 9), bench.small(n_db, 2000)
    queries, database = bench.queries(kind, N_BITS, n_query), bench.database(kind, N_BITS, n_db)
    if why := oracle.radius_differs(queries, database, radius):
        return bench.wrong(of.name, why)
    found = len(dshc_fast.hamming_radius(queries, database, radius).indices)
    bench.measure(of, "hamming_radius", lambda: dshc_fast.hamming_radius(queries, database, radius), graph=False,
                  amount=float(n_query) * n_db,
                  note=f"{kind}, {n_query:,} x {n_db:,}, radius {radius}: {found:,} found",
                  floors=bench.pair_floors(n_query, n_db, N_BITS, read=n_query == 1))  # fmt: skip


def jobs() -> list[Job]:
    made = []

    def add(step: str, importance: int, run, *sizes) -> None:
        made.append(job(importance, step, run, *sizes))

    add("map", 10, mean_ap, 10_000, 50_000, None, "expected")
    add("map", 11, mean_ap, 10_000, 50_000, None, "index")
    for k in (1000, 5000, 50_000):
        add("map", 20, mean_ap, 10_000, 200_000, k, "expected")
        add("map", 21, mean_ap, 10_000, 200_000, k, "index")
    add("map", 30, mean_ap, 100_000, MILLION, None, "expected")
    add("map", 31, histogram, 10_000, 50_000)
    add("map", 32, mean_ap, 10_000, 50_000, None, "expected", "clustered")
    add("map", 32, mean_ap, 10_000, 50_000, None, "expected", "repeated")
    add("more", 60, mean_ap, 100_000, MILLION, None, "index")
    add("more", 50, histogram, 1024, 10 * MILLION)
    add("more", 50, histogram, 1, 100 * MILLION)
    add("more", 51, histogram, 1024, 10 * MILLION, "repeated")
    for within in (0, 2, 8):
        add("radius", 18, radius, 1024, 10 * MILLION, within)
        add("radius", 19, radius, 1, 100 * MILLION, within)
    add("radius", 20, radius, 1024, MILLION, 2, "clustered")
    add("radius", 20, radius, 1024, MILLION, 8, "clustered")
    return made
