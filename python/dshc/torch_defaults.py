"""What torch takes where nothing is said: float32 on the CPU, whatever the caller has set for tensors of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

__all__ = ["thread_defaults", "torch_defaults"]

# The default dtype is one for all threads: the last that leaves puts it back.
_changing = threading.Lock()
_n_inside = 0
_before = torch.float32


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """:func:`thread_defaults`, and new tensors are float32 where nothing else is said: for networks that are made.

    Puts aside ``torch.set_default_dtype`` too, which is one for all threads: others see float32 meanwhile.
    """
    with thread_defaults(), _float32():
        yield


@contextlib.contextmanager
def thread_defaults() -> Iterator[None]:
    """Inside, tensors are made on the CPU and take part in autograd if asked to, and operations have the types of what
    they are given; other threads are left alone.

    Puts aside ``torch.set_default_device``, ``torch.inference_mode`` and ``torch.autocast``: random draws would follow
    the first, training needs tensors that are not of the second, and a hasher says itself what it computes in.
    """
    with contextlib.ExitStack() as inside:
        if torch.get_default_device().type != "cpu":
            inside.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            inside.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                inside.enter_context(torch.autocast(device, enabled=False))
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
