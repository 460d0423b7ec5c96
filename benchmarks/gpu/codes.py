"""Code sets made on the device: what takes seconds on the host takes milliseconds there, and 80 GB never cross the bus.

* random: uniform bits.
* clustered: 100 random centers, every bit flipped with probability 0.05.
* repeated: 1,000 distinct random codes.
* tied: one code, of zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

import dshc_fast

KINDS = ("random", "clustered", "repeated", "tied")
N_CENTERS, FLIPPED, N_DISTINCT = 100, 0.05, 1000
_PART = 1 << 30  # bytes filled by one call: torch's generators count in 32 bits
_FLIPS = 1 << 27  # random numbers held at a time


def _random(n: int, n_bytes: int, generator: torch.Generator) -> Tensor:
    codes = torch.empty((n, n_bytes), dtype=torch.uint8, device=generator.device)
    flat = codes.view(-1)
    for start in range(0, len(flat), _PART):
        flat[start : start + _PART].random_(0, 256, generator=generator)
    return codes


def make(kind: str, n_bits: int, n: int, device: str, seed: int) -> Tensor:
    """uint8 (n, n_bits / 8); the centers and the distinct codes do not depend on the seed."""
    shared, own = (torch.Generator(device).manual_seed(number) for number in (99, seed))
    if kind == "random":
        return _random(n, n_bits // 8, own)
    if kind == "tied":
        return torch.zeros((n, n_bits // 8), dtype=torch.uint8, device=device)
    table = _random(N_CENTERS if kind == "clustered" else N_DISTINCT, n_bits // 8, shared)
    codes = torch.empty((n, n_bits // 8), dtype=torch.uint8, device=device)
    rows = max(1, _FLIPS // n_bits)
    for start in range(0, n, rows):
        part = codes[start : start + rows]
        chosen = torch.randint(len(table), (len(part),), device=device, generator=own)
        part.copy_(table[chosen])
        if kind == "clustered":
            noise = torch.rand((len(part), n_bits), device=device, generator=own)
            part.bitwise_xor_(dshc_fast.pack_codes(noise < FLIPPED))
    return codes


def labels(n: int, device: str, seed: int, n_classes: int = 10) -> Tensor:
    return torch.randint(n_classes, (n,), device=device, generator=torch.Generator(device).manual_seed(seed))
