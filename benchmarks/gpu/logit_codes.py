"""Jobs: codes from logits against the chain of torch ops that does the same; codes from features, where this version
has them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

import dshc_fast
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
    if k == CHECKED_K and dtype == "float32":
        chain = torch_chain(logits, signs, k, powers)
        if not torch.equal(dshc_fast.codes_from_logits(logits, codebook, k), chain):
            raise RuntimeError(f"{of.name}: the torch chain's codes differ from ours; nothing was timed")
    bench.measure(of, "codes_from_logits", lambda: dshc_fast.codes_from_logits(logits, codebook, k), amount=n_bytes,
                  unit="bytes", floors={"read": bench.limits.seconds("read", n_bytes)}, peak=True,
                  targets={"read": 0.8, CHAIN: 5.0})  # fmt: skip
    bench.measure(of, CHAIN, lambda: torch_chain(logits, signs, k, powers), amount=n_bytes, unit="bytes",
                  peak=True)  # fmt: skip


def codes_from_features(bench: Bench, n: int, outputs: int, dtype: str, k: int) -> None:
    of = setting(f"Codes from {FEATURES} features", rows=n, outputs=outputs, dtype=dtype, k=k, bits=N_BITS)
    if not hasattr(dshc_fast, "codes_from_features"):
        return bench.refuse(of.name, "this version has none")
    logits, codebook, _, _ = inputs(bench, n, outputs, dtype)
    generator = torch.Generator(bench.device).manual_seed(1)
    shapes = (len(logits), FEATURES), (logits.shape[1], FEATURES), (logits.shape[1],)
    features, weight, bias = (
        torch.randn(shape, device=bench.device, generator=generator).to(logits.dtype) for shape in shapes
    )
    operations = 2.0 * logits.numel() * FEATURES
    del logits

    def apart() -> Tensor:
        return dshc_fast.codes_from_logits(functional.linear(features, weight, bias), codebook, k)

    def fused() -> Tensor:
        return dshc_fast.codes_from_features(features, weight, bias, codebook, k)

    bench.measure(
        of, "torch linear, codes_from_logits", apart, amount=operations, unit="operations", peak=True
    )
    bench.measure(of, "codes_from_features", fused, amount=operations, unit="operations", peak=True)


def jobs() -> list[Job]:
    made = []
    for n, outputs, _ in LARGE:
        for dtype in DTYPES:
            for k in (1, CHECKED_K, 8):
                made.append(job(36, "gpu-loss", codes_from_logits, n, outputs, dtype, k))
            made.append(job(64, "gpu-loss", codes_from_features, n, outputs, dtype, CHECKED_K))
    return made
