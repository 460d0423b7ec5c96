"""Arrays on disk: safetensors files that name what they hold and notice when they are damaged.

A file carries, beside its arrays, the kind of thing it is (``dshc.codebook/1``), free metadata and a SHA-256
over all of it. safetensors itself notices a file cut short, not a changed byte; weights with one changed byte
would load and be wrong in silence. Never a pickle, always written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from ..errors import InputError
from .whole_files import safetensors_bytes, write_whole

__all__ = ["load_arrays", "save_arrays"]

_KIND = "kind"
_CHECKSUM = "sha256"
_SCALARS = "scalars"


def save_arrays(
    path: str | os.PathLike[str], kind: str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> Path:
    """Write ``arrays`` and ``metadata`` as one file of the given ``kind``; equal content, equal bytes."""
    scalars = sorted(name for name, array in arrays.items() if array.ndim == 0)
    described = {**metadata, _KIND: kind, _SCALARS: json.dumps(scalars)}
    arrays = {name: np.atleast_1d(array) for name, array in arrays.items()}
    described[_CHECKSUM] = _checksum(arrays, described)
    return write_whole(path, safetensors_bytes(arrays, described))


def load_arrays(
    path: str | os.PathLike[str], kind: str, *, earlier: str | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a file that :func:`save_arrays` wrote; ``earlier`` is the kind it once had.

    Raises ``FileNotFoundError`` where there is none, and ``ValueError`` naming the file where it is of
    another kind or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged, or no safetensors file ({error})") from None
    if earlier is not None and metadata.get(_KIND) == earlier:
        raise InputError(
            f"{path}: written by an earlier version ({earlier}), which this one does not read; train again"
        )
    if metadata.get(_KIND) != kind:
        raise ValueError(f"{path}: must hold {kind!r}, got {metadata.get(_KIND)!r}")
    expected = metadata.pop(_CHECKSUM, None)
    if expected != _checksum(arrays, metadata):
        raise ValueError(f"{path}: damaged, its content does not match its checksum")
    for name in json.loads(metadata.pop(_SCALARS)):
        arrays[name] = arrays[name].reshape(())
    del metadata[_KIND]
    return arrays, metadata


def _checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    digest.update(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()
