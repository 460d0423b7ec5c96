"""What torch takes where nothing is said: float32 on the CPU, whatever the caller has set for tensors of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from .first_and_last import FirstAndLast

__all__ = ["thread_defaults", "torch_defaults"]


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """:func:`thread_defaults`, and new tensors are float32 where nothing else is said: for networks that are made.

    Puts aside ``torch.set_default_dtype`` too, which is one for all threads: others see float32 meanwhile.
    """
    with thread_defaults(), _in_float32.held():
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


def _float32() -> Callable[[], None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    return lambda: torch.set_default_dtype(before)


_in_float32 = FirstAndLast(_float32)
