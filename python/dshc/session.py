"""What surrounds a training loop: CPU threads and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["cpu_threads", "ctrl_c"]


@contextlib.contextmanager
def cpu_threads(n_threads: int | None) -> Iterator[None]:
    """That many threads inside, as many as before afterwards; None leaves them as they are."""
    before = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Stop:
    asked = False


@contextlib.contextmanager
def ctrl_c() -> Iterator[_Stop]:
    """Ctrl-C sets ``asked``, for a half done step leaves no state to save; a second one stops at once."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may take signals
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(*_: Any) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
