"""What a change of an index writes before it is published: a new part, lists of removed rows, and the manifest of all.

Parts are merged as they come, so that there are never many: a new one swallows the smaller ones before it, and the
eighth of about a size swallows the seven. An item is written again once or twice for each factor of eight in the number
of items, whatever the sizes of the additions.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..storage.disk import Disk
from .layout import Layout
from .manifest import Manifest, Part
from .new_items import NewItems
from .part_files import verify
from .parts import OpenPart, write_part, write_removed

__all__ = ["Change", "changed", "compacted", "merged", "n_swallowed", "remove_left_overs"]

_SMALLEST = 1024
"""Parts of fewer items count as one size."""
_OF_A_SIZE = 8
"""So many parts of about a size become one; a size is so many times the one below."""


@dataclass(frozen=True)
class Change:
    """A manifest that is yet to be published, and the files that were written for it."""

    manifest: Manifest
    files: list[Path] = field(default_factory=list)

    def undo(self, disk: Disk) -> None:
        for path in self.files:
            with contextlib.suppress(OSError):
                disk.remove(path)


def changed(
    folder: Path,
    manifest: Manifest,
    parts: Sequence[OpenPart],
    items: NewItems | None,
    removed: Mapping[int, np.ndarray],
    disk: Disk,
) -> Change:
    """``items`` added behind the parts, without the rows ``removed`` by the number of their part."""
    sources: Sequence[OpenPart | NewItems] = [] if items is None else [items]
    return _changed(folder, manifest, parts, sources, removed, disk)


def merged(
    folder: Path, manifest: Manifest, parts: Sequence[OpenPart], others: Sequence[OpenPart], disk: Disk
) -> Change:
    """All items of ``others`` added behind the parts."""
    for part in others:
        _verify(part)
    return _changed(folder, manifest, parts, [part for part in others if len(part)], {}, disk)


def compacted(folder: Path, manifest: Manifest, parts: Sequence[OpenPart], disk: Disk) -> Change:
    """All items in one part, or in none where there are none."""
    for part in parts:
        _verify(part)
    change = Change(manifest, [])
    with _undone_on_failure(change, disk):
        new = (
            _write(folder, _name(manifest), list(parts), manifest.layout, change, disk)
            if len(manifest)
            else []
        )
        disk.sync_folder(folder)
    return Change(manifest.changed(parts=tuple(new)), change.files)


def n_swallowed(sizes: Sequence[int], n_new: int) -> int:
    """How many of the last parts, which have these numbers of items, become one with ``n_new`` items behind them.

    >>> n_swallowed([70000, 9000, 40, 3], 1), n_swallowed([70000, 9000, 40, 3], 9000), n_swallowed([5] * 7, 5)
    (0, 2, 7)
    """
    swallowed, total = 0, n_new
    while True:
        before = swallowed
        left = sizes[: len(sizes) - swallowed]
        size = _size(total)
        smaller = _last(left, range(size))
        alike = _last(left[: len(left) - smaller], (size,))
        swallowed += smaller + (alike if alike >= _OF_A_SIZE - 1 else 0)
        if swallowed == before:
            return swallowed
        total = n_new + sum(sizes[len(sizes) - swallowed :])


def remove_left_overs(folder: Path, manifest: Manifest, disk: Disk) -> None:
    """Remove the files of changes that were cut off, and of parts that the last writer could not remove."""
    wanted = {file.name for part in manifest.parts for file in part.files}
    for path in sorted(folder.iterdir()):
        if path.name not in wanted and path.name[:10].isdigit():
            disk.remove(path)


def _changed(
    folder: Path,
    manifest: Manifest,
    parts: Sequence[OpenPart],
    sources: Sequence[OpenPart | NewItems],
    removed: Mapping[int, np.ndarray],
    disk: Disk,
) -> Change:
    name = _name(manifest)
    kept = []  # the parts of which something stays, without what is removed now
    for number, part in enumerate(parts):
        left = _without(part, removed[number]) if number in removed else part
        if len(left.removed) < left.part.n_items:
            kept.append(left)
    n_new = sum(
        len(source.ids) - (len(source.removed) if isinstance(source, OpenPart) else 0) for source in sources
    )
    first = len(kept)
    if n_new:
        first -= n_swallowed([part.part.n_items - len(part.removed) for part in kept], n_new)
    change = Change(manifest, [])
    with _undone_on_failure(change, disk):
        entries = [_entry(folder, name, part, change, disk) for part in kept[:first]]
        if n_new:
            for part in kept[first:]:
                _verify(part)
            entries += _write(folder, name, [*kept[first:], *sources], manifest.layout, change, disk)
        if change.files:
            disk.sync_folder(folder)
    next_id = max([manifest.next_id, *(_next_id(source) for source in sources)])
    return Change(manifest.changed(parts=tuple(entries), next_id=next_id), change.files)


@contextlib.contextmanager
def _undone_on_failure(change: Change, disk: Disk) -> Iterator[None]:
    try:
        yield
    except BaseException:
        change.undo(disk)
        raise


def _write(
    folder: Path,
    name: str,
    sources: Sequence[OpenPart | NewItems],
    layout: Layout,
    change: Change,
    disk: Disk,
) -> list[Part]:
    part = write_part(folder, name, sources, layout, disk)
    change.files.extend(folder / file.name for file in part.files)
    return [part]


def _entry(folder: Path, name: str, part: OpenPart, change: Change, disk: Disk) -> Part:
    """The entry of a part that stays, with a new list of its removed rows if there are more of them now."""
    if len(part.removed) == part.part.n_removed:
        return part.part
    file = write_removed(folder, f"{part.part.name}-removed-{name}", part.removed, disk)
    change.files.append(folder / file.name)
    old = part.part
    return Part(old.name, old.n_items, old.arrays, old.metadata, file, len(part.removed))


def _without(part: OpenPart, rows: np.ndarray) -> OpenPart:
    left = copy.copy(part)
    left.__dict__.pop("is_live", None)
    left.removed = np.union1d(part.removed, rows)
    return left


def _verify(part: OpenPart) -> None:
    """What is copied is looked at first: a damaged part must not become a sound one."""
    for file in part.part.files:
        verify(part.folder, file)


def _next_id(source: OpenPart | NewItems) -> int:
    """The integer behind all ids of a source; 0 for texts."""
    n = len(source.ids)
    if not n or source.ids.keys(0, 0).dtype != np.int64:
        return 0
    return min(int(source.ids.keys(n - 1, n)[0]) + 1, np.iinfo(np.int64).max)


def _name(manifest: Manifest) -> str:
    return f"{manifest.commit + 1:010d}"


def _size(n_items: int) -> int:
    size, top = 0, _SMALLEST
    while n_items >= top:
        size, top = size + 1, top * _OF_A_SIZE
    return size


def _last(n_items: Sequence[int], sizes: Sequence[int]) -> int:
    """How many of the last parts, by their numbers of items, are of one of these sizes."""
    n = 0
    while n < len(n_items) and _size(n_items[len(n_items) - 1 - n]) in sizes:
        n += 1
    return n
