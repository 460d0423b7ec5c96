"""All randomness of a training, from numbers: what is random about a step follows from (seed, epoch, step) alone."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["generator"]


def generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU seeded by some numbers, such as (seed, epoch, step)."""
    # The length goes in too, for SeedSequence takes (1,) and (1, 0) to be the same.
    words = np.random.SeedSequence([len(numbers), *numbers]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
