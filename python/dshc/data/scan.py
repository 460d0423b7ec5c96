"""Walks folders for images, and counts everything that is met and not read."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .image_fit import IMAGE_SUFFIXES, printable
from .reading import Reading

__all__ = ["Scan", "holds_images", "image_files", "some", "suffix_of"]

_SUFFIX = re.compile(r"\.[a-z0-9_+-]{1,12}")
_LOOKED_AT = 20_000  # files and opened folders: enough to find an image in any folder that is one of images


@dataclass
class Scan:
    """Counts of what several walks met beside images; see :class:`Reading` for the fields."""

    skipped: Counter[str] = field(default_factory=Counter)
    dangling: int = 0
    repeated: int = 0
    closed: int = 0
    special: int = 0

    def walk(self, folder: str, *, deep: bool = True) -> list[str]:
        """Image files below ``folder`` in the order of their path, hidden ones aside; ``deep``: at any depth.

        Links to files and to folders are followed; a folder that was reached before in the same walk, or that
        holds ``folder``, is passed over, so that loops end.
        """
        return list(self._images(folder, deep, _identities_above(folder)))

    def add(self, other: Scan) -> None:
        """Count what another walk met, too."""
        self.skipped += other.skipped
        for name in ("dangling", "repeated", "closed", "special"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def reading(self, n_read: int, **more: int) -> Reading:
        """The counts as a :class:`Reading`."""
        counts = {name: getattr(self, name) for name in ("dangling", "repeated", "closed", "special")}
        return Reading(n_read, dict(self.skipped), **counts, **more)

    def entries(self, folder: str) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
        """Folders and files of a folder, hidden ones aside, by name; the rest is counted."""
        try:
            with os.scandir(folder) as found:
                visible = sorted((e for e in found if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError:
            self.closed += 1
            return [], []
        folders, files = [], []
        for entry in visible:
            try:
                mode = "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
            except OSError:  # a link to itself
                mode = "other"
            if mode == "folder":
                folders.append(entry)
            elif mode == "file":
                files.append(entry)
            elif entry.is_symlink():
                self.dangling += 1
            else:
                self.special += 1
        return folders, files

    def images(self, files: list[os.DirEntry[str]]) -> list[str]:
        """The image files among these; the others are counted by suffix."""
        found = []
        for entry in files:
            suffix = suffix_of(entry.name)
            if suffix in IMAGE_SUFFIXES:
                found.append(entry.path)
            else:
                self.skipped[suffix] += 1
        return found

    def _images(self, folder: str, deep: bool, seen: set[tuple[int, int]]) -> Iterator[str]:
        key = _identity(folder)
        if key is None:
            self.closed += 1
            return
        if key in seen:
            self.repeated += 1
            return
        seen.add(key)
        folders, files = self.entries(folder)
        images = self.images(files)
        if not deep:
            yield from images
            return
        # A folder's images stand where its name does among its neighbours.
        names = [(path, None) for path in images] + [(None, entry) for entry in folders]
        for path, entry in sorted(names, key=lambda pair: os.path.basename(pair[0] or pair[1].path)):
            if path is not None:
                yield path
            else:
                yield from self._images(entry.path, True, seen)


def _identities_above(folder: str) -> set[tuple[int, int]]:
    """The folders that hold a folder, by the way it was reached and by where it really is."""
    above = {*Path(os.path.abspath(folder)).parents, *Path(os.path.realpath(folder)).parents}
    own = _identity(folder)  # which is above itself where it is a link to a folder that holds the link
    return {key for path in above if (key := _identity(path)) not in (None, own)}


def _identity(folder: str | Path) -> tuple[int, int] | None:
    """Device and number of a folder, equal for all links to it; None where it may not be looked at."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Image files at any depth, hidden ones aside, in the order of their path below ``folder``."""
    return [Path(path) for path in Scan().walk(os.fspath(folder))]


def holds_images(folder: str | os.PathLike[str]) -> bool:
    """Whether an image file is among the first files below ``folder``, links followed as by :class:`Scan`.

    Counted are files and the folders that were opened, so that folders side by side, however many, hide nothing.
    """
    base = os.fspath(folder)
    seen = _identities_above(base)
    waiting, looked_at = [base], 0
    while waiting and looked_at <= _LOOKED_AT:
        here = waiting.pop()
        key = _identity(here)
        if key is None or key in seen:
            continue
        seen.add(key)
        scan = Scan()
        folders, files = scan.entries(here)
        if scan.images(files):
            return True
        looked_at += 1 + len(files)
        waiting += [entry.path for entry in reversed(folders)]
    return False


def suffix_of(name: str) -> str:
    """The suffix of a file name in lower case, ``""`` where what stands behind the last dot is none."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def some(names: list[str] | tuple[str, ...] | set[str], shown: int = 5) -> str:
    """The first of several names, and how many more there are."""
    ordered = sorted(printable(name) for name in names)
    more = len(ordered) - shown
    return ", ".join(ordered[:shown]) + (f" and {more:,} more" if more > 0 else "")
