"""The forms of the top-k kernel: DSHC_CUDA_TOPK names one, unset leaves the choice to the library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "DSHC_CUDA_TOPK"
FORMS = ("popc", "mma", "rows")
CHOICE = "library's choice"
MOST_COLLECTED = 10_240  # k beyond which popc and mma leave the work to rows (csrc/cuda/collect.h)


def for_k(forms: tuple[str, ...], k: int) -> tuple[str, ...]:
    """Those that do the work for this k themselves."""
    return tuple(name for name in forms if name == "rows" or k <= MOST_COLLECTED)


@contextmanager
def form(name: str) -> Iterator[None]:
    """Calls inside use the form `name`, or what the library chooses (CHOICE)."""
    before = os.environ.pop(VARIABLE, None)
    if name != CHOICE:
        os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def available(device: str) -> tuple[str, ...]:
    """The forms that can be asked for: none where the library takes a word that names no form, and so does not read
    the variable. Rows of forms would be rows of one and the same kernel."""
    import torch  # here, for what only needs the names

    import dshc_fast

    codes = torch.zeros((4, 8), dtype=torch.uint8, device=device)
    try:
        with form("no such form"):
            dshc_fast.hamming_topk(codes, codes, 1)
    except (ValueError, RuntimeError):
        return FORMS
    return ()
