"""`python -m dshc_fast`: what is installed, and whether it computes what it should."""

from __future__ import annotations

import torch

import dshc_fast

from . import build_info, reference, set_simd_level


def self_check(seed: int = 0) -> list[str]:
    """Compare the native ops with their twins on random input, at every SIMD level; the names of those that
    differ."""
    generator = torch.Generator().manual_seed(seed)

    def random(high: int, *shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator).to(dtype)

    wrong = []
    levels = build_info()["simd_levels"]
    for n_bytes in (1, 4, 5, 8, 16, 32, 40):
        codes = random(256, 300, n_bytes, dtype=torch.uint8)
        queries, labels = codes[:7], random(4, 300)
        logits, codebook = torch.randn(7, 300, generator=generator), codes
        ranking, labelled = (queries, codes), (queries, codes, labels[:7], labels)
        offsets = torch.tensor([0, 100, 180, 250, 300])
        cases = (
            ("hamming_topk", lambda op, a=ranking: op.hamming_topk(*a, 50)),
            ("hamming_radius", lambda op, a=ranking, r=4 * n_bytes: op.hamming_radius(*a, r)),
            ("hamming_histogram", lambda op, a=labelled: op.hamming_histogram(*a)),
            ("average_precision", lambda op, a=labelled: op.average_precision(*a, k=33)),
            ("average_precision", lambda op, a=labelled: op.average_precision(*a, ties="index")),
            ("codes_from_logits", lambda op, z=logits, b=codebook: op.codes_from_logits(z, b, 5)),
            (
                "class_softmax_loss",
                lambda op, z=logits, y=labels[:7], o=offsets: op.class_softmax_loss(z, y, o),
            ),
        )
        for level in levels:
            set_simd_level(level)
            for name, call in cases:
                try:
                    torch.testing.assert_close(call(dshc_fast), call(reference), check_stride=False)
                except AssertionError:
                    wrong.append(f"{name} ({8 * n_bytes} bits, {level})")
    set_simd_level(None)
    return wrong


def main() -> int:
    for name, value in build_info().items():
        print(f"{name:>12}: {', '.join(value) if isinstance(value, list) else value}")
    wrong = self_check()
    print(f"{'self-check':>12}: " + ("ok" if not wrong else "WRONG: " + ", ".join(wrong)))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
