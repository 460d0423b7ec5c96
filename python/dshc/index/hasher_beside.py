"""The hasher that lies beside the codes of an index, and whether it is still the one that they are of."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .manifest import Manifest

if TYPE_CHECKING:
    from ..hasher import Hasher

__all__ = ["FOLDER", "check", "load", "remove", "save"]

FOLDER = "hasher"


def save(path: Path, hasher: Hasher) -> str:
    """Save it in the folder of an index; returns the digest of its files."""
    hasher.save(path / FOLDER)
    return _digest(path / FOLDER)


def remove(path: Path) -> None:
    """Remove what a creation left that was cut off."""
    shutil.rmtree(path / FOLDER, ignore_errors=True)


def load(path: Path, manifest: Manifest) -> Hasher:
    """Load it, unchanged; :class:`InputError` where the index has none."""
    from ..hasher import Hasher

    check(path, manifest)
    return Hasher.load(path / FOLDER)


def check(path: Path, manifest: Manifest) -> None:
    """Raises :class:`InputError` where the index has no hasher, ``ValueError`` where it is another one now."""
    if not manifest.hasher:
        raise InputError(f"{path}: has no hasher; add codes, or create the index with one (hasher=...)")
    if _digest(path / FOLDER) != manifest.hasher:
        raise ValueError(f"{path / FOLDER}: damaged, or not the hasher that the index was created with")


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix in (".safetensors", ".json"):
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)} ".encode() + content)
    return digest.hexdigest()
