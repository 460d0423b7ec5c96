"""`python -m dshc_fast`: what is installed, and whether it computes what it should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import dshc_fast

from . import build_info, reference, set_simd_level


def cases(n_bytes: int, generator: torch.Generator, device: str) -> list[tuple[str, Callable[[Any], object]]]:
    """Names of ops, and each one's call on random input of that code length; the argument is a module that has
    the op."""

    def random(high: int, *shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator).to(device, dtype)

    codes, labels = random(256, 300, n_bytes, dtype=torch.uint8), random(4, 300)
    pairs = codes[:7], codes
    labelled = (*pairs, labels[:7], labels)
    logits = torch.randn(7, 300, generator=generator).to(device)
    values = torch.randn(7, 8 * n_bytes, generator=generator).to(device)
    offsets = torch.tensor([0, 100, 180, 250, 300], device=device)
    return [
        ("pack_codes", lambda op: op.pack_codes(values)),
        ("unpack_codes", lambda op: op.unpack_codes(codes, 8 * n_bytes)),
        ("hamming_distance", lambda op: op.hamming_distance(*pairs)),
        ("hamming_topk", lambda op: op.hamming_topk(*pairs, 50)),
        ("asymmetric_topk", lambda op: op.asymmetric_topk(values, codes, 50)),
        ("hamming_radius", lambda op: op.hamming_radius(*pairs, 4 * n_bytes)),
        ("hamming_histogram", lambda op: op.hamming_histogram(*labelled)),
        ("average_precision", lambda op: op.average_precision(*labelled, k=33)),
        ("average_precision", lambda op: op.average_precision(*labelled, ties="index")),
        ("retrieval_metric", lambda op: op.retrieval_metric(*labelled, "ndcg", k=33)),
        ("retrieval_metric", lambda op: op.retrieval_metric(*labelled, "reciprocal_rank", ties="index")),
        ("codes_from_logits", lambda op: op.codes_from_logits(logits, codes, 5)),
        ("center_codes_from_logits", lambda op: op.center_codes_from_logits(logits, offsets, codes[:4])),
        ("multilabel_codes", lambda op: op.multilabel_codes(values)),
        ("class_softmax_loss", lambda op: op.class_softmax_loss(logits, labels[:7], offsets)),
    ]


def self_check(device: str = "cpu", seed: int = 0) -> list[str]:
    """Compare the native ops on a device with their twins on random input, on the CPU at every SIMD level; the
    names of those that differ."""
    wrong = []
    levels = build_info()["simd_levels"] if device == "cpu" else ["cuda"]
    for n_bytes in (1, 4, 5, 8, 16, 32, 40):
        generator = torch.Generator().manual_seed(seed)
        for name, call in cases(n_bytes, generator, device):
            expected = call(reference)
            for level in levels:
                if device == "cpu":
                    set_simd_level(level)
                try:
                    torch.testing.assert_close(call(dshc_fast), expected, check_stride=False)
                except AssertionError:
                    wrong.append(f"{name} ({8 * n_bytes} bits, {level})")
    set_simd_level(None)
    return wrong


def devices() -> list[str]:
    """Where the self-check runs: a GPU counts if there is one and kernels were built for it."""
    return ["cpu", "cuda"] if build_info()["cuda"] and torch.cuda.is_available() else ["cpu"]


def main() -> int:
    for name, value in build_info().items():
        print(f"{name:>18}: {', '.join(value) or 'none' if isinstance(value, list) else value}")
    failed = False
    for device in devices():
        wrong = self_check(device)
        print(f"{'self-check ' + device:>18}: " + ("ok" if not wrong else "WRONG: " + ", ".join(wrong)))
        failed |= bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
