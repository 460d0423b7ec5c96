"""torch's own threads after a fork.

A child that was forked after torch had run in parallel hangs at torch's next parallel step on the CPU: OpenMP waits
for threads that did not cross the fork. The pool of csrc/cpu starts anew in the child, so whatever is long here is
done there; what is left to torch runs on one thread in a forked child.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager

import torch

_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class _OneThread:
    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)


def torch_steps() -> AbstractContextManager:
    """Around steps of torch on the CPU that it would share out (from some 32,768 elements). Native ops do not belong
    inside: they would have one thread too."""
    return _OneThread() if _forked else contextlib.nullcontext()
