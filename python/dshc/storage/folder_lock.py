"""One writer per folder: a lock that ends with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

__all__ = ["folder_lock"]

_NAME = ".lock"
_held: set[int] = set()  # descriptors of this process


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the writer's lock of a folder, which is made where it is missing; released also by being killed.

    The file ``.lock`` stays in the folder and names the last holder; locked is what the system holds locked (flock),
    not what the file says. A forked child does not hold it. Raises :class:`InputError` naming who holds it (this
    process too), ``OSError`` naming the folder where it cannot be written or its file system has no locks.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = _lock(folder / _NAME)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(folder)) from None
    if descriptor is None:
        raise InputError(
            f"another process ({_holder(folder / _NAME)}) is writing {folder}; wait until it ends, or use another "
            "folder"
        )
    _held.add(descriptor)
    try:
        with contextlib.suppress(OSError):  # a full disk: then the holder has no name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        # Closed and not unlocked: in a child that was forked without Python's knowledge, unlocking would free the
        # parent's lock.
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)


def _lock(path: Path) -> int | None:
    """A locked descriptor, or None where another holds the lock. The content stays: it names the holder."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _forget() -> None:
    # A lock lives as long as any copy of its descriptor: a worker that outlives its parent would keep the folder.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        if text := path.read_text(encoding="utf-8", errors="replace").strip():
            return text[:100]
    return "unknown"
