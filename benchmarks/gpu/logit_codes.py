"""Jobs: codes from logits against the chain of torch ops that does the same; codes from features, where this version
has them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

import dshc_fast
from gpu import checks, oracle
from gpu.bench import Bench, Job, job, setting
from gpu.loss import DTYPES, FEATURES, LARGE

N_BITS = 64
CHAIN = "torch chain"
CHECKED_K = 5  # odd: no bit ties, which the chain would settle otherwise


def torch_chain(logits: Tensor, signs: Tensor, k: int, powers: Tensor) -> Tensor:
    """topk, gather, mean, sign, pack: uint8 (n, bytes). `signs` (outputs, bits) of ±1, `powers` 1, 2, 4, ... 128."""
    means = signs[torch.topk(logits, k, dim=1).indices].mean(1)
    bits = (means > 0).view(len(logits), -1, 8)
    return (bits * powers).sum(2, dtype=torch.uint8)


def inputs(bench: Bench, n: int, outputs: int, dtype: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, codebook, its signs, powers of two."""
    n, outputs = bench.small(n, 16), bench.small(outputs, 300)
    generator = torch.Generator(bench.device).manual_seed(0)
    logits = torch.randn((n, outputs), device=bench.device, generator=generator).to(DTYPES[dtype])
    codebook = bench.queries("random", N_BITS, outputs)
    signs = dshc_fast.unpack_codes(codebook, N_BITS, signed=True).to(torch.float32)
    powers = torch.tensor([1 << bit for bit in range(8)], dtype=torch.uint8, device=bench.device)
    return logits, codebook, signs, powers


def codes_from_logits(bench: Bench, n: int, outputs: int, dtype: str, k: int) -> None:
    of = setting("Codes from logits", rows=n, outputs=outputs, dtype=dtype, k=k, bits=N_BITS)
    logits, codebook, signs, powers = inputs(bench, n, outputs, dtype)
    n_bytes = float(logits.numel() * logits.element_size())
    codes = dshc_fast.codes_from_logits(logits, codebook, k)
    rows = oracle.sample(len(logits), 1)
    on_cpu = dshc_fast.codes_from_logits(logits[rows.to(logits.device)].cpu(), codebook.cpu(), k)
    if why := checks.differs(oracle.picked((codes,), rows), (on_cpu,), 0):
        return bench.wrong(of.name, why)
    if (
        k == CHECKED_K
        and dtype == "float32"
        and not torch.equal(codes, torch_chain(logits, signs, k, powers))
    ):
        return bench.wrong(of.name, "the torch chain's codes differ")
    bench.measure(of, "codes_from_logits", lambda: dshc_fast.codes_from_logits(logits, codebook, k), amount=n_bytes,
                  unit="bytes", floors={"read": bench.limits.seconds("read", n_bytes)}, peak=True,
                  targets={"read": 0.8, CHAIN: 5.0})  # fmt: skip
    bench.measure(of, CHAIN, lambda: torch_chain(logits, signs, k, powers), amount=n_bytes, unit="bytes",
                  peak=True)  # fmt: skip


def codes_from_features(bench: Bench, n: int, outputs: int, dtype: str, k: int) -> None:
    of = setting(f"Codes from {FEATURES} features", rows=n, outputs=outputs, dtype=dtype, k=k, bits=N_BITS)
    logits, codebook, _, _ = inputs(bench, n, outputs, dtype)
    generator = torch.Generator(bench.device).manual_seed(1)
    n_outputs, n_rows, of_dtype = logits.shape[1], len(logits), logits.dtype
    shapes = (n_rows, FEATURES), (n_outputs, FEATURES), (n_outputs,)
    operations = 2.0 * logits.numel() * FEATURES
    del logits

    def apart(*layer: Tensor) -> Tensor:
        return dshc_fast.codes_from_logits(functional.linear(*layer), codebook, k)

    def fused(*layer: Tensor) -> Tensor:
        return dshc_fast.codes_from_features(*layer, codebook, k)

    # Of whole numbers, which every order of a sum gives alike, and which tie often.
    whole = [
        torch.randint(-2, 3, shape, device=bench.device, generator=generator).to(of_dtype) for shape in shapes
    ]
    if not torch.equal(fused(*whole), apart(*whole)):
        return bench.wrong(of.name, "the codes differ from those of the whole logits")
    layer = [torch.randn(shape, device=bench.device, generator=generator).to(of_dtype) for shape in shapes]
    how = {"amount": operations, "unit": "operations", "peak": True}
    bench.measure(of, "torch linear, codes_from_logits", lambda: apart(*layer), **how)
    bench.measure(of, "codes_from_features", lambda: fused(*layer), **how)


def jobs() -> list[Job]:
    made = []
    for n, outputs, _ in LARGE:
        for dtype in DTYPES:
            for k in (1, CHECKED_K, 8):
                made.append(job(10, "codes", codes_from_logits, n, outputs, dtype, k))
            made.append(job(20, "codes", codes_from_features, n, outputs, dtype, CHECKED_K))
    return made
