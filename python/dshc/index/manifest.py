"""``index.json``: which files an index consists of. It is replaced in one step: all of a change is there, or none.

A file that it does not name is no part of the index: what a killed writer left, or what a reader may still hold open.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage.disk import Disk
from .layout import Layout

__all__ = ["MANIFEST", "PartFile", "Part", "Manifest", "read_manifest", "write_manifest"]

MANIFEST = "index.json"
FORMAT = 1
_TEMPORARY = "index.json.tmp"


@dataclass(frozen=True)
class PartFile:
    """A file of a part: its name in ``parts/``, its size in bytes and the SHA-256 of its content."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """Items that were written together, in the order of the index.

    Fields: ``name``; ``n_items``, removed ones included; ``arrays``, their file; ``metadata``, the file of their
    metadata; ``removed``, the file of the rows that were removed, and ``n_removed``, how many.
    """

    name: str
    n_items: int
    arrays: PartFile
    metadata: PartFile | None = None
    removed: PartFile | None = None
    n_removed: int = 0

    @property
    def n_live(self) -> int:
        return self.n_items - self.n_removed

    @property
    def files(self) -> tuple[PartFile, ...]:
        return tuple(file for file in (self.arrays, self.metadata, self.removed) if file is not None)


@dataclass(frozen=True)
class Manifest:
    """The state of an index after ``commit`` changes.

    ``next_id``: the id of the next item that brings none. ``precision``: of ``calibrate``, the share of relevant items
    within each radius; empty: not known. ``hasher``: SHA-256 of the weights of the hasher beside it, or empty.
    """

    layout: Layout
    commit: int = 0
    parts: tuple[Part, ...] = ()
    next_id: int = 0
    precision: tuple[float, ...] = ()
    hasher: str = ""

    def __len__(self) -> int:
        return sum(part.n_live for part in self.parts)

    def changed(self, **fields: Any) -> Manifest:
        return replace(self, commit=self.commit + 1, **fields)


def write_manifest(folder: Path, manifest: Manifest, disk: Disk) -> None:
    """Replace the manifest; when this returns the change survives a power cut."""
    content = _content(manifest)
    text = json.dumps({**content, "sha256": _checksum(content)}, ensure_ascii=False, indent=1)
    temporary = folder / _TEMPORARY
    file = disk.new_file(temporary)
    try:
        file.write(text.encode())
        file.sync()
    finally:
        file.close()
    disk.replace(temporary, folder / MANIFEST)
    disk.sync_folder(folder)


def read_manifest(folder: Path) -> Manifest:
    """Read it and check it.

    Raises ``FileNotFoundError`` where the folder holds no index, :class:`InputError` for one that a newer version
    wrote, ``ValueError`` for a damaged one; each names the file.
    """
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{folder}: must be a code index (a folder with {MANIFEST}), got none"
        ) from None
    try:
        content = json.loads(raw)
        if content["format"] > FORMAT:
            raise InputError(
                f"{path}: was written by a newer version (format {content['format']}), this one reads up to format "
                f"{FORMAT}; upgrade dshc-fast"
            )
        expected = content.pop("sha256")
        if expected != _checksum(content):
            raise ValueError("its content does not match its checksum")
        return _manifest(content)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: damaged, or no index ({why})") from None


def _content(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": "dshc.index",
        "bit_order": "little",
        "layout": manifest.layout.to_dict(),
        "commit": manifest.commit,
        "next_id": manifest.next_id,
        "precision": [None if value != value else value for value in manifest.precision],  # JSON has no NaN
        "hasher": manifest.hasher,
        "parts": [
            {
                "name": part.name,
                "n_items": part.n_items,
                "n_removed": part.n_removed,
                **{
                    name: None if file is None else [file.name, file.size, file.sha256]
                    for name in ("arrays", "metadata", "removed")
                    for file in [getattr(part, name)]
                },
            }
            for part in manifest.parts
        ],
    }


def _manifest(content: Mapping[str, Any]) -> Manifest:
    if content["kind"] != "dshc.index" or content["bit_order"] != "little":
        raise ValueError(f"it holds {content['kind']!r} in bit order {content['bit_order']!r}")
    parts = tuple(
        Part(
            name=part["name"],
            n_items=part["n_items"],
            n_removed=part["n_removed"],
            **{
                name: None if part[name] is None else PartFile(*part[name])
                for name in ("arrays", "metadata", "removed")
            },
        )
        for part in content["parts"]
    )
    return Manifest(
        layout=Layout.from_dict(content["layout"]),
        commit=content["commit"],
        parts=parts,
        next_id=content["next_id"],
        precision=tuple(float("nan") if value is None else value for value in content["precision"]),
        hasher=content["hasher"],
    )


def _checksum(content: Mapping[str, Any]) -> str:
    # Lists and tuples are the same here, and the text is that of what a reader parses.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
