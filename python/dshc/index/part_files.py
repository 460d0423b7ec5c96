"""The files of a part: arrays as safetensors, metadata as Arrow. Written in one pass, never changed, read by mapping.

They may be larger than memory: columns are written block by block, and read where they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..storage.disk import Disk
from .manifest import PartFile

__all__ = ["Column", "map_arrays", "verify", "write_arrays", "write_file"]

_BLOCK = 16 << 20  # bytes that are read, hashed or written at a time
_LONGEST_HEADER = 1 << 20
_NAMES = {
    "uint8": "U8",
    "int8": "I8",
    "float16": "F16",
    "float32": "F32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
}
_DTYPES = {name: np.dtype(dtype) for dtype, name in _NAMES.items()}


@dataclass(frozen=True)
class Column:
    """An array that is yet to be written: ``blocks()`` gives its rows in order, in blocks of any length."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[np.ndarray]]

    @classmethod
    def of(cls, name: str, array: np.ndarray) -> Column:
        return cls(name, array.dtype.name, array.shape, lambda: (array,))

    @property
    def n_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def write_arrays(path: Path, columns: Sequence[Column], about: Mapping[str, str], disk: Disk) -> PartFile:
    """Write a safetensors file, synced but for its name; a failure leaves no file."""
    # Widest numbers first, as safetensors itself does: every array is then aligned.
    columns = sorted(columns, key=lambda column: (-np.dtype(column.dtype).itemsize, column.name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(about.items()))}
    start = 0
    for column in columns:
        stop = start + column.n_bytes
        header[column.name] = {
            "dtype": _NAMES[column.dtype],
            "shape": list(column.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)

    def pieces() -> Iterable[Any]:
        yield len(text).to_bytes(8, "little") + text
        for column in columns:
            left = column.n_bytes
            for block in column.blocks():
                block = np.ascontiguousarray(block, column.dtype)
                left -= block.nbytes
                if block.size:
                    yield block.reshape(-1).view(np.uint8)
            if left:
                raise AssertionError(f"{column.name}: {left} bytes are missing")

    return write_file(path, pieces(), disk)


def write_file(path: Path, pieces: Iterable[Any], disk: Disk) -> PartFile:
    """Write a file whose content comes in pieces, synced but for its name; a failure leaves no file."""
    digest, size = hashlib.sha256(), 0
    file = disk.new_file(path)
    try:
        for piece in pieces:
            view = memoryview(piece).cast("B")
            for start in range(0, len(view), _BLOCK):
                digest.update(view[start : start + _BLOCK])
                file.write(view[start : start + _BLOCK])
            size += len(view)
        file.sync()
    except BaseException:
        file.close()
        with suppress(OSError):
            disk.remove(path)
        raise
    file.close()
    return PartFile(path.name, size, digest.hexdigest())


def map_arrays(path: Path, expected: PartFile) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file as read-only maps, and what it says about itself. Nothing is read but its header.

    Raises ``FileNotFoundError``, or ``ValueError`` naming a file of another size or without a header that fits.
    """
    buffer = map_bytes(path, expected)
    try:
        length = int.from_bytes(buffer[:8].tobytes(), "little")
        if not 0 < length <= min(_LONGEST_HEADER, len(buffer) - 8):
            raise ValueError(f"its header has {length} bytes")
        header = json.loads(buffer[8 : 8 + length].tobytes())
        about = header.pop("__metadata__", {})
        data = buffer[8 + length :]
        arrays = {}
        for name, entry in header.items():
            start, stop = entry["data_offsets"]
            dtype = _DTYPES[entry["dtype"]]
            if not 0 <= start <= stop <= len(data):
                raise ValueError(f"{name} lies outside of it")
            arrays[name] = data[start:stop].view(dtype).reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    return arrays, about


def map_bytes(path: Path, expected: PartFile) -> np.ndarray:
    """The content of a file as a read-only map; ``ValueError`` where it has another size."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != expected.size:
            raise ValueError(f"{path}: damaged, it must have {expected.size} bytes, got {size}")
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def verify(folder: Path, file: PartFile, on_bytes: Callable[[int], None] | None = None) -> None:
    """Read a file and compare it with its checksum; ``on_bytes`` is told how many bytes each step was.

    Raises ``ValueError`` naming the file where it is damaged, ``FileNotFoundError`` where it is gone.
    """
    digest, path = hashlib.sha256(), folder / file.name
    with path.open("rb") as handle:
        if (size := os.fstat(handle.fileno()).st_size) != file.size:
            raise ValueError(f"{path}: damaged, it must have {file.size} bytes, got {size}")
        while block := handle.read(_BLOCK):
            digest.update(block)
            if on_bytes is not None:
                on_bytes(len(block))
    if digest.hexdigest() != file.sha256:
        raise ValueError(f"{path}: damaged, its content does not match its checksum")
