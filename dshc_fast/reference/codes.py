"""Twins of the ops that make and read codes."""

from __future__ import annotations

import torch
from torch import Tensor

POPCOUNT = torch.tensor([bin(byte).count("1") for byte in range(256)], dtype=torch.int32)
BIT_VALUES = torch.tensor([1 << j for j in range(8)], dtype=torch.uint8)


def pack_codes(values: Tensor) -> Tensor:
    bits = (values > 0).to(torch.uint8)
    n_bytes = (bits.shape[1] + 7) // 8
    bits = torch.nn.functional.pad(bits, (0, 8 * n_bytes - bits.shape[1]))
    return (bits.view(-1, n_bytes, 8) * BIT_VALUES.to(values.device)).sum(dim=2, dtype=torch.uint8)


def unpack_codes(codes: Tensor, n_bits: int, *, signed: bool = False) -> Tensor:
    bits = codes.unsqueeze(2).bitwise_and(BIT_VALUES.to(codes.device)).ne(0).flatten(1)[:, :n_bits]
    return bits.to(torch.int8) * 2 - 1 if signed else bits.to(torch.uint8)


def reverse_bit_order(codes: Tensor) -> Tensor:
    bits = codes.unsqueeze(2).bitwise_and(BIT_VALUES.to(codes.device)).ne(0)
    return (bits.flip(2).to(torch.uint8) * BIT_VALUES.to(codes.device)).sum(dim=2, dtype=torch.uint8)


def multilabel_codes(logits: Tensor, threshold: float | Tensor = 0.0) -> Tensor:
    if isinstance(threshold, Tensor):
        # Compared in the wider of the two types, so that no threshold is rounded to the logits' precision.
        wide = torch.promote_types(logits.dtype, threshold.dtype)
        return pack_codes(logits.to(wide) > threshold.to(wide))
    return pack_codes(logits.double() > threshold)
