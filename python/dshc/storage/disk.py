"""The few things that files which must survive a crash ask of the disk, each a call that a test can stand in for.

What is written is certain only once it is synced: the content of a file by :meth:`NewFile.sync`, its name by
:meth:`Disk.sync_folder`. Before, a power cut may leave any part of it, in any order.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["Disk", "NewFile"]


class NewFile:
    """A file that is being written from its beginning; one of this name that was there is emptied."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def write(self, data: Any) -> None:
        """Append bytes, or anything with a contiguous buffer."""
        left = memoryview(data).cast("B")
        while len(left):
            left = left[os.write(self._descriptor, left) :]

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Disk:
    """The real one."""

    def new_file(self, path: Path) -> NewFile:
        return NewFile(path)

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync_folder(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
