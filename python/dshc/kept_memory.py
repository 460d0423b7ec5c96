"""Memory that a step of a training, or a batch of an encoding, frees is kept for the next one.

glibc gives large blocks back to the system as they are freed, and the system clears every page that it hands out anew:
with convolutions over photos that is a third of a step, and more of an encoding. Only glibc is told; what the allocator
of another system does is left to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from .first_and_last import FirstAndLast

__all__ = ["kept_between", "kept_memory"]

T = TypeVar("T")

# Of malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER, _BY_DEFAULT = -1, 65536
# What glibc's thresholds come to by themselves once large blocks were freed; told once, they stay where they are put.
_LARGE = 32 << 20


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Inside, freed memory stays with the process; afterwards, when the last block is left, what is free goes back.

    Does nothing where malloc was tuned by the environment (``MALLOC_...``, ``GLIBC_TUNABLES``), or is not glibc's.
    """
    with _memory.held():
        yield


def kept_between(items: Iterable[T]) -> Iterator[T]:
    """The items in their order; from the second on, what is freed between them is kept. One alone costs nothing."""
    with contextlib.ExitStack() as inside:
        for number, item in enumerate(items):
            if number == 1:
                inside.enter_context(kept_memory())
            yield item


def _of_glibc(name: str) -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    return getattr(library, name, None)


def _tuned() -> bool:
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in os.environ
    )


def _keep() -> Callable[[], object]:
    mallopt, trim = _of_glibc("mallopt"), _of_glibc("malloc_trim")
    if mallopt is None or trim is None or _tuned():
        return lambda: None
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _NEVER)

    def give_back() -> None:
        mallopt(_MMAP_MAX, _BY_DEFAULT)
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGE)
        trim(0)

    return give_back


_memory = FirstAndLast(_keep)  # malloc is one for all threads
