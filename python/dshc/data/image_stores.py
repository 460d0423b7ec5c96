"""Where images lie that are decoded when they are asked for: in files, or one behind the other in one file."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from ..storage import cache_folder
from .image_fit import printable, refuse_special

__all__ = ["FileStore", "PackedStore"]


class FileStore:
    """Paths of image files, held as one block of bytes: 100,000 of them take a few MiB."""

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        names = [os.fsencode(path) for path in paths]
        self._starts = np.concatenate([[0], np.cumsum([len(name) for name in names], dtype=np.int64)])
        self._names = b"".join(names)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def open(self, i: int) -> str:
        """What Pillow opens: the path of item ``i``."""
        return os.fsdecode(self._names[self._starts[i] : self._starts[i + 1]])

    name = open

    @property
    def paths(self) -> Sequence[Path]:
        """The files; each ``Path`` is made when it is asked for."""
        return _Paths(self)

    def take(self, rows: np.ndarray) -> FileStore:
        """The files of these rows."""
        return FileStore(self.open(int(row)) for row in rows)

    def sha256(self, i: int) -> bytes:
        """Digest of the bytes of item ``i``. Raises ``ValueError`` naming a file that cannot be read."""
        try:
            refuse_special(self.open(i))
            with open(self.open(i), "rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise ValueError(f"{printable(self.name(i))}: cannot be read ({error.strerror})") from None


class _Paths(Sequence[Path]):
    def __init__(self, store: FileStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return tuple(self[j] for j in range(*i.indices(len(self))))
        return Path(self._store.open(range(len(self))[i]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None


class PackedStore:
    """Encoded images one behind the other in one file: those of a Parquet file, whose rows cannot be read singly.

    ``file``: where they lie, which ends with the last store of it; ``starts``, ``sizes``: int64 ``(n,)``, where each
    image lies in it; ``origin``, ``rows``: what errors call them.
    """

    paths: Sequence[Path] = ()

    def __init__(
        self, file: _Nameless, starts: np.ndarray, sizes: np.ndarray, origin: str, rows: np.ndarray
    ) -> None:
        self._file, self._starts, self._sizes, self._origin, self._rows = file, starts, sizes, origin, rows

    @classmethod
    def write(cls, images: Iterable[bytes], *, origin: str) -> PackedStore:
        """Write the images to a file without a name in the cache folder, or else where temporary files lie."""
        try:
            with _temporary_file() as file:
                kept = _Nameless(os.dup(file.fileno()))
                sizes = np.array([file.write(image) for image in images], np.int64)
        except OSError as error:
            raise ValueError(
                f"{origin}: its images must be kept on disk and cannot be ({error.strerror}); the variable DSHC_CACHE "
                "names a folder with room for them"
            ) from None
        return cls(kept, np.cumsum(sizes) - sizes, sizes, origin, np.arange(len(sizes)))

    def __len__(self) -> int:
        return len(self._starts)

    def open(self, i: int) -> BinaryIO:
        """What Pillow opens: the bytes of item ``i``."""
        return io.BytesIO(self._bytes(i))

    def name(self, i: int) -> str:
        """What errors call item ``i``."""
        return f"{self._origin}: row {self._rows[i]}"

    def take(self, rows: np.ndarray) -> PackedStore:
        """The images of these rows."""
        return PackedStore(self._file, self._starts[rows], self._sizes[rows], self._origin, self._rows[rows])

    def sha256(self, i: int) -> bytes:
        """Digest of the bytes of item ``i``."""
        return hashlib.sha256(self._bytes(i)).digest()

    def _bytes(self, i: int) -> bytes:
        return os.pread(self._file.descriptor, int(self._sizes[i]), int(self._starts[i]))


class _Nameless:
    """An open file without a name: it is gone when nobody holds it any more, however the processes end.

    Pickled, it is opened again by way of the process that holds it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor).atexit = False  # threads may read until the very end

    @property
    def identity(self) -> tuple[int, int]:
        """Device and number of the file."""
        status = os.fstat(self.descriptor)
        return status.st_dev, status.st_ino

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_again, (os.getpid(), self.descriptor, self.identity)


def _opened_again(owner: int, descriptor: int, identity: tuple[int, int]) -> _Nameless:
    gone = ValueError(
        f"images must still be held by the process that kept them ({owner}), got another process"
    )
    try:
        found = _Nameless(os.open(f"/proc/{owner}/fd/{descriptor}", os.O_RDONLY))
    except OSError:
        raise gone from None
    if found.identity != identity:  # what was opened since under the same number
        raise gone
    return found


def _temporary_file() -> IO[bytes]:
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
    except (OSError, RuntimeError):  # a home that may not be written, or none
        return tempfile.TemporaryFile()
