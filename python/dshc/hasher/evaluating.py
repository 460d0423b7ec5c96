"""Evaluation mode for as long as some thread encodes."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator

from torch import nn

__all__ = ["evaluating"]


class _Modes:
    def __init__(self, module: nn.Module) -> None:
        self.n_users, self.modes = 0, [(part, part.training) for part in module.modules()]


# The modules that are in use, and the modes that they get back. Of threads that share one, the first to end must not
# put it back into training while others still run.
_lock = threading.Lock()
_in_use: weakref.WeakKeyDictionary[nn.Module, _Modes] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """``module`` is in evaluation mode until the last thread that is in here has left."""
    with _lock:
        held = _in_use.get(module)
        if held is None:
            held = _in_use[module] = _Modes(module)
            module.eval()
        held.n_users += 1
    try:
        yield
    finally:
        with _lock:
            held.n_users -= 1
            if not held.n_users:
                for part, training in held.modes:
                    part.training = training
                del _in_use[module]
