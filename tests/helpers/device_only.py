"""What the tests share that need a CUDA device."""

from __future__ import annotations

import pytest
import torch

import dshc_fast

OFFSETS = [0, 30, 61, 100]


def need_a_device() -> None:
    """Skips the file that calls it where it cannot run."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here", allow_module_level=True)
    if not dshc_fast.build_info()["cuda"]:
        pytest.skip("this build has no CUDA kernels (nvcc was not found)", allow_module_level=True)


def random_codes(n: int, n_bytes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, n_bytes), generator=generator, dtype=torch.uint8)
