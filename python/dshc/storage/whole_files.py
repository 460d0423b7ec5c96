"""Files that are written whole or not at all.

Every file of the program goes through :func:`write_whole`: the bytes land in a temporary file of the same
folder, are flushed to the disk and take the final name in one step, so that a reader, a full disk or a kill
never meets half a file. What a library writes itself goes through :func:`written_whole`.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

__all__ = ["check_can_write", "remove_left_overs", "safetensors_bytes", "write_whole", "written_whole"]

_SUFFIX = ".tmp"
_LONG_NAME = 200  # bytes, of the 255 that file systems take


def write_whole(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write ``data`` (text is encoded as UTF-8) to ``path`` atomically, making missing folders; returns the
    path.

    Raises ``OSError`` naming ``path`` where it cannot be written; what stood there before is then untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write_and_rename(path, data)
    except OSError as error:  # which may name the temporary file: nobody asked for that one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    return path


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """For libraries that write files by name: yields a new path, whose file takes the name ``path`` on leaving.

    Until then it lies in a folder of its own beside ``path``, with whatever the library puts next to it. Where the
    body fails, the folder is removed, and so are folders that were made for ``path``; what stood there before is
    untouched. An ``OSError`` names ``path``.
    """
    path = Path(path)
    made = [folder for folder in path.absolute().parents if not folder.exists()]  # the deepest first
    folder = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path), suffix=_SUFFIX))
        temporary = folder / path.name
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
        made = []
    except OSError as error:  # which may name the temporary file: nobody asked for that one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for one in made:
            with contextlib.suppress(OSError):
                one.rmdir()


def check_can_write(path: str | os.PathLike[str]) -> None:
    """Find out whether :func:`write_whole` could write ``path``, before the work that is to be written; leaves nothing.

    Raises ``OSError`` naming ``path`` where its folder, or that in which it would be made, takes no new file.
    """
    folder = Path(path).absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=_prefix(Path(path)), suffix=_SUFFIX):
            with contextlib.suppress(FileNotFoundError):  # any other error is of the name
                os.lstat(folder / Path(path).name)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def remove_left_overs(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files that killed writes of ``path`` left, and no other file."""
    path = Path(path)
    for left_over in path.parent.glob(f"{glob.escape(_prefix(path))}*{_SUFFIX}"):
        left_over.unlink()


def _prefix(path: Path) -> str:
    """How the temporary files of ``path`` begin: by its name, or by a short one for it where that leaves no room."""
    name = os.fsencode(path.name)
    return f".{path.name}." if len(name) <= _LONG_NAME else f".{hashlib.sha256(name).hexdigest()[:32]}."


def _write_and_rename(path: Path, data: bytes | str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=_SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private to its owner; a result file follows the user's umask like any other.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Flush the folder too: a file whose name is lost with the power is as good as not written."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def safetensors_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file whose header is in a fixed order: equal content gives equal bytes.

    ``safetensors`` writes the metadata in hash order, which differs from run to run; sorting it keeps the
    length.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    raw = safetensors.numpy.save(contiguous, metadata=dict(metadata))
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw[8 + size :]
