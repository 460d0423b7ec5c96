"""Where an op runs in the tests: each instruction set of this CPU, and CUDA where there is a device."""

from __future__ import annotations

from typing import NamedTuple

import torch

import dshc_fast

_BUILD = dshc_fast.build_info()
SIMD_LEVELS: tuple[str, ...] = tuple(_BUILD["simd_levels"])
# Before a test chose one: the best, or what DSHC_SIMD says.
LEVEL: str = dshc_fast.get_simd_level()
HAS_CUDA = bool(_BUILD["cuda"]) and torch.cuda.is_available()


class Backend(NamedTuple):
    """A torch device, and on the CPU the instruction set."""

    device: str
    level: str | None


BACKENDS = [Backend("cpu", level) for level in SIMD_LEVELS] + ([Backend("cuda", None)] if HAS_CUDA else [])
