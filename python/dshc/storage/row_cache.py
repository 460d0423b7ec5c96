"""Rows that are expensive to compute, kept on disk under a fingerprint of all that they depend on.

A matrix is written in order, some rows at a time, so that what was computed before an interruption is not computed
again. It is read through the page cache and never copied into memory as a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import InputError
from .folder_lock import folder_lock
from .whole_files import write_whole

__all__ = ["RowCache", "cache_folder", "open_rows"]

_ROWS, _DONE = "rows.npy", "done.json"


def cache_folder() -> Path:
    """Where caches lie: the variable ``DSHC_CACHE``, else ``dshc`` in the user's cache folder (XDG)."""
    if own := os.environ.get("DSHC_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dshc"


class RowCache:
    """A float32 matrix ``(n, d)`` that is being written in order; made by :func:`open_rows`.

    Attributes: ``rows``, the matrix (what is not written yet is undefined); ``n_done``, how many rows are there.
    """

    def __init__(
        self,
        rows: np.ndarray,
        n_done: int,
        folder: Path | None,
        parts: Sequence[tuple[int, str]] = (),
    ) -> None:
        self.rows, self.n_done = rows, n_done
        self._folder, self._parts = folder, list(parts)

    def append(self, part: np.ndarray) -> None:
        """Write the next rows; from here on a new start finds them."""
        stop = self.n_done + len(part)
        self.rows[self.n_done : stop] = part
        if self._folder is not None:
            self.rows.flush()
            self._parts.append((len(part), _checksum(part)))
            write_whole(self._folder / _DONE, json.dumps(self._parts))
        self.n_done = stop


@contextlib.contextmanager
def open_rows(kind: str, key: str, shape: tuple[int, int], *, keep: bool = True) -> Iterator[RowCache]:
    """The rows kept under ``kind`` and ``key``, or as many of them as were written; to be completed by ``append``.

    Parts whose checksum is not theirs are written anew. Where the cache folder cannot be written, or another process
    is writing the same rows, they go into a temporary file instead, with a warning; without one where they are not to
    be kept (``keep=False``: other processes of the same training, of which one writes).
    """
    folder = cache_folder() / kind / key
    with contextlib.ExitStack() as held:
        found = _open(folder, shape, "c")
        if found is None or found.n_done < shape[0]:
            found = _to_be_completed(folder, shape, held) if keep else RowCache(_temporary(shape), 0, None)
        yield found


def _to_be_completed(folder: Path, shape: tuple[int, int], held: contextlib.ExitStack) -> RowCache:
    try:
        held.enter_context(folder_lock(folder))
        if (found := _open(folder, shape, "r+")) is None:
            return _create(folder, shape)
        _reserve_all(folder / _ROWS)  # of a file that was cut short numpy has only moved the end
        return found
    except (InputError, OSError) as error:
        why = f"{error.filename or folder}: {error.strerror}" if isinstance(error, OSError) else str(error)
        warnings.warn(f"{folder.parent.name} are not kept for the next time ({why})", stacklevel=4)
        return RowCache(_temporary(shape), 0, None)


def _open(folder: Path, shape: tuple[int, int], mode: Literal["r+", "c"]) -> RowCache | None:
    """What lies in a folder, as far as its checksums are right; None where nothing of this shape does."""
    try:
        parts = [(int(count), str(checksum)) for count, checksum in json.loads((folder / _DONE).read_text())]
        rows = np.lib.format.open_memmap(folder / _ROWS, mode)
    except (OSError, ValueError, TypeError):
        return None
    if rows.shape != shape or rows.dtype != np.float32:
        return None
    done = 0
    for number, (count, checksum) in enumerate(parts):
        if _checksum(rows[done : done + count]) != checksum:
            return RowCache(rows, done, folder, parts[:number])
        done += count
    return RowCache(rows, done, folder, parts)


def _create(folder: Path, shape: tuple[int, int]) -> RowCache:
    (folder / _DONE).unlink(missing_ok=True)
    rows = np.lib.format.open_memmap(folder / _ROWS, "w+", np.float32, shape)
    _reserve_all(folder / _ROWS)
    return RowCache(rows, 0, folder)


def _temporary(shape: tuple[int, int]) -> np.ndarray:
    """A matrix in a file without a name; in memory where there is no room for one."""
    try:
        with tempfile.TemporaryFile() as file:
            _reserve(file.fileno(), 4 * shape[0] * shape[1])
            return np.memmap(file, np.float32, "r+", shape=shape)
    except OSError:
        return np.empty(shape, np.float32)


def _reserve_all(path: Path) -> None:
    with path.open("r+b") as file:
        _reserve(file.fileno(), os.fstat(file.fileno()).st_size)


def _reserve(descriptor: int, size: int) -> None:
    # A mapped file without room on its disk would kill the process at a later write.
    os.posix_fallocate(descriptor, 0, size)


def _checksum(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows)).hexdigest()[:16]
