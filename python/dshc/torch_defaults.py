"""What torch takes where nothing is said: float32 on the CPU, whatever the caller has set for tensors of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

__all__ = ["torch_defaults"]

# The default dtype is one for all threads: the last that leaves puts it back.
_changing = threading.Lock()
_n_inside = 0
_before = torch.float32


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Inside, new tensors are float32 on the CPU and take part in autograd if asked to; outside, all is as it was.

    Puts aside ``torch.set_default_dtype``, ``torch.set_default_device`` and ``torch.inference_mode``. Networks, random
    draws and checkpoints would follow the first two, and training needs tensors that are not of the third.
    """
    with contextlib.ExitStack() as inside:
        inside.enter_context(_float32())
        if torch.get_default_device().type != "cpu":
            inside.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            inside.enter_context(torch.inference_mode(False))
        yield


@contextlib.contextmanager
def _float32() -> Iterator[None]:
    global _n_inside, _before
    with _changing:
        if not _n_inside:
            _before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _n_inside += 1
    try:
        yield
    finally:
        with _changing:
            _n_inside -= 1
            if not _n_inside:
                torch.set_default_dtype(_before)
