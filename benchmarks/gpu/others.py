"""Jobs: the ops that no other table has, each against what a user would type in torch on the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import dshc_fast
from gpu import checks, codes, oracle
from gpu.bench import Bench, Job, Setting, job, setting
from gpu.clock import Run
from gpu.loss import DTYPES
from gpu.topk import MILLION, signs

SECTION, METRIC = "Other ops", "Metrics beside mAP"
TORCH = "torch"
N_BITS = 64


def powers(device: torch.device | str) -> Tensor:
    return torch.tensor([1 << bit for bit in range(8)], dtype=torch.uint8, device=device)


def packed(bits: Tensor, of_bits: Tensor) -> Tensor:
    return (bits.view(len(bits), -1, 8) * of_bits).sum(2, dtype=torch.uint8)


def randn(bench: Bench, dtype: str, *shape: int) -> Tensor:
    generator = torch.Generator(bench.device).manual_seed(0)
    return torch.randn(shape, device=bench.device, generator=generator, dtype=DTYPES[dtype])


def same(x: Tensor, y: Tensor) -> str:
    return "" if torch.equal(x, y) else "torch's answer differs"


def nearly(x: Tensor, y: Tensor) -> str:
    """Sums near zero round either way; all others give the same bit."""
    return "" if (x == y).float().mean() > 0.999 else "torch's answer differs"


def compare(
    bench: Bench,
    of: Setting,
    kernel: str,
    run: Run,
    others: dict[str, Run],
    n_bytes: float,
    equal: Callable[[Tensor, Tensor], str] = same,
) -> None:
    """`n_bytes`: what must be read and written; the floor is a copy of as many."""
    answer = run()
    for name, other in others.items():
        if why := equal(other(), answer):
            return bench.wrong(f"{of.name}: {name}", why)
    del answer
    how = {"amount": n_bytes, "unit": "bytes", "peak": True}
    how["floors"] = {"copy": bench.limits.seconds("copy", n_bytes)}
    bench.measure(of, kernel, run, targets=dict.fromkeys(others, 1.0), **how)
    for name, other in others.items():
        bench.measure(of, name, other, **how)


def pack(bench: Bench, n: int, n_bits: int, dtype: str) -> None:
    of = setting(SECTION, op="pack_codes", rows=n, bits=n_bits, dtype=dtype)
    values, by = randn(bench, dtype, bench.small(n, 50), n_bits), powers(bench.device)
    compare(bench, of, "pack_codes", lambda: dshc_fast.pack_codes(values), {TORCH: lambda: packed(values > 0, by)},
            values.numel() * (values.element_size() + 1 / 8))  # fmt: skip


def multilabel(bench: Bench, n: int, n_bits: int, dtype: str) -> None:
    of = setting(SECTION, op="multilabel_codes", rows=n, bits=n_bits, dtype=dtype)
    values, by = randn(bench, dtype, bench.small(n, 50), n_bits), powers(bench.device)
    compare(bench, of, "multilabel_codes", lambda: dshc_fast.multilabel_codes(values),
            {TORCH: lambda: packed(values > 0, by)}, values.numel() * (values.element_size() + 1 / 8))  # fmt: skip


def unpack(bench: Bench, n: int, n_bits: int) -> None:
    of = setting(SECTION, op="unpack_codes", rows=n, bits=n_bits)
    packed_codes = codes.make("random", n_bits, bench.small(n, 50), bench.device, 0)
    by = powers(bench.device)

    def torch_unpack() -> Tensor:
        return ((packed_codes[:, :, None] & by) != 0).view(len(packed_codes), -1).to(answer.dtype)

    answer = dshc_fast.unpack_codes(packed_codes, n_bits)
    compare(bench, of, "unpack_codes", lambda: dshc_fast.unpack_codes(packed_codes, n_bits), {TORCH: torch_unpack},
            packed_codes.numel() + float(answer.numel() * answer.element_size()))  # fmt: skip


def reverse(bench: Bench, n: int, n_bits: int) -> None:
    of = setting(SECTION, op="reverse_bit_order", rows=n, bits=n_bits)
    packed_codes = codes.make("random", n_bits, bench.small(n, 50), bench.device, 0)
    table = torch.tensor([int(f"{byte:08b}"[::-1], 2) for byte in range(256)], dtype=torch.uint8)
    table = table.to(bench.device)
    compare(bench, of, "reverse_bit_order", lambda: dshc_fast.reverse_bit_order(packed_codes),
            {TORCH: lambda: table[packed_codes.long()]}, 2.0 * packed_codes.numel())  # fmt: skip


def distance(bench: Bench, n_query: int, n_db: int, n_bits: int) -> None:
    of = setting(SECTION, op="hamming_distance", rows=n_query, n_db=n_db, bits=n_bits)
    queries = bench.queries("random", n_bits, bench.small(n_query, 9))
    database = bench.database("random", n_bits, bench.small(n_db, 2000))
    query_signs, database_signs = signs(queries, n_bits), signs(database, n_bits)
    answer = dshc_fast.hamming_distance(queries, database)
    n_bytes = float(answer.numel() * answer.element_size() + database.numel())
    dtype = answer.dtype
    del answer
    compare(bench, of, "hamming_distance", lambda: dshc_fast.hamming_distance(queries, database),
            {TORCH: lambda: ((n_bits - query_signs @ database_signs.T) / 2).to(dtype)}, n_bytes)  # fmt: skip


def by_probability(bench: Bench, n: int, outputs: int, dtype: str) -> None:
    of = setting(
        SECTION, op="codes_from_logits by probability", rows=n, n_db=outputs, bits=N_BITS, dtype=dtype
    )
    logits = randn(bench, dtype, bench.small(n, 16), bench.small(outputs, 300))
    codebook = codes.make("random", N_BITS, logits.shape[1], bench.device, 0)
    of_codes, by = signs(codebook, N_BITS).to(logits.dtype), powers(bench.device)
    equal = nearly if logits.dtype == torch.float32 else lambda x, y: ""  # 16 bits round the products
    compare(bench, of, "codes_from_logits",
            lambda: dshc_fast.codes_from_logits(logits, codebook, logits.shape[1], weighting="probability"),
            {TORCH: lambda: packed((logits.softmax(1) @ of_codes) > 0, by)},
            float(logits.numel() * logits.element_size()), equal)  # fmt: skip


def centers(bench: Bench, n: int, outputs: int, classes: int, dtype: str) -> None:
    of = setting(SECTION, op="center_codes_from_logits", rows=n, n_db=outputs, bits=N_BITS, dtype=dtype)
    per_class = bench.small(outputs // classes, 5)
    logits = randn(bench, dtype, bench.small(n, 16), classes * per_class)
    of_classes = codes.make("random", N_BITS, classes, bench.device, 0)
    offsets = torch.arange(classes + 1, device=bench.device) * per_class
    equal = nearly if logits.dtype == torch.float32 else lambda x, y: ""
    compare(bench, of, "center_codes_from_logits",
            lambda: dshc_fast.center_codes_from_logits(logits, offsets, of_classes),
            {TORCH: lambda: of_classes[logits.view(len(logits), classes, -1).logsumexp(2).argmax(1)]},
            float(logits.numel() * logits.element_size()), equal)  # fmt: skip


def metric(bench: Bench, name: str, ties: str, k: int | None, n_query: int, n_db: int) -> None:
    of = setting(METRIC, metric=name, n_query=n_query, n_db=n_db, k=k or "all", ties=ties, bits=N_BITS)
    n_query, n_db = bench.small(n_query, 9), bench.small(n_db, 2000)
    data = (bench.queries("random", N_BITS, n_query), bench.database("random", N_BITS, n_db),
            codes.labels(n_query, bench.device, 2), codes.labels(n_db, bench.device, 3))  # fmt: skip

    def run(*inputs: Tensor) -> Tensor:
        return dshc_fast.retrieval_metric(*inputs, name, k=k, ties=ties, n_bits=N_BITS)

    rows = oracle.sample(n_query, n_db)
    here = rows.to(data[0].device)
    wanted = run(data[0][here].cpu(), data[1].cpu(), data[2][here].cpu(), data[3].cpu())
    if why := checks.differs(oracle.picked((run(*data),), rows), (wanted,), 1e-12):
        return bench.wrong(of.name, why)
    bench.measure(of, "retrieval_metric", lambda: run(*data), amount=float(n_query) * n_db,
                  floors=bench.pair_floors(n_query, n_db, N_BITS, read=False))  # fmt: skip


def jobs() -> list[Job]:
    made = []

    def add(importance: int, run, *sizes: object) -> None:
        made.append(job(importance, "others", run, *sizes))

    for dtype in DTYPES:
        for n_bits in (64, 256):
            add(10, pack, MILLION, n_bits, dtype)
        add(10, multilabel, MILLION, N_BITS, dtype)
        add(11, by_probability, 4096, 310, dtype)
        add(11, by_probability, 4096, 30_100, dtype)
        add(11, centers, 4096, 310, 10, dtype)
        add(11, centers, 4096, 30_100, 100, dtype)
    for n_bits in (64, 256):
        add(10, unpack, MILLION, n_bits)
        add(12, distance, 1024, MILLION, n_bits)
    add(12, distance, 1, 100 * MILLION, N_BITS)
    add(12, reverse, 10 * MILLION, N_BITS)
    for name in ("ndcg", "reciprocal_rank", "precision"):
        for ties in ("expected", "index"):
            for k in (None, 100):
                add(20, metric, name, ties, k, 10_000, 50_000)
    return made
