"""Which shards there are, and in which order: a folder, or a JSON list."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..index.manifest import MANIFEST
from ..runs.encoding import is_code_file
from ..storage.whole_files import write_whole
from .shard import ShardFacts

__all__ = ["LIST", "ListedShard", "check_alike", "is_shard_list", "read_shards", "write_shards"]

LIST = "shards.json"


@dataclass(frozen=True)
class ListedShard:
    """A shard by its absolute path, and how many items it must have; None: whatever it has."""

    path: str
    n_items: int | None = None


def is_shard_list(path: Path) -> bool:
    """Whether a path names shards, rather than a run, one index or a code file."""
    return path.suffix == ".json" or (path.is_dir() and ((path / LIST).is_file() or bool(_in_folder(path))))


def read_shards(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> tuple[ListedShard, ...]:
    """The shards that ``source`` names, in their order.

    Args:
        source: paths of code files and folders of indexes; or a JSON file that lists them (paths are relative to it),
            each a text or ``{"path": ..., "place": 0, "n_items": ...}``, where the places, given for all or for none,
            count from 0; or a folder: by its ``shards.json``, or else all code files and indexes in it by their names.

    Raises:
        FileNotFoundError: the folder or file is not there.
        InputError: no shards, one twice, or a list that cannot be read; it is named.
    """
    if not isinstance(source, (str, os.PathLike)):
        found = [ListedShard(os.path.abspath(path)) for path in source]
        return _checked(found, "shards")
    path = Path(source)
    if path.is_dir():
        if (path / LIST).is_file():
            return _of_list(path / LIST)
        if (path / MANIFEST).is_file():
            return (ListedShard(os.path.abspath(path)),)
        return _checked([ListedShard(os.path.abspath(one)) for one in _in_folder(path)], str(path))
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.suffix == ".json":
        return _of_list(path)
    return (ListedShard(os.path.abspath(path)),)


def write_shards(folder: Path, shards: Sequence[tuple[str, int]], about: dict[str, Any]) -> Path:
    """Write the list of a folder: name and number of items of each shard, and what else is known of them."""
    rows = [{"path": name, "n_items": n_items} for name, n_items in shards]
    text = json.dumps({**about, "shards": rows}, ensure_ascii=False, indent=1)
    return write_whole(folder / LIST, text + "\n")


def check_alike(shards: Sequence[ShardFacts]) -> None:
    """Refuse shards whose codes cannot be ranked together; :class:`InputError` names the two."""
    first = shards[0]
    for other in shards[1:]:
        for name, what in (("n_bits", "bits"), ("score", "score")):
            one, two = getattr(first, name), getattr(other, name)
            if one != two:
                raise InputError(f"{other.path}: must have the {what} of {first.path}, {one}, got {two}")
        for name, what in (("model", "codes of the model"), ("class_names", "classes")):
            known = next((shard for shard in shards if getattr(shard, name)), first)
            one, two = getattr(known, name), getattr(other, name)
            if two and one != two:
                raise InputError(f"{other.path}: must have the {what} of {known.path}, it has others")


def _of_list(path: Path) -> tuple[ListedShard, ...]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: must be a JSON list of shards, it cannot be read ({error})") from None
    rows = content.get("shards") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise InputError(
            f"{path}: must be a JSON list of shards, or an object with one, got {type(rows).__name__}"
        )
    rows = [{"path": row} if isinstance(row, str) else row for row in rows]
    for row in rows:
        sizes = [row.get(name, 0) for name in ("place", "n_items")] if isinstance(row, dict) else [None]
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("path"), str)
            or not all(map(_is_count, sizes))
        ):
            raise InputError(
                f"{path}: each shard must be a path, or have a path and whole numbers as place and n_items, got "
                f"{json.dumps(row)}"
            )
    placed = [row["place"] for row in rows if "place" in row]
    if placed:
        if sorted(placed) != list(range(len(rows))):
            raise InputError(f"{path}: places must be 0 to {len(rows) - 1}, each once, got {placed}")
        rows.sort(key=lambda row: row["place"])
    folder = os.path.abspath(path.parent)
    return _checked(
        [
            ListedShard(os.path.normpath(os.path.join(folder, row["path"])), row.get("n_items"))
            for row in rows
        ],
        str(path),
    )


def _in_folder(folder: Path) -> list[Path]:
    return [
        one
        for one in sorted(folder.iterdir())
        if not one.name.startswith(".") and ((one / MANIFEST).is_file() or is_code_file(one))
    ]


def _checked(shards: list[ListedShard], where: str) -> tuple[ListedShard, ...]:
    if not shards:
        raise InputError(f"{where}: must name at least one shard (a code file or an index), got none")
    seen: dict[str, str] = {}
    for shard in shards:
        place = os.path.realpath(shard.path)  # a link is no other shard
        if place in seen:
            also = "" if seen[place] == shard.path else f" (as {seen[place]}, too)"
            raise InputError(f"{where}: must name each shard once, got {shard.path} twice{also}")
        seen[place] = shard.path
    return tuple(shards)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
